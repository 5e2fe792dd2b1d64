"""The interface of a task: everything that the rest of the package needs to know about one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from nanoemox.types import Reading

Form = Literal["label", "labels", "text", "reply"]
"""What an answer is: one of given labels, free words, a text, a reply with or without its chain of thought."""


@dataclass(frozen=True, slots=True)
class Task(ABC):
    """One of the six tasks; its questions are in ``templates.yaml``.

    Attributes:
        key: Short name used everywhere in code, files and options.
        name: Display name.
        answer_name: Name of its answer on the card.
        level: 1 perception, 2 understanding, 3 interaction.
        identifier: Tag that starts every question (plain text, not a special token).
        form: What an answer is.
    """

    key: str
    name: str
    answer_name: str
    level: int
    identifier: str
    form: ClassVar[Form]

    @property
    def closed(self) -> bool:
        """Whether the answer is one of a given list of labels."""
        return self.form == "label"

    @property
    def labels(self) -> tuple[str, ...]:
        """Default candidates; empty for an open task."""
        return ()

    @abstractmethod
    def read(self, raw: str, text: str, labels: Sequence[str]) -> Reading:
        """Read what a model wrote: ``raw``, and ``text``, the same without terminator, role header and identifier."""

    @abstractmethod
    def columns(self) -> list[str]:
        """Return the columns of a table of answers."""

    @abstractmethod
    def cells(self, reading: Reading) -> dict[str, object]:
        """Return column -> value; lists are joined by ``; ``, mappings are JSON."""
