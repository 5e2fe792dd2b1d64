"""EmpatheticDialogues: conversations about an emotional situation (CC BY-NC 4.0).

The first turn has one of 32 emotions; every turn of the listener is a target reply. Cause and goal are not annotated,
so replies have no chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import find, find_or_none, match_label, read_text
from nanoemox.data.manifest import ReplyLabels, Sample, Split
from nanoemox.tasks import ERG, LABEL_SETS, MER
from nanoemox.types import RecipeError, Turn

LABELS: Final = LABEL_SETS["avamerg"]
"""AvaMERG uses the 32 labels of this corpus."""
_FILES: Final[tuple[tuple[str, Split], ...]] = (("train", "train"), ("valid", "validation"), ("test", "test"))
_TALK, _CONTEXT, _SAID = 0, 2, 5
_FIELDS: Final = 8
_SPEAKER, _LISTENER = "speaker", "listener"


def read(root: Path) -> list[Sample]:
    """Return the samples of all conversations."""
    found = [(split, find_or_none(root, f"{part}.csv", f"empatheticdialogues/{part}.csv")) for part, split in _FILES]
    if not any(path for _, path in found):
        find(root, "train.csv", "empatheticdialogues/train.csv")
    out: list[Sample] = []
    for split, path in found:
        for talk, feeling, turns in _talks(path) if path else ():
            out += _samples(talk, match_label(feeling, LABELS, f"{path}: {talk}"), turns, split)
    return out


def _talks(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield key, emotion and turns. Not CSV: commas are written ``_comma_``, and quotes are not escaped."""
    key, feeling, turns = "", "", list[str]()
    for number, line in enumerate(read_text(path).split("\n")[1:], 2):
        fields = line.split(",")
        if not line.strip():
            continue
        if len(fields) < _FIELDS - 1:
            raise RecipeError(f"{path}:{number}: {len(fields)} fields, not {_FIELDS}; download it again")
        if fields[_TALK] != key and turns:
            yield key, feeling, turns
            turns = []
        key, feeling = fields[_TALK], fields[_CONTEXT]
        turns.append(" ".join(fields[_SAID].replace("_comma_", ",").split()))
    if turns:
        yield key, feeling, turns


def _samples(talk: str, feeling: str, turns: list[str], split: Split) -> list[Sample]:
    first = Source(id=talk, corpus="empathetic_dialogues", split=split, subtitle=turns[0])
    out = [first.closed(MER.key, feeling, LABELS)] if turns[0] else []
    for i in range(1, len(turns), 2):
        said, reply = turns[i - 1], turns[i]
        if said and reply:
            history = tuple(
                Turn(role=_LISTENER if n % 2 else _SPEAKER, text=text) for n, text in enumerate(turns[: i - 1])
            )
            source = Source(
                id=f"{talk}-{i}", corpus="empathetic_dialogues", split=split, subtitle=said, history=history
            )  # fmt: skip
            out.append(source.sample(ERG.key, ReplyLabels(reply=reply)))
    return out
