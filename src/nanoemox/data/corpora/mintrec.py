"""MIntRec and MIntRec2.0: intents in television dialogue (research only).

Supported releases: the original ``train/dev/test.tsv``; or the authors' JSON, whose training file also contains most
development clips, with MMLA's lists of development and test clips. A held-out clip of any list is never a training
sample. Reference: the authors trained on the development clips; recipes set ``merge_validation``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.messages import SAID as SAID
from nanoemox.data.corpora.messages import Message, read_messages, read_mmla
from nanoemox.data.corpora.releases import Clips, find, find_or_none, match_label, read_table
from nanoemox.data.manifest import Sample, Split
from nanoemox.tasks import LABEL_SETS, MIR, format_label

_SPELT: Final[Mapping[str, str]] = {
    "ask help": "ask for help", "apologize": "apologise", "criticise": "criticize",
    "ask for opinions": "asking for opinions", "emphasise": "emphasize",
}  # fmt: skip
_RAW: Final = "raw_data/"
_TSV: Final[tuple[tuple[str, Split], ...]] = (("train", "train"), ("dev", "validation"), ("test", "test"))


@dataclass(frozen=True, slots=True)
class _Layout:
    """File names of one of the two corpora.

    Attributes:
        corpus: Our name.
        authors: ``NAME`` of the authors' ``train_NAME_ann.json``.
        mmla: MMLA's name.
        folder: Folder of the release's in-scope tables.
        key: From a row of its tables to the clip's name and the path of its video.
    """

    corpus: str
    authors: str
    mmla: str
    folder: str
    key: Callable[[Mapping[str, str]], tuple[str, str]]


def _first_key(row: Mapping[str, str]) -> tuple[str, str]:
    season, episode, clip = row["season"], row["episode"], row["clip"]
    return f"{season}_{episode}_{clip}", f"{_RAW}{season}/{episode}/{clip}.mp4"


def _second_key(row: Mapping[str, str]) -> tuple[str, str]:
    name = f"dia{row['dialogue_id']}_utt{row['utterance_id']}"
    return name, f"{_RAW}{name}.mp4"


_FIRST: Final = _Layout("mintrec", "MIntRec", "MIntRec", "MIntRec", _first_key)
_SECOND: Final = _Layout("mintrec2", "MIntRec2", "MIntRec2.0", "in-scope_data", _second_key)


def read(root: Path) -> list[Sample]:
    """Return MIntRec."""
    return _read(root, _FIRST)


def read_second(root: Path) -> list[Sample]:
    """Return the in-scope utterances of MIntRec2.0."""
    return _read(root, _SECOND)


def clip_name(path: str) -> str:
    """Return the corpus' own name of a clip (``MIntRec2.0_3_1.mp4`` is ``dia3_utt1``)."""
    stem = re.sub(r"\.(mp4|avi|mkv)$", "", path.replace("\\", "/").rsplit("/", 1)[-1])
    second = re.fullmatch(r"MIntRec2\.0_(\d+)_(\d+)", stem)
    return f"dia{second[1]}_utt{second[2]}" if second else stem.removeprefix("MIntRec_")


def _read(root: Path, layout: _Layout) -> list[Sample]:
    tables = find_or_none(root, "train.tsv", f"{layout.folder}/train.tsv", "in-scope/train.tsv")
    listed = _listed(root, layout) if tables is None else _tabled(tables.parent, layout)
    clips = Clips(root, "video/{name}.mp4")
    out: dict[str, Sample] = {}
    for split, message in listed:
        sample = _sample(layout.corpus, split, message, clips)
        out.setdefault(sample.id, sample)  # held-out lists come first
    return list(out.values())


def _tabled(folder: Path, layout: _Layout) -> Iterator[tuple[Split, Message]]:
    """Read the release's tables without out-of-scope utterances."""
    for stem, split in _TSV:
        for row in read_table(find(folder, f"{stem}.tsv"), "text", "label"):
            if format_label(row["label"]) not in {"uncertain", "unk", "oos"}:
                name, place = layout.key(row)
                yield split, Message(name, place, row["text"], row["label"])


def _listed(root: Path, layout: _Layout) -> Iterator[tuple[Split, Message]]:
    """Read third-party lists: development, training, test."""

    def authors(part: str) -> tuple[str, ...]:
        file = f"{part}_{layout.authors}_ann.json"
        return file, f"mintrec/{file}", f"{layout.authors}/{file}"

    development = f"{layout.mmla}_dev_intent_llamafactory.json"
    lists = (
        ("validation", find_or_none(root, development, f"mmla/{development}")),
        ("train", find(root, *authors("train"))),
        ("test", find_or_none(root, f"mmla/swift/{layout.mmla}/test.jsonl", *authors("test"))),
    )
    for split, path in lists:
        if path is not None:
            for message in read_messages(path) if path.name.endswith("_ann.json") else read_mmla(path):
                yield split, message  # type: ignore[misc]


def _sample(corpus: str, split: Split, message: Message, clips: Clips) -> Sample:
    candidates = LABEL_SETS[corpus]
    name, spelt = clip_name(message.name), format_label(message.answer)
    label = match_label(_SPELT.get(spelt, spelt), candidates, f"{corpus}: clip {name}")
    media = clips.path(name, message.name)
    if message.path.startswith(_RAW):
        media = clips.at(message.path, media)
    source = Source(id=name, corpus=corpus, split=split, media=media, subtitle=message.text.strip())
    return source.closed(MIR.key, label, candidates)
