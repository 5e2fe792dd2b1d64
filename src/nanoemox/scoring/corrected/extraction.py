"""Emotion words out of an answer, the same words every time, without a language model.

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

# How far down a list the published extraction still takes a word, by group of synonyms: its language model drops what
# names no feeling, and shortens lists of more than four words to the plainest ones. Read off its outputs.
_LONG_LIST: Final = 5
_PLACES: Final = {
    "telling": 0, "asking": 2, "admiration": 3, "contempt": 3, "shame": 3, "casualness": 3, "disgust": 3,
    "desire": 3, "hostility": 3, "reason": 3, "professionalism": 3, "cooperation": 3, "calm": 5, "friendliness": 5,
    "optimism": 5, "hurt": 5, "shock": 5, "jealousy": 5, "annoyance": 6, "disappointment": 6, "confidence": 6,
    "gratitude": 6, "loneliness": 6, "anger": 99, "happiness": 99, "sadness": 99, "fear": 99, "anxiety": 99,
    "despair": 99, "pride": 99, "contentment": 99, "excitement": 99, "relief": 99, "hate": 99,
}  # fmt: skip
_WORD_PLACES: Final = {
    "affirmation": 2, "apathetic": 3, "challenged": 3, "complain": 2, "concern": 4, "contemplative": 3,
    "encouraging": 3, "energetic": 4, "frustrated": 99, "important": 3, "joke": 3, "passionate": 4,
    "questioning": 2, "serious": 6, "stressed": 99, "uneasy": 5, "uninterested": 3,
}  # fmt: skip
_USUAL_PLACES: Final = 4


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
    answer = spoken(text)
    return parse_labels(answer) if is_list(answer) else words_in_prose(answer)


def spoken(text: str) -> str:
    """Return what follows a thought; a thought that nothing follows is the answer."""
    return _THOUGHT.split(text)[-1].strip() or text


def spoken_list(text: str) -> bool:
    """Whether what follows an answer's thought is a list of words (``is_list``), which needs no language model."""
    return is_list(spoken(text))


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


def as_published(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a list that the published extraction would have kept, as in AffectGPT's evaluator.

    For comparison only: scores should see the whole list, or long lists would cost nothing.
    """
    kept = []
    for place, label in enumerate(labels):
        known = look_up(label)
        if known is None:
            continue
        places = _WORD_PLACES.get(known.base, _PLACES.get(known.group, _USUAL_PLACES))
        if place < places or (places and len(labels) < _LONG_LIST):
            kept.append(label)
    return tuple(kept)


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
