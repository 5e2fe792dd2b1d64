"""CMU-MOSI, CMU-MOSEI, CH-SIMS and CH-SIMS v2: sentiment of utterances (research only).

The label is the sign of the annotated value; zero is ``neutral``. Reference: the protocol drops zeros in scoring; here
they stay samples. Supported releases: the table of MMSA (``label.csv`` beside ``Raw``); MER-UniBench's label file;
MMLA's lists, with the sign only (for MOSI and CH-SIMS v2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.messages import read_mmla
from nanoemox.data.corpora.releases import Clips, find, find_or_none, match_label, read_table
from nanoemox.data.corpora.unibench import by_split, read_labels, read_transcripts
from nanoemox.data.manifest import Sample, Split
from nanoemox.tasks import LABEL_SETS, MSA
from nanoemox.types import RecipeError

LABELS: Final = LABEL_SETS["sentiment"]
_MODES: Final[Mapping[str, Split]] = {
    "train": "train", "valid": "validation", "val": "validation", "dev": "validation", "test": "test",
}  # fmt: skip
_TABLES: Final = ("label.csv", "meta.csv", "meta(s).csv", "Processed/label.csv")


@dataclass(frozen=True, slots=True)
class _Set:
    """One of the four corpora.

    Attributes:
        corpus: Our name.
        language: Spoken language.
        mmla: MMLA's name, if it has lists of this corpus.
    """

    corpus: str
    language: str
    mmla: str | None = None


def _reader(part: _Set) -> Callable[..., list[Sample]]:
    def read(root: Path, *, trust_npz: bool = False) -> list[Sample]:
        clips = Clips(root, "Raw/{name}.mp4")
        return [
            source.closed(MSA.key, label, LABELS) for source, label in _sources(part, root, clips, trust_npz=trust_npz)
        ]

    return read


read_mosi = _reader(_Set("cmu_mosi", "en", "MOSI"))
read_mosei = _reader(_Set("cmu_mosei", "en"))
read_sims = _reader(_Set("ch_sims", "zh"))
read_sims_v2 = _reader(_Set("ch_sims_v2", "zh", "Ch-sims"))


def _sources(part: _Set, root: Path, clips: Clips, *, trust_npz: bool) -> Iterator[tuple[Source, str]]:
    table = find_or_none(root, *_TABLES)
    said = read_transcripts(root, "english")  # Reference: the protocol reads CH-SIMS in translation
    lists = [] if part.mmla is None else _lists(root, part.mmla)
    if table is not None:
        for row in read_table(table, "video_id", "clip_id", "text", "label", "mode"):
            if row["mode"] not in _MODES:
                raise RecipeError(f"{table}: mode {row['mode']!r} is none of {', '.join(_MODES)}")
            video, clip = row["video_id"], row["clip_id"]
            # Spreadsheets strip the leading zeros of CH-SIMS' clip numbers.
            clip = clip.zfill(4) if part.corpus == "ch_sims" else clip
            media = clips.at(f"Raw/{video}/{clip}.mp4", f"{video}/{clip}.mp4")
            name = f"{video}_{clip}"
            words = said.get(name, row["text"])
            yield _source(part, _MODES[row["mode"]], name, media, words), sign(float(row["label"]))
    elif lists:
        for split, path in lists:
            for message in read_mmla(path):
                name = message.name.removeprefix(f"{part.mmla}_").replace("$_$", "_")
                media = clips.path(name, message.name)
                label = match_label(message.answer, LABELS, f"{path}: {name}")
                yield _source(part, split, name, media, message.text), label
    else:
        npz = find(root, "label.npz", *_TABLES)
        for split, name, row in by_split(read_labels(npz, trust_npz=trust_npz)):
            yield _source(part, split, name, clips.path(name), said.get(name, "")), sign(float(row["val"]))


def _source(part: _Set, split: Split, name: str, media: str, words: str) -> Source:
    return Source(
        id=name, corpus=part.corpus, split=split, media=media, subtitle=words.strip(), language=part.language
    )  # fmt: skip


def sign(value: float) -> str:
    """Return the label of an annotated value.

    Raises:
        RecipeError: It is no number.
    """
    if not math.isfinite(value):
        raise RecipeError(f"a sentiment is {value}: remove its row, or give it a value")
    return "positive" if value > 0 else "negative" if value < 0 else "neutral"


def _lists(root: Path, mmla: str) -> list[tuple[Split, Path]]:
    found: list[tuple[Split, Path | None]] = []
    for part in ("train", "dev"):
        stem = f"{mmla}_{part}_sentiment_llamafactory"
        subset = sorted(p.relative_to(root).as_posix() for p in root.glob(f"**/{stem}*.json"))
        found.append((_MODES[part], find_or_none(root, *subset)))
    found.append(("test", find_or_none(root, f"mmla/swift/{mmla}/test.jsonl", f"swift/{mmla}/test.jsonl")))
    return [(split, path) for split, path in found if path is not None]
