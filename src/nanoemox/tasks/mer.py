"""Multimodal emotion recognition over a candidate list (paper, MER)."""

from __future__ import annotations

from typing import Final

from nanoemox.tasks.closed import ClosedTask
from nanoemox.tasks.labels import LABEL_SETS

MER: Final = ClosedTask(
    "mer", "multimodal emotion recognition", "emotion", 1, "[Recognition]", default_labels=LABEL_SETS["ravdess"]
)
