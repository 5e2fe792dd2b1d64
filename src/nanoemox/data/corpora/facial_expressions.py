"""Facial expressions: 990 photographs in 8 classes (repository Apache-2.0, image rights unclear, labels noisy).

A fifth is held out by a hash of the file name, which anyone can repeat.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source, explanation, recognition
from nanoemox.data.corpora.releases import read_table
from nanoemox.data.manifest import Sample, Split
from nanoemox.data.targets import face_sentence
from nanoemox.tasks import LABEL_SETS

FOLDER: Final = Path("corpora/facial_expressions")
LABELS: Final = LABEL_SETS["facial_expressions"]


def split_of(image: str) -> Split:
    """Say which part a photograph belongs to."""
    held_out = int(hashlib.sha1(image.encode(), usedforsecurity=False).hexdigest(), 16) % 5 == 0
    return "validation" if held_out else "train"


def photographs(data_root: Path) -> list[tuple[str, str]]:
    """List ``(image, label)`` in the order of the legend."""
    return _legend(data_root / FOLDER)


def _legend(root: Path) -> list[tuple[str, str]]:
    return [(row["image"], row["emotion"].lower()) for row in read_table(root / "legend.csv", "image", "emotion")]


def read(root: Path) -> list[Sample]:
    """Return recognition and explanation of every photograph; ``root`` holds ``legend.csv`` and ``images``."""
    out: list[Sample] = []
    for image, label in _legend(root):
        source = Source(
            id=Path(image).stem,
            corpus="facial_expressions",
            split=split_of(image),
            media=f"images/{image}",
        )
        out += recognition(source, label, LABELS)
        out.append(explanation(source, label, {"face": face_sentence(label)}))
    return out
