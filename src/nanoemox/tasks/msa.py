"""Multimodal sentiment analysis: a polarity that is never trained explicitly (paper, MSA)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nanoemox.tasks.closed import ClosedTask
from nanoemox.tasks.labels import LABEL_SETS
from nanoemox.types import Reading


@dataclass(frozen=True, slots=True)
class SentimentTask(ClosedTask):
    """A closed task whose probabilities also give a valence."""

    def valence(self, probabilities: Mapping[str, float]) -> float:
        """Return P(positive) - P(negative), in -1..1; an absent label counts as 0."""
        return float(probabilities.get("positive", 0.0)) - float(probabilities.get("negative", 0.0))

    def columns(self) -> list[str]:
        """Label, probabilities and valence."""
        return [*ClosedTask.columns(self), f"{self.key}_valence"]

    def cells(self, reading: Reading) -> dict[str, object]:
        """Return the cells of one answer."""
        return ClosedTask.cells(self, reading) | {f"{self.key}_valence": round(reading.valence or 0.0, 4)}


MSA: Final = SentimentTask(
    "msa", "multimodal sentiment analysis", "sentiment", 1, "[Recognition]", default_labels=LABEL_SETS["sentiment"]
)
