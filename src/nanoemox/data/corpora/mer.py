"""MER2023 and MER2024, six emotions; MER-Caption+ and OV-MERD, open vocabulary; MERR and EMER, explanations.

All are clips of Chinese films and television under the MER challenges' licence: research only, no redistribution of
clips or labels. Transcripts are in English if a translation exists, as in the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import Clips, find, find_or_none, match_label, open_labels, read_json, read_table
from nanoemox.data.corpora.unibench import by_split, read_labels, read_transcripts
from nanoemox.data.manifest import OpenLabels, Sample, Split, TextLabels
from nanoemox.tasks import ERI, LABEL_SETS, MER, OVMER

_NPZ: Final = ("label-6way.npz", "label.npz")
_TABLES_2023: Final[tuple[tuple[Split, tuple[str, ...]], ...]] = (
    ("train", ("train-label.csv", "mer2023train/train-label.csv")),
    ("test", ("test1-label.csv", "test-labels/test1-label.csv", "test_labels/test1-label.csv")),
)
_TABLES_2024: Final[tuple[tuple[Split, tuple[str, ...]], ...]] = (
    ("train", ("label-disdim.csv",)),
    ("test", ("reference-semi.csv",)),
)
_CLIP: Final = "video/{name}.mp4"


def read_2023(root: Path, *, trust_npz: bool = False) -> list[Sample]:
    """Return MER2023: training part and first test part."""
    return _read(root, "mer2023", _TABLES_2023, "english", trust_npz=trust_npz)


def read_2024(root: Path, *, trust_npz: bool = False) -> list[Sample]:
    """Return MER2024: labelled part and semi-supervised test part; in Chinese, as in the protocol."""
    return _read(root, "mer2024", _TABLES_2024, "chinese", trust_npz=trust_npz)


def _read(
    root: Path, corpus: str, tables: tuple[tuple[Split, tuple[str, ...]], ...], words: str, *, trust_npz: bool
) -> list[Sample]:
    candidates = LABEL_SETS[corpus]
    said = read_transcripts(root, words)
    clips = Clips(root, _CLIP)
    out = []
    for split, name, label in _labels(root, tables, trust_npz=trust_npz):
        source = _source(corpus, split, name, clips, said.get(name, ""))
        out.append(source.closed(MER.key, match_label(label, candidates, f"{corpus}: {name}"), candidates))
    return out


def _labels(
    root: Path, tables: tuple[tuple[Split, tuple[str, ...]], ...], *, trust_npz: bool
) -> Iterator[tuple[Split, str, str]]:
    """Yield split, clip and label from the label tables, else from the pickled file."""
    found = [(split, find_or_none(root, *names)) for split, names in tables]
    if not any(path for _, path in found):
        npz = find(root, *_NPZ, *(names[0] for _, names in tables))
        for split, name, row in by_split(read_labels(npz, trust_npz=trust_npz)):
            yield split, name, row["emo"]
    for split, path in found:
        for row in read_table(path, "name", "discrete") if path else ():
            yield split, row["name"], row["discrete"]


def _source(corpus: str, split: Split, name: str, clips: Clips, words: str) -> Source:
    return Source(id=name, corpus=corpus, split=split, media=clips.path(name), subtitle=words, language="zh")


def read_caption_plus(root: Path) -> list[Sample]:
    """Return MER-Caption+: emotion words and explanations."""
    words = find(root, "track2_train_mercaptionplus.csv")
    reasons = find(root, "track3_train_mercaptionplus.csv")
    return _open(root, "mercaptionplus", "train", words, reasons)


def read_ov_merd(root: Path) -> list[Sample]:
    """Return OV-MERD: emotion words and, if released, explanations."""
    words = find(root, "track2_train_ovmerd.csv", "check-openset.csv", "final-openset-english.csv")
    return _open(root, "ov_merd", "test", words, find_or_none(root, "track3_train_ovmerd.csv"))


def _open(root: Path, corpus: str, split: Split, words: Path, reasons: Path | None) -> list[Sample]:
    said = read_transcripts(root, "english")
    clips = Clips(root, _CLIP)
    out = []
    for row in read_table(words, "name", "openset"):
        source = _source(corpus, split, row["name"], clips, said.get(row["name"], ""))
        out.append(source.sample(OVMER.key, OpenLabels(labels=open_labels(row["openset"]))))
    for row in read_table(reasons, "name", "reason") if reasons else ():
        if row["reason"].strip():
            source = _source(corpus, split, row["name"], clips, said.get(row["name"], ""))
            out.append(source.sample(ERI.key, TextLabels(text=row["reason"].strip())))
    return out


def read_merr(root: Path) -> list[Sample]:
    """Return MERR's fine-grained part: explanations and emotions."""
    path = find(root, "MERR_fine_grained.json", *sorted(p.name for p in root.glob("MERR_fine_grained*.json")))
    candidates = LABEL_SETS["merr"]
    clips = Clips(root, _CLIP)
    out = []
    for name, row in read_json(path).items():
        source = _source("merr", "train", name, clips, row["text"].strip())
        out.append(source.sample(ERI.key, TextLabels(text=row["smp_reason_caption"].strip())))
        label = match_label(row["pseu_emotion"], candidates, f"merr: {name}")
        out.append(source.closed(MER.key, label, candidates))
    return out


def read_emer(root: Path) -> list[Sample]:
    """Return EMER's explanations: the 100 clips of its first version, or the 332 of its second."""
    first = find_or_none(root, "gt-eng.csv")
    path = first or find(root, "final-EMER-reason.csv", "gt-eng.csv")
    name, reason = ("names", "reasons") if first else ("name", "english")
    clips = Clips(root, _CLIP)
    out = []
    for row in read_table(path, name, reason):
        source = _source("emer", "test", row[name], clips, row.get("subtitles", "").strip())
        out.append(source.sample(ERI.key, TextLabels(text=row[reason].strip())))
    return out
