"""Facial expressions: 13,718 photographs in 8 classes (repository Apache-2.0, image rights unclear, labels noisy).

There is no official split: a fifth is held out, selected by a hash of the file name.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import read_table
from nanoemox.data.manifest import Sample, Split
from nanoemox.tasks import LABEL_SETS, MER

LABELS: Final = LABEL_SETS["facial_expressions"]


def split_of(image: str) -> Split:
    """Return the split of a photograph."""
    held_out = int(hashlib.sha1(image.encode(), usedforsecurity=False).hexdigest(), 16) % 5 == 0
    return "validation" if held_out else "train"


def photographs(root: Path) -> list[tuple[str, str]]:
    """List ``(image, label)`` in the order of ``legend.csv``."""
    return [(row["image"], row["emotion"].lower()) for row in read_table(root / "legend.csv", "image", "emotion")]


def source_of(image: str) -> Source:
    """Return the source of a photograph; its media path is relative to the released folder."""
    name = Path(image).stem
    return Source(id=name, corpus="facial_expressions", split=split_of(image), media=f"images/{image}")


def read(root: Path) -> list[Sample]:
    """Return one sample per photograph; ``root`` contains ``legend.csv`` and ``images``."""
    return [source_of(image).closed(MER.key, label, LABELS) for image, label in photographs(root)]
