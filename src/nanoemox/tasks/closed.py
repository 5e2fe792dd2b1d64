"""Tasks whose answer is one of given labels.

The answer is the bare label, nothing else. The parser also reads the sentences of the paper's authors ("the most likely
label is X"), and common deviations of language models from both.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from nanoemox.tasks.task import Form, Task
from nanoemox.tasks.text import CUE, QUOTES, after_think
from nanoemox.types import Reading


@dataclass(frozen=True, slots=True)
class ClosedTask(Task):
    """A task whose answer is one of given labels.

    Attributes:
        default_labels: Default candidates.
    """

    default_labels: tuple[str, ...]
    form: ClassVar[Form] = "label"

    @property
    def labels(self) -> tuple[str, ...]:
        """Default candidates."""
        return self.default_labels

    def valence(self, probabilities: Mapping[str, float]) -> float | None:
        """Return the valence of formatted labels with probabilities, or None if the task has none."""
        return None

    def read(self, raw: str, text: str, labels: Sequence[str]) -> Reading:
        """Read the label; None where the text names no candidate."""
        return Reading(self.key, raw, label=parse_label(text, labels))

    def columns(self) -> list[str]:
        """Label, its probability, and all probabilities."""
        return [f"{self.key}_label", f"{self.key}_probability", f"{self.key}_probabilities"]

    def cells(self, reading: Reading) -> dict[str, object]:
        """Return the cells of one answer; none without probabilities."""
        if reading.probabilities is None or reading.label is None:
            return {}
        shares = {label: round(share, 4) for label, share in reading.probabilities.items()}
        values = (reading.label, shares[reading.label], json.dumps(shares, ensure_ascii=False))
        return dict(zip(ClosedTask.columns(self), values, strict=True))


def format_label(label: str) -> str:
    """Return the answer of a closed task: the bare label, lower case, single spaces."""
    return " ".join(label.replace("_", " ").split()).lower()


# Neither side of a label may touch a letter or digit; scripts written without spaces have no such border.
_LETTER = r"[^\W_぀-ヿ一-鿿가-힣]"
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|without|hardly|\w+n't)\s+(?:(?:a|an|the|very|really|at all)\s+){0,2}$"
)


def _fold(text: str) -> str:
    """Fold case, width, hyphens, underscores and runs of space."""
    folded = unicodedata.normalize("NFKC", text).translate(QUOTES).casefold()
    return re.sub(r"[\s_\-‐‑]+", " ", folded).strip()


def parse_label(text: str, labels: Sequence[str]) -> str | None:
    """Return the candidate that ``text`` names, in the spelling of ``labels``, or None.

    Whole words only, the longest candidate first, so a label cannot match as the prefix of another. An
    announced label (``the most likely label is X``) wins over words around it, the last announcement over earlier
    ones; otherwise the first candidate that is not negated.
    """
    spelling = {_fold(label): label for label in reversed(labels) if _fold(label)}
    if not spelling:
        return None
    text = after_think(text)
    alternatives = "|".join(re.escape(key) for key in sorted(spelling, key=len, reverse=True))
    pattern = re.compile(f"(?<!{_LETTER})(?:{alternatives})(?!{_LETTER})")
    for segment in (*(text[cue.end() :] for cue in reversed(list(CUE.finditer(text)))), text):
        folded = _fold(segment)
        for match in pattern.finditer(folded):
            if not _NEGATION.search(folded, max(0, match.start() - 32), match.start()):
                return spelling[match.group()]
    return None
