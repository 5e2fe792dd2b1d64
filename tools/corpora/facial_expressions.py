"""Photographs of expressions with templates: emotion words and explanations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.facial_expressions import LABELS, photographs, source_of
from nanoemox.data.manifest import Sample
from tools.corpora.common import explanation, recognition
from tools.corpora.targets import face_sentence

__all__ = ["FOLDER", "LABELS", "read"]
FOLDER: Final = Path("corpora/facial_expressions")


def read(data_root: Path) -> list[Sample]:
    """Return recognition and explanation of every photograph."""
    out: list[Sample] = []
    for image, label in photographs(data_root / FOLDER):
        source = source_of(image)
        source = replace(source, media=f"{FOLDER}/{source.media}")
        out += recognition(source, label, LABELS)
        out.append(explanation(source, label, {"face": face_sentence(label)}))
    return out
