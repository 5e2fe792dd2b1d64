"""Emotion reason inference: why the person feels so, from voice, face and words (paper, ERI)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from nanoemox.tasks.task import Form, Task
from nanoemox.tasks.text import after_think
from nanoemox.types import Reading


@dataclass(frozen=True, slots=True)
class TextTask(Task):
    """A task whose answer is a text."""

    form: ClassVar[Form] = "text"

    def read(self, raw: str, text: str, labels: Sequence[str]) -> Reading:
        """Read the text after any thought."""
        return Reading(self.key, raw, text=after_think(text))

    def columns(self) -> list[str]:
        """The text."""
        return [f"{self.key}_text"]

    def cells(self, reading: Reading) -> dict[str, object]:
        """Return the text."""
        return {f"{self.key}_text": reading.text}


ERI: Final = TextTask("eri", "emotion reason inference", "reason", 2, "[Inference]")
