"""Deterministic extraction of emotion words from an answer, without a language model.

A list ("The character's emotional state is tense, uneasy.") is parsed by ``nanoemox.tasks``, any other text by the
rules of ``prose``. ``agreement`` compares the result with the labels that a language model extracted from the same
answers (the ``-openset.npz`` files of MER-UniBench); below ``RELIABLE`` reports recommend a language model.
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
"""Words that make an item of a bare list a clause; in a list with a lead-in only ``_DENIALS`` do."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two extractions from the same answers: F1 of two sets of words, averaged over clips, in 0..1.

    F1 = 2 |A & B| / (|A| + |B|), where A and B are the sets of normalised words of one clip; an empty list counts as
    ``{neutral}``, as in MER-Caption+.

    Attributes:
        words: F1 of base forms (``happily`` is ``happy``).
        synonyms: F1 of groups of synonyms (``glad`` is ``happy``), on which the scores depend.
        num_clips: Number of compared clips.
    """

    words: float
    synonyms: float
    num_clips: int

    @property
    def reliable(self) -> bool:
        """Whether the rules are accurate enough on these answers to score them without a language model."""
        return self.synonyms >= RELIABLE


def extract_words(text: str) -> tuple[str, ...]:
    """Return the emotion words of an answer in order, without repeats; possibly none.

    Words of a list stay as written, known or not; words in running text become base forms of the lexicon.
    """
    answer = after_thought(text)
    return parse_labels(answer) if is_list(answer) else words_in_prose(answer)


def after_thought(text: str) -> str:
    """Return the text after a thought, or the thought if there is no other text."""
    return _THOUGHT.split(text)[-1].strip() or text


def is_answer_list(text: str) -> bool:
    """Whether the text after a thought is a list of words (``is_list``), so that no language model is needed."""
    return is_list(after_thought(text))


def is_list(text: str) -> bool:
    """Whether an answer is only a list of words, with or without a lead-in."""
    body, has_lead = _LIST_LEAD.subn("", text.strip().removesuffix("</s>"), count=1)
    body = _BULLET.sub("", body).strip(" .[]()*\n")
    if re.search(r"[.!?]\s+\S", body):
        return False
    items = [item for item in re.split(r"[,;\n]|\band\b", body) if item.strip()]
    clause = _DENIALS if has_lead else _CLAUSE
    return all(len(i.split()) <= MAX_LABEL_WORDS and (look_up(i) or not clause & _words(i)) for i in items)


def _words(text: str) -> set[str]:
    return set(normalise(text).split())


def agreement(first: Sequence[Sequence[str]], second: Sequence[Sequence[str]]) -> Agreement:
    """Compare two extractions clip by clip; see ``Agreement``."""
    if len(first) != len(second) or not first:
        raise NanoEmoXError(f"{len(first)} and {len(second)} lists of words; give one of each per clip")
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
