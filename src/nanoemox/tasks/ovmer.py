"""Open-vocabulary emotion recognition: emotion words in the model's own choice (paper, OV-MER)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from nanoemox.tasks.closed import format_label
from nanoemox.tasks.task import Form, Task
from nanoemox.tasks.text import CUE, after_think
from nanoemox.types import Reading


@dataclass(frozen=True, slots=True)
class WordsTask(Task):
    """A task whose answer is a list of free words."""

    form: ClassVar[Form] = "labels"

    def read(self, raw: str, text: str, labels: Sequence[str]) -> Reading:
        """Read the words in the order written."""
        return Reading(self.key, raw, labels=parse_labels(text))

    def columns(self) -> list[str]:
        """The words."""
        return [f"{self.key}_labels"]

    def cells(self, reading: Reading) -> dict[str, object]:
        """Return the words, joined."""
        return {f"{self.key}_labels": "; ".join(reading.labels or ())}


def format_labels(labels: Iterable[str]) -> str:
    """Return the answer of the open-vocabulary task (and a candidate list in a question): ``a, b, c``."""
    return ", ".join(dict.fromkeys(filter(None, map(format_label, labels))))


_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_SEPARATOR = re.compile(r"[,;/|\n、，；&]|\.\s|\band\b", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•+]\s+|\d+[.)]\s+)")
_EDGE = " \t\r\n.,;:!?\"'`*[](){}<>。"
_FILLER = re.compile(
    r"^(?:(?:the|a|an|also|possibly|maybe|some|feeling|feels|feel|is|are|both|as well as|and|or)\s+)+", re.IGNORECASE
)
MAX_LABEL_WORDS: Final = 4
"""Longer items of a list are clauses, not emotion words."""
_NOTHING: Final = frozenset({"", "none", "n/a", "null", "unknown", "etc"})


def parse_labels(text: str) -> tuple[str, ...]:
    """Return the emotion words of a list in the order written: lower case, without repeats, possibly none."""
    text = after_think(text)
    brackets = _BRACKETS.findall(text)
    cues = list(CUE.finditer(text))
    if brackets:
        text = brackets[-1]
    elif cues:
        text = text[cues[-1].end() :]
    found: dict[str, None] = {}
    for item in _SEPARATOR.split("\n".join(_BULLET.sub("", line) for line in text.splitlines())):
        word = _FILLER.sub("", item.strip(_EDGE)).strip(_EDGE)
        word = " ".join(word.replace("_", " ").split()).lower()
        if word not in _NOTHING and len(word.split()) <= MAX_LABEL_WORDS:
            found[word] = None
    return tuple(found)


# Paper: the table of identifiers writes `[Recog_OV]`, the template `[Recogn_OV]`; we follow the template.
OVMER: Final = WordsTask("ovmer", "open-vocabulary emotion recognition", "emotions", 1, "[Recogn_OV]")
