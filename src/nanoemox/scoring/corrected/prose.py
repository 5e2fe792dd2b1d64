"""Rule-based extraction of the emotion words that a description gives to a person.

A description of a clip contains many emotion words, most of them not about the person. Every word of the lexicon gets
points for its context (``POINTS``): after a verb of feeling, in the last verdict ("overall, she seems ..."), repeated.
It loses points in sentences about surroundings, other people or doubt. Negated, quoted and conditional words are
ignored.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Final

from nanoemox.scoring.corrected.lexicon import LexiconWord, words

POINTS: Final[Mapping[str, float]] = {
    "cue": 1.0,
    "clean": 0.5,
    "conclusion": 1.5,
    "last verdict": 2.5,
    "again": 0.5,
    "short": 1.5,
    "unsure": -1.5,
    "general": -1.5,
    "others": -0.5,
    "surroundings": -0.5,
    "before": -2.0,
}
"""Positive points count if any mention has the mark, negative ones only if all mentions have it."""
FAMILY_POINTS: Final[Mapping[str, float]] = {
    "anger": 2.0, "sadness": 1.5, "fear": 1.0, "joy": 1.0, "surprise": 1.0, "doubt": 1.0, "contempt": 1.0,
    "boredom": 0.5, "calm": 0.5, "neutral": 0.5, "disgust": 0.5, "interest": -0.5, "positive": -1.0,
    "attitude": -2.5, "negative": -3.0, "act": -4.0, "mixed": -5.0,
}  # fmt: skip
"""Initial points by family, lower if descriptions rarely use it for a state; 0 for other families."""
ENOUGH: Final = 3.5
BEST: Final = 2.0
"""If no word has ``ENOUGH``, the best one is returned from this score on."""

_FOR: Final = frozenset(name for name, value in POINTS.items() if value > 0) - {"last verdict", "again"}
_AGAINST: Final = frozenset(name for name, value in POINTS.items() if value < 0)

_QUOTES = re.compile(r"\"[^\"\n]{0,600}\"|“[^”]{0,600}”|「[^」]*」|(?<!\w)'[^'\n]{3,300}'(?!\w)")
# A subtitle without quotation marks, up to the continuation of the description.
_UNQUOTED = re.compile(
    r"\bsubtitles?(?: content)?(?: is| says| states| reads)?\s*:[^\"]{0,600}?"
    r"(?=\b(?:in (?:the|this) text|based on|from (?:the|this)|it can be|according|the (?:character|reason)|we can)\b)"
)
_TAGS = re.compile(r"</?\w{1,10}>")
_INSTEAD = re.compile(r"\b(?:rather than|instead of)\b")
_MARK = re.compile(r"\bin (?:the|this) text\b|\bsubtitle content\b")
_SENTENCE = re.compile(r"(?<=[.!?;])[\s\"']+|\n+|\|+")
_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|[,:]")

_CUE = re.compile(
    r"\b(?:feel(?:s|ing|ings)?|felt|experienc\w+|emotional states?|emotions?|mood|state of|sense of|states?:|"
    r"in an? (?:[\w-]+ ){0,4}(?:state|mood)|express(?:es|ing|ed)?|convey\w*|sounds?|predict\w*|looks?|"
    r"(?:character|person|man|woman|individual|speaker|she|he|they) (?:is|are)|"
    r"(?:seems?|appears?|likely|may|might|could)(?: to)?(?: be(?:en)?| have| in)?)\b"
)
_VERDICT = re.compile(
    r"\b(?:feel(?:s|ing|ings)?|experienc\w+|emotional states?|emotions?|mood|state of mind|sense of|"
    r"in an? (?:[\w-]+ ){0,4}state)\b"
)
_CONCLUSION = re.compile(
    r"\b(?:overall|in (?:conclusion|summary|short|general)|to sum up|therefore|thus|taking|considering|"
    r"ultimately|based on (?:these|this|the above|all)|from these|it is likely that|summary|summari[sz]\w+|conclude|"
    r"combine[sd]?|combining|combination)\b"
)
_SURROUNDINGS = re.compile(
    r"\b(?:environment|atmosphere|room|setting|surroundings?|background|lighting|decor|space|conversation|"
    r"interaction|scene|posture|weather|relationship|event|music)\b"
)
_UNSURE = re.compile(
    r"\b(?:difficult|hard|impossible|can(?:not|'t)(?! (?:hide|help|contain|stop))|unclear|not possible|"
    r"insufficient|unable|not clear|challenging|"
    r"without (?:more|further|additional)|do(?:es)? not (?:provide|have)|no (?:clear|explicit|obvious|specific))\b"
)
_GENERAL = re.compile(r"\b(?:associated with|usually|typically|often|people|generally|sign of|expert)\b")
_OTHERS = re.compile(r"\b(?:other person|others|another|listener|audience|viewers?|people around)\b")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NOUN_NOT: Final = _set("no without lack lacks lacking free absence")
_NOT: Final = _NOUN_NOT | _set("not never neither nor isn't doesn't don't aren't didn't wasn't hardly rarely barely")
_FILLERS: Final = _set(
    "visible clear obvious specific any particularly very explicit apparent strong evident show shows showing sign "
    "signs of appear seem to be feel feeling feelings a an the necessarily in express expressing display displaying "
    "indication indications evidence hint hints trace traces sense experiencing negative positive emotion emotions "
    "such as like or nor other too so really at all being"
)
_IF = re.compile(
    r"\b(?:if|whether|unless|would (?:be|feel|have)|not that|"
    r"(?:nothing|not|n't|no \w+) (?:that|suggests?|means?|indicates?|shows?|imply|implies)(?: that)?)\b[^,;:]*"
)
"""Start of a condition or denial; its scope ends at the next comma."""
_CUE_REACH: Final = 80
_CLOSE: Final = 12
_VERDICT_REACH: Final = 100
"""Characters from the end of a cue within which a word belongs to it; ``_CLOSE`` for words that are not plain."""
_NEGATION_REACH: Final = 14
"""Scope of a negation in words."""


@dataclass(frozen=True, slots=True)
class Mention:
    """One occurrence of a word: index of its sentence and its marks (names of ``POINTS``)."""

    word: LexiconWord
    sentence: int
    marks: frozenset[str]


def words_in_prose(text: str) -> tuple[str, ...]:
    """Return the base forms of the emotion words that a description gives to a person, in order of appearance."""
    places: dict[str, list[Mention]] = {}
    for mention in mentions(text):
        places.setdefault(mention.word.base, []).append(mention)
    verdicts = [m.sentence for own in places.values() for m in own if "verdict" in m.marks and "unsure" not in m.marks]
    points = {name: _points(own, max(verdicts, default=-1)) for name, own in places.items()}
    chosen = tuple(base for base, value in points.items() if value >= ENOUGH)
    if not chosen and points and max(points.values()) >= BEST:
        return (max(points, key=points.__getitem__),)
    return chosen


def mentions(text: str) -> Iterator[Mention]:
    """Yield every occurrence of an emotion word that is not negated, quoted or conditional."""
    unquoted = _QUOTES.sub(" ", _TAGS.sub(" ", text.replace("’", "'"))).casefold()
    low = _INSTEAD.sub("without", _UNQUOTED.sub(" subtitle. ", unquoted))
    marked = _MARK.search(low)
    start = 0
    sentences = []
    for end in [*(m.end() for m in _SENTENCE.finditer(low)), len(low)]:
        if low[start:end].strip():
            sentences.append((low[start:end], marked is not None and end > marked.start()))
        start = end
    for number, (sentence, after) in enumerate(sentences):
        about = _about(sentence, short=len(sentences) <= 2, before=marked is not None and not after)
        yield from (Mention(word, number, about | marks) for word, marks in _places(sentence, about))


def _points(own: Sequence[Mention], last: int) -> float:
    """Sum the points of a word over its mentions, see ``POINTS``."""
    marks = set().union(*(m.marks for m in own)) & _FOR
    marks |= set.intersection(*(set(m.marks) for m in own)) & _AGAINST
    if any(m.sentence == last and "verdict" in m.marks for m in own):
        marks.add("last verdict")
    if len(own) > 1:
        marks.add("again")
    return sum(POINTS[name] for name in marks) + FAMILY_POINTS.get(own[0].word.family, 0.0)


def _about(sentence: str, *, short: bool, before: bool) -> frozenset[str]:
    """Return the marks of all words of a sentence."""
    tests = (
        ("conclusion", _CONCLUSION.search(sentence)),
        ("surroundings", _SURROUNDINGS.search(sentence)),
        ("unsure", _UNSURE.search(sentence)),
        ("general", _GENERAL.search(sentence)),
        ("others", _OTHERS.search(sentence)),
        ("short", short),
        ("before", before),
    )
    return frozenset(name for name, holds in tests if holds)


def _places(sentence: str, about: frozenset[str]) -> Iterator[tuple[LexiconWord, frozenset[str]]]:
    """Yield the words of a sentence that count, with their marks."""
    tokens = [(m.group(), m.start()) for m in _TOKEN.finditer(sentence)]
    cues, verdicts = ([m.end() for m in pattern.finditer(sentence)] for pattern in (_CUE, _VERDICT))
    conditions = [(m.start(), m.end()) for m in _IF.finditer(sentence)]
    clean = not about & {"surroundings", "unsure", "general"}
    for word, index in _known([token for token, _ in tokens]):
        at = tokens[index][1]
        away = _behind(cues, at)
        begun = bisect_right(conditions, (at, inf))
        conditional = begun > 0 and at < conditions[begun - 1][1]
        if conditional or not (word.plain or away <= _CLOSE) or _negated(tokens, index):
            continue
        marks = {"cue"} if away < _CUE_REACH else set()
        if marks and clean:
            marks.add("clean")
        if _behind(verdicts, at) < _VERDICT_REACH:
            marks.add("verdict")
        yield word, frozenset(marks)


def _behind(ends: Sequence[int], at: int) -> float:
    """Return the distance of a position from the last of the sorted ends before it; infinite if there is none."""
    last = bisect_right(ends, at)
    return at - ends[last - 1] if last else inf


def _negated(tokens: Sequence[tuple[str, int]], index: int) -> bool:
    """Whether a word is in the scope of a negation: ``no visible sign of anger or ...``."""
    joined = False
    for part, _ in reversed(tokens[max(index - _NEGATION_REACH, 0) : index]):
        if part in _NOT:
            return not joined or part in _NOUN_NOT
        joined |= part == "and"
        if part not in _FILLERS and part not in {"and", ","} and part not in words():
            return False
    return False


def _known(tokens: Sequence[str]) -> Iterator[tuple[LexiconWord, int]]:
    """Yield the words of the lexicon with the indices of their first tokens; longest match first."""
    table, longest = words(), _longest()
    i = 0
    while i < len(tokens):
        for size in range(min(longest.get(tokens[i], 0), len(tokens) - i), 0, -1):
            word = table.get(" ".join(tokens[i : i + size]))
            if word:
                yield word, i
                i += size - 1
                break
        i += 1


@cache
def _longest() -> dict[str, int]:
    """Return first word of a phrase in the lexicon -> number of words of the longest such phrase."""
    sizes: dict[str, int] = {}
    for phrase in words():
        first, *rest = phrase.split(" ")
        sizes[first] = max(sizes.get(first, 1), 1 + len(rest))
    return sizes
