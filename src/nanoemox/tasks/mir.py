"""Multimodal intent recognition: what the person wants to do by saying this (paper, MIR)."""

from __future__ import annotations

from typing import Final

from nanoemox.tasks.closed import ClosedTask
from nanoemox.tasks.labels import LABEL_SETS

MIR: Final = ClosedTask(
    "mir", "multimodal intent recognition", "intent", 2, "[Intent]", default_labels=LABEL_SETS["mintrec"]
)
