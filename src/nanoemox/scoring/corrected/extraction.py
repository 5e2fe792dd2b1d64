"""Deterministic extraction of emotion words from an answer, without a language model.

An answer that is a list ("The character's emotional state is tense, uneasy.") is read by ``nanoemox.tasks``; any other
text by the rules of ``extraction_prose``. ``agreement`` measures, file by file, how near this comes to the label lists
that a language model took from the same answers (the ``-openset.npz`` files of MER-UniBench); below ``RELIABLE`` a
report should say that a language model reads these answers better.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nanoemox.scoring.corrected.lexicon import base, look_up, normalise, pieces
from nanoemox.scoring.corrected.prose import words_in_prose
from nanoemox.tasks import MAX_LABEL_WORDS, parse_labels
from nanoemox.types import NanoEmoXError

RELIABLE: Final = 0.8
"""Agreement below which the rules should not be relied on."""

_LIST_LEAD = re.compile(
    r"^\W*(?:the (?:character|person|speaker|individual|man|woman)'?s? emotion(?:al states?|s)? (?:is|are|:)|"
    r"(?:emotions?|emotional states?|labels?|answer)\s*:)\s*",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"</\s*think\s*>", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•+]\s+|\d+[.)]\s+)", re.MULTILINE)
_DENIALS: Final = frozenset({"not", "unclear", "unknown", "difficult", "hard"})
_CLAUSE_WORDS: Final = (
    "i i'm he she they it it's you we his her their this that there the no is are was were be am do does did seems "
    "seem seemed appears appear feels felt looks look says sounds may might could can has have with who which"
)
_CLAUSE: Final = _DENIALS.union(_CLAUSE_WORDS.split())
"""Words that make an item a clause, of a bare list and of an announced one (``_DENIALS``)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near two extractions of the same answers are, each figure the mean over clips of a set's F1, in 0..1.

    For two lists A and B of one clip, F1 = 2 |A & B| / (|A| + |B|), where A and B are sets of normalised words and an
    empty list is read as ``{neutral}``, the class it means (MER-Caption+ has the same rule).

    Attributes:
        words: Words folded to their base (``happily`` is ``happy``).
        synonyms: Words folded to their group of synonyms (``glad`` is ``happy``): what the scores are made of.
        num_clips: Clips compared.
    """

    words: float
    synonyms: float
    num_clips: int

    @property
    def reliable(self) -> bool:
        """Whether the rules read these answers well enough to be scored without a language model."""
        return self.synonyms >= RELIABLE


def extract_words(text: str) -> tuple[str, ...]:
    """Return the emotion words that an answer gives, in order, without repeats; possibly none.

    A list keeps its words as written, known or not; from running text come bases of the lexicon.
    """
    answer = after_thought(text)
    return parse_labels(answer) if is_list(answer) else words_in_prose(answer)


def after_thought(text: str) -> str:
    """Return the text after a thought; a thought without any text after it is the answer."""
    return _THOUGHT.split(text)[-1].strip() or text


def is_answer_list(text: str) -> bool:
    """Whether the text after a thought is a list of words (``is_list``), which needs no language model."""
    return is_list(after_thought(text))


def is_list(text: str) -> bool:
    """Whether an answer is a list of words, announced or bare, and nothing else."""
    body, announced = _LIST_LEAD.subn("", text.strip().removesuffix("</s>"), count=1)
    body = _BULLET.sub("", body).strip(" .[]()*\n")
    if re.search(r"[.!?]\s+\S", body):
        return False
    items = [item for item in re.split(r"[,;\n]|\band\b", body) if item.strip()]
    clause = _DENIALS if announced else _CLAUSE
    return all(len(i.split()) <= MAX_LABEL_WORDS and (look_up(i) or not clause & _words(i)) for i in items)


def _words(text: str) -> set[str]:
    return set(normalise(text).split())


def agreement(first: Sequence[Sequence[str]], second: Sequence[Sequence[str]]) -> Agreement:
    """Compare two extractions clip by clip; see ``Agreement`` for the figure."""
    if len(first) != len(second) or not first:
        raise NanoEmoXError(f"{len(first)} lists against {len(second)}; give one of each for at least 1 clip")
    words = synonyms = 0.0
    for one, other in zip(first, second, strict=True):
        a, b = _bases(one), _bases(other)
        words += _f1(a, b)
        synonyms += _f1(_groups(a), _groups(b))
    return Agreement(words / len(first), synonyms / len(first), len(first))


def _bases(labels: Sequence[str]) -> frozenset[str]:
    return frozenset(base(part) for label in labels for part in pieces(label)) or frozenset({"neutral"})


def _groups(bases: frozenset[str]) -> frozenset[str]:
    return frozenset(word.group if (word := look_up(b)) else normalise(b) for b in bases)


def _f1(a: frozenset[str], b: frozenset[str]) -> float:
    return 2 * len(a & b) / (len(a) + len(b))
