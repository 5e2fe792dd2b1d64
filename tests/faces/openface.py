"""Synthetic OpenFace tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanoemox.faces.vectors import COLUMNS

HEAD = ("frame", "face_id", "timestamp", "confidence", "success")


def write_openface(
    path: Path, rows: int = 20, fps: float = 10.0, seed: int = 0, lost: tuple[int, ...] = (),
    columns: Mapping[str, tuple[str, ...]] = COLUMNS,
) -> NDArray[np.float64]:  # fmt: skip
    """Write a table with a space after every comma, as OpenFace does; return the numbers behind the head."""
    names = [name for group in columns.values() for name in group]
    values = np.random.default_rng(seed).normal(size=(rows, len(names))).round(4)
    lines = [", ".join((*HEAD, *names))]
    for i, row in enumerate(values):
        good = int(i not in lost)
        head = (i + 1, 0, round(i / fps, 3), 0.98 * good, good)
        lines.append(", ".join(map(str, (*head, *(row if good else np.zeros(len(names)))))))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return values
