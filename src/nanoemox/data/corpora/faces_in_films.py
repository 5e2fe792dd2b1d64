"""CAER, FERV39K and DFEW: faces in films and television with one of seven emotions (research only).

Labels are folder names in CAER, lists of clips in FERV39K, and the votes of ten annotators or the lists of five folds
in DFEW, of which the first is used. The language of clips in DFEW and FERV39K is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.messages import read_messages
from nanoemox.data.corpora.releases import (
    VIDEO_SUFFIXES,
    Clips,
    find,
    find_or_none,
    match_label,
    missing,
    read_table,
    read_text,
)
from nanoemox.data.corpora.spreadsheet import read_sheet
from nanoemox.data.files import files_below
from nanoemox.data.manifest import Sample, Split
from nanoemox.tasks import LABEL_SETS, MER

_JOINED: Final = "caer_ferv39k_ann.json"
_UNKNOWN: Final = "und"
"""ISO 639 code of an undetermined language."""
_CAER: Final[tuple[tuple[str, Split], ...]] = (("train", "train"), ("validation", "validation"), ("test", "test"))
_PARTS: Final[tuple[Split, ...]] = ("train", "test")
_MAJORITY: Final = 6
"""Minimum number of votes, of ten, in DFEW."""


def read_caer(root: Path) -> list[Sample]:
    """Return CAER: from its folders, or from the authors' joint file with FERV39K."""
    joined = find_or_none(root, _JOINED)
    if joined is not None:
        return _joined(root, joined, "caer")
    base = root / "CAER" if (root / "CAER").is_dir() else root
    out = []
    for folder, split in _CAER:
        for path in files_below(base / folder):
            if path.suffix.lower() in VIDEO_SUFFIXES:
                where = path.relative_to(root).as_posix()
                source = Source(
                    id=f"{folder}-{path.parent.name}-{path.stem}", corpus="caer", split=split, media=where
                )  # fmt: skip
                label = match_label(path.parent.name, LABEL_SETS["caer"], where)
                out.append(source.closed(MER.key, label, LABEL_SETS["caer"]))
    if not out:
        raise missing(root, "train/Anger/*.avi", _JOINED)
    return out


def read_ferv39k(root: Path) -> list[Sample]:
    """Return FERV39K: from its lists for all scenes, or from the authors' joint file."""
    joined = find_or_none(root, _JOINED)
    if joined is not None:
        return _joined(root, joined, "ferv39k")
    candidates = LABEL_SETS["ferv39k"]
    lists = {
        split: find_or_none(root, f"4_setups/All_scenes/{split}_All.csv", f"{split}_All.csv", f"all_scenes_{split}.csv")
        for split in _PARTS
    }
    if not any(lists.values()):
        find(root, "4_setups/All_scenes/train_All.csv", "4_setups/All_scenes/test_All.csv")
    clips = Clips(root, "{name}.mp4")
    out = []
    for split, path in lists.items():
        for place, label in _pairs(path) if path else ():
            scene, _, number = PurePosixPath(place).with_suffix("").parts[-3:]
            # The label is an index into our label set, or spelt out.
            spelt = candidates[int(label)] if label.isdecimal() else label
            felt = match_label(spelt, candidates, f"{path}: {place}")
            folder = "/".join(PurePosixPath(place).parts[-3:-1])
            media = clips.at(*(f"{top}{folder}/{number}.mp4" for top in ("", "0_7_LabelClips/", "2_ClipsforFaceCrop/")))
            name = f"{scene}-{folder.split('/')[1]}-{number}"
            source = Source(id=name, corpus="ferv39k", split=split, media=media, language=_UNKNOWN)
            out.append(source.closed(MER.key, felt, candidates))
    return out


def read_dfew(root: Path) -> list[Sample]:
    """Return DFEW: fold 1 of its lists, or its votes, which have no split and are for training."""
    candidates = LABEL_SETS["ferv39k"]  # the same seven labels in the same order
    clips = Clips(root, "Clip/original/{name}.mp4")
    out = []
    for split, number, index in _dfew(root):
        media = clips.path(str(number), f"{number:05d}")
        source = Source(id=f"{number:05d}", corpus="dfew", split=split, media=media, language=_UNKNOWN)
        out.append(source.closed(MER.key, candidates[index], candidates))
    return out


def _dfew(root: Path) -> Iterator[tuple[Split, int, int]]:
    """Yield split, clip number and label index."""
    lists = {split: _dfew_list(root, split) for split in _PARTS}
    if any(lists.values()):
        for split, path in lists.items():
            if path is not None and path.name.startswith("set_"):
                for row in read_table(path, "label"):
                    yield split, int(row.get("video_name") or row["order"]), int(row["label"]) - 1
            elif path is not None:
                for place, label in _pairs(path):
                    yield split, int(PurePosixPath(place).name), int(label)
        return
    for row in read_sheet(find(root, "Annotation/annotation.xlsx", "annotation.xlsx")):
        votes = [int(float(row[f"{i}{word}"])) for i, word in enumerate(LABEL_SETS["ferv39k"], 1)]
        if max(votes) >= _MAJORITY:
            yield "train", int(float(row["order"])), votes.index(max(votes))


def _dfew_list(root: Path, split: Split) -> Path | None:
    return find_or_none(root, f"EmoLabel_DataSplit/{split}(single-labeled)/set_1.csv", f"split01_{split}.csv")


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Yield path and label of each line ``<path> <label>``; there is no header."""
    for line in read_text(path).split("\n"):
        if line.strip():
            place, label = line.replace("\\", "/").rsplit(None, 1)
            yield place, label


def _joined(root: Path, path: Path, corpus: str) -> list[Sample]:
    """Read one corpus of the authors' joint file, all for training."""
    candidates = LABEL_SETS[corpus]
    clips = Clips(root, "video/{name}.mp4")
    out = []
    for message in read_messages(path):
        if _whose(message.path) == corpus:
            source = Source(id=message.name, corpus=corpus, split="train", media=clips.path(message.name))
            out.append(source.closed(MER.key, match_label(message.answer, candidates, message.path), candidates))
    return out


def _whose(path: str) -> str:
    """Return the corpus of a clip in the joint file by its folder, else by its suffix (CAER is released as avi)."""
    named = re.search(r"caer|ferv", path.lower())
    caer = path.lower().endswith(".avi") if named is None else named[0] == "caer"
    return "caer" if caer else "ferv39k"
