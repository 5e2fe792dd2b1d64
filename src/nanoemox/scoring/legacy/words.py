"""The published score on emotion wheels, quirks included, only for comparison with printed tables.

As in MER-UniBench (Lian et al., AffectGPT, ICML 2025) and the release of Nano-EmoX, whose tables (``wheel1..5.xlsx``,
``synonym.xlsx``, ``format.csv``) the user provides. A word is looked up among the word forms; every base word of the
form, and every wheel word that has the base as a synonym, is a candidate; the alphabetically first candidate on the
wheel gives the class. Unknown words are dropped.

Consequences, and reasons for the default ``corrected``: ``fear`` is a form of ``fearless``, whose synonym ``brave``
comes first in the alphabet, so that fear is happiness on wheel 2; ``neutral`` is on no wheel, so that neutral clips
are not scored; a hit rate does not penalise long answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from nanoemox.scoring.legacy.wheels import WheelScores, check_lengths

Words = Mapping[str, str]
WheelRow = tuple[str, str, str]
_OUT: Final = (np.nan, np.nan)


@dataclass(frozen=True, slots=True)
class WheelTables:
    """The published tables.

    Attributes:
        wheels: W wheels, each as rows of words from the inner ring to the outer; an empty cell repeats the one above.
        synonyms: Wheel word and a printed list of its synonyms; words repeat (eight runs of a language model).
        forms: Word and a printed list of its forms.
    """

    wheels: tuple[tuple[WheelRow, ...], ...]
    synonyms: tuple[tuple[str, str], ...]
    forms: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class LegacyScorer:
    """Scores words by W mappings of words to classes; words missing from a mapping are dropped."""

    mappings: tuple[Words, ...]

    def set_scores(self, truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> WheelScores:
        """Score sets against sets; a sample without a true class is excluded."""
        return self._score(truth, predicted, lambda wanted, given, _: len(wanted & given) / max(len(given), 1))

    def hit_rate(self, truth: Sequence[str], predicted: Sequence[Sequence[str]]) -> WheelScores:
        """Score sets against one word each; a sample without a true class (``neutral``) is excluded.

        The precision is the protocol's "mscore", which it computes and discards: hits among the classes of the answer
        that are true for any sample.
        """

        def precision(wanted: set[str], given: set[str], classes: set[str]) -> float:
            return len(wanted & given) / max(len(given & classes), 1)

        return self._score([split_list(label) for label in truth], predicted, precision)

    def _score(
        self,
        truth: Sequence[Sequence[str]],
        predicted: Sequence[Sequence[str]],
        precision: Callable[[set[str], set[str], set[str]], float],
    ) -> WheelScores:
        check_lengths(truth, predicted)
        rows = np.full((len(self.mappings), len(truth), 2), np.nan)
        for w, words in enumerate(self.mappings):
            wanted = [_classes(words, labels) for labels in truth]
            every = set().union(*wanted)
            for i, (true, answer) in enumerate(zip(wanted, predicted, strict=True)):
                if true:
                    given = _classes(words, answer)
                    rows[w, i] = precision(true, given, every), len(true & given) / len(true)
        return WheelScores(rows)


def legacy_scorer(tables: WheelTables, level: Literal[1, 2] = 1) -> LegacyScorer:
    """Return the published scorer: inner rings of the wheels (``level`` 1, the headline) or the middle ones."""
    candidates = _candidates(tables)
    rings = [_ring(rows, level) for rows in tables.wheels]
    return LegacyScorer(
        tuple({f: ring[w] for f, ws in candidates.items() if (w := _first(ws, ring))} for ring in rings)
    )


def split_list(text: str) -> list[str]:
    """Split a printed list, ``['a', 'b']``, ``[a, b]`` or ``a, b``, as the protocol does."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    items = (item.strip().strip("'\"") for item in text.split(","))
    return [item for item in items if item]


def _classes(words: Words, labels: Iterable[str]) -> set[str]:
    folded = (label.lower().strip() for label in labels)
    return {words[label] for label in folded if label in words}


def _first(words: Iterable[str], ring: Words) -> str | None:
    return min((word for word in words if word in ring), default=None)


def _bases(tables: WheelTables) -> dict[str, set[str]]:
    """Return form -> words that have it; every word is a form of itself."""
    out = defaultdict[str, set[str]](set)
    for word, printed in tables.forms:
        for form in (word, *split_list(printed)):
            out[form].add(word)
    return out


def _heads(tables: WheelTables) -> dict[str, set[str]]:
    """Return word -> wheel words that have it as a synonym; every wheel word is a synonym of itself."""
    out = defaultdict[str, set[str]](set)
    for cell, printed in tables.synonyms:
        head = cell.strip().lower()
        for word in (head, *(w.strip().lower() for w in split_list(printed))):
            out[word].add(head)
    return out


def _candidates(tables: WheelTables) -> dict[str, set[str]]:
    """Return form -> candidate wheel words."""
    heads = _heads(tables)
    return {form: {h for w in words for h in heads.get(w, ())} for form, words in _bases(tables).items()}


def _ring(rows: Iterable[WheelRow], level: Literal[1, 2]) -> dict[str, str]:
    """Return word of a wheel -> class; of a word in several places the last counts, ring by ring."""
    wheel: dict[str, dict[str, list[str]]] = {}
    above = ["", "", ""]
    for row in rows:
        above = [cell or last for cell, last in zip(row, above, strict=True)]
        inner, middle, outer = (cell.lower().strip() for cell in above)
        wheel.setdefault(inner, {}).setdefault(middle, []).append(outer)
    out: dict[str, str] = {}
    for inner, middles in wheel.items():
        out[inner] = inner if level == 1 else min(middles)
        for middle, outers in middles.items():
            out |= dict.fromkeys((middle, *outers), inner if level == 1 else middle)
    return out
