"""MIntRec and MIntRec2.0: intents in television dialogue (research only); the words, as no clip is at hand.

The authors trained on the development clips; here every clip of MMLA's development lists validates and never trains.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from nanoemox.data.manifest import ClosedLabels, Sample, Split
from nanoemox.tasks import LABEL_SETS, format_label
from nanoemox.types import RecipeError

SAID = re.compile(r"the speaker says: (?P<text>.*?)\.? Based on the text", re.DOTALL)
_DEV: Final = Path("annotations/mmla")
_TRAIN: Final = Path("annotations/mintrec")


def read(data_root: Path) -> list[Sample]:
    """Return MIntRec: training clips outside the development list, and that list to validate."""
    return _read(data_root, "mintrec", "train_MIntRec_ann.json", "MIntRec_dev_intent_llamafactory.json")


def read_second(data_root: Path) -> list[Sample]:
    """Return MIntRec2.0 in the same way."""
    return _read(data_root, "mintrec2", "train_MIntRec2_ann.json", "MIntRec2.0_dev_intent_llamafactory.json")


def clip_name(path: str) -> str:
    """Return the corpus' own name of a clip, whoever listed it (``MIntRec2.0_3_1.mp4`` is ``dia3_utt1``)."""
    stem = re.sub(r"\.(mp4|avi|mkv)$", "", path.replace("\\", "/").rsplit("/", 1)[-1])
    second = re.fullmatch(r"MIntRec2\.0_(\d+)_(\d+)", stem)
    return f"dia{second[1]}_utt{second[2]}" if second else stem.removeprefix("MIntRec_")


def _read(data_root: Path, corpus: str, train: str, dev: str) -> list[Sample]:
    candidates = LABEL_SETS[corpus]
    held: dict[str, Sample] = {}
    for row in json.loads((data_root / _DEV / dev).read_text("utf-8")):
        said = SAID.search(row["conversations"][0]["value"])
        answer = row["conversations"][1]["value"].split(":", 1)[-1]
        name = clip_name(row["videos"][0])
        held[name] = _sample(corpus, name, said["text"] if said else "", answer, candidates, "validation")
    out = list(held.values())
    rows: list[dict[str, Any]] = json.loads((data_root / _TRAIN / train).read_text("utf-8"))
    for row in rows:
        name = clip_name(row["videos"][0])
        if name not in held:
            text, answer = row["messages"][0]["content"], row["messages"][1]["content"]
            out.append(_sample(corpus, name, text, answer, candidates, "train"))
    return out


def _sample(corpus: str, name: str, text: str, answer: str, candidates: tuple[str, ...], split: Split) -> Sample:
    label = format_label(answer)
    if label not in candidates:
        raise RecipeError(f"{corpus}: clip {name} has intent {label!r}, not one of {', '.join(candidates)}")
    return Sample(
        id=name,
        corpus=corpus,
        split=split,
        task="mir",
        labels=ClosedLabels(label=label, candidates=candidates),
        subtitle=text.strip(),
    )
