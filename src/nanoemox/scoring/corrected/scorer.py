"""Emotion words scored by our own lexicon: the default.

What it does otherwise than the published protocol (``legacy``), which it shares the signature of ``WheelScorer`` with:

- ``fear`` is fear: a word has one meaning, that of ``lexicon``, not the first in the alphabet;
- ``neutral`` is a class: neutral clips are scored, a neutral answer can be right;
- nothing is dropped: a word that the lexicon lacks is a class of its own, which is right only where the truth has it;
- naming everything loses: against one true label an answer is read as one class, and precision is reported with it.

Only ``positive``, ``negative`` and the like are passed over where families are compared: they name no emotion, so
they can be neither right nor wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Literal

import numpy as np

from nanoemox.scoring.corrected.lexicon import UNSPECIFIC, LexiconWord, look_up, pieces
from nanoemox.scoring.legacy.wheels import Rows, WheelScores, check_lengths
from nanoemox.scoring.metrics.classification import ClassificationScores, classification_scores

Level = Literal["family", "group", "word"]
LEVELS: Final[tuple[Level, ...]] = ("family", "group", "word")

FOLDS: Final[Mapping[str, tuple[str, ...]]] = {
    "pride": ("joy",), "love": ("joy",), "calm": ("neutral",), "interest": ("neutral",), "boredom": ("neutral",),
    "attitude": ("neutral",), "act": ("neutral",), "doubt": ("surprise",), "contempt": ("anger", "disgust"),
    "disgust": ("contempt", "anger"),
}  # fmt: skip
"""Family -> families it counts as, the first that a closed label set has, where the set lacks its own.

After Shaver et al. (1987): pride and love stand by joy, contempt and disgust under anger. Doubt is a mild surprise;
calm, interest and boredom, manners and acts of speech are what annotators of basic emotions leave neutral.
"""


@dataclass(frozen=True)
class LabelMap:
    """Emotion words onto the labels of a closed set.

    A word is the label of its base, else of its group of synonyms, else of its family, else of the family that its own
    folds into (``FOLDS``); of several labels that fit the first listed.
    """

    labels: tuple[str, ...]

    @cached_property
    def _places(self) -> Mapping[tuple[str, str], str]:
        """(level, name) -> label."""
        places: dict[tuple[str, str], str] = {}
        for label in self.labels:
            word = look_up(label)
            for level, name in _names(word) if word else [("word", part) for part in pieces(label)]:
                places.setdefault((level, name), label)
        return places

    def label_of(self, word: LexiconWord) -> str | None:
        """Return the label that a word stands for, or None."""
        if word.family in UNSPECIFIC and word.family not in self.labels:
            return None
        names = [*_names(word), *(("family", other) for other in FOLDS.get(word.family, ()))]
        return next((self._places[name] for name in names if name in self._places), None)

    def classes(self, labels: Sequence[str]) -> list[tuple[str, bool]]:
        """Return the class of every word of an answer, in order, and whether it is a label of this set."""
        found = []
        for part in (part for label in labels for part in pieces(label)):
            word = look_up(part)
            label = self.label_of(word) if word else self._places.get(("word", part))
            if label is not None:
                found.append((label, True))
            elif word is None or word.family not in UNSPECIFIC:
                found.append((f"?{part}" if word is None else f"~{word.family}", False))
        return found

    def read(self, labels: Sequence[str]) -> str | None:
        """Return the one label that an answer gives: that of most of its words, of equals the first; None of none."""
        votes = Counter(label for label, own in self.classes(labels) if own)
        return max(votes, key=votes.__getitem__) if votes else None


@dataclass(frozen=True, slots=True)
class CorrectedScorer:
    """Scores emotion words by the lexicon.

    Attributes:
        level: What sets of words are compared by: families (the headline), groups of synonyms, or single words, each
            word folded to its base form.
        labels: The closed set for ``hit_rate`` (default: the labels that the truth holds).
    """

    level: Level = "family"
    labels: tuple[str, ...] = ()

    def set_scores(self, truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> WheelScores:
        """Score sets of words against sets of words, on one wheel.

        Precision |P & T| / |P| and recall |P & T| / |T| of the classes of a clip, averaged over clips; F is the
        harmonic mean of the averages, as in MER-UniBench (Lian et al., AffectGPT, ICML 2025). A clip whose truth names
        no emotion does not count.
        """
        check_lengths(truth, predicted)
        rows = np.full((1, len(truth), 2), np.nan)
        for i, (true, answer) in enumerate(zip(truth, predicted, strict=True)):
            wanted, given = self.classes(true), self.classes(answer)
            if wanted:
                common = len(wanted & given)
                rows[0, i] = common / max(len(given), 1), common / len(wanted)
        return WheelScores(rows)

    def hit_rate(self, truth: Sequence[str], predicted: Sequence[Sequence[str]]) -> WheelScores:
        """Score sets of words against one label each, on one wheel; every clip counts.

        The hit rate (``recall``) is the share of clips whose answer, read as one label by ``LabelMap.read``, is right:
        an accuracy. Precision is the share of right classes among all that the answer names.
        """
        check_lengths(truth, predicted)
        folds = self.label_map(truth)
        wanted = [folds.read((label,)) or label for label in truth]
        rows = _named_rows(folds, wanted, predicted)
        rows[0, :, 1] = [folds.read(answer) == true for answer, true in zip(predicted, wanted, strict=True)]
        return WheelScores(rows)

    def classes(self, labels: Sequence[str]) -> frozenset[str]:
        """Return what a list of words is compared by, at this level."""
        return frozenset().union(*(_classes_of(label, self.level) for label in labels))

    def label_map(self, truth: Sequence[str]) -> LabelMap:
        """Return the map onto the closed set."""
        return LabelMap(self.labels or tuple(sorted(set(truth))))


@dataclass(frozen=True, slots=True, eq=False)
class EmotionReport:
    """Everything about answers to clips with one true label each.

    Attributes:
        scores: Of the one label that each answer is read as: accuracy (the hit rate), unweighted average recall, macro
            and weighted F1, confusions, abstentions (answers that name no label of the set).
        sets: Of all classes that the answers name: precision, recall (the field's hit rate) and F.
        pairs: What ``scores`` were made of: each clip's label and the one that its answer is read as.
        labels_per_answer: Mean number of words in an answer.
        unknown: Words that the lexicon lacks, and how often they were given, the most common first.
    """

    scores: ClassificationScores
    sets: WheelScores
    pairs: tuple[tuple[str, str | None], ...]
    labels_per_answer: float
    unknown: Mapping[str, int]

    @property
    def metrics(self) -> dict[str, float]:
        """Name -> score, fractions of one but for ``labels_per_answer``."""
        return {
            "hit_rate": self.scores.accuracy,
            "accuracy": self.scores.accuracy,
            "unweighted_average_recall": self.scores.unweighted_average_recall,
            "macro_f1": self.scores.macro_f1,
            "weighted_f1": self.scores.weighted_f1,
            "precision": self.sets.precision,
            "recall": self.sets.recall,
            "f1": self.sets.f1,
            "abstained": sum(read is None for _, read in self.pairs) / len(self.pairs),
            "labels_per_answer": self.labels_per_answer,
        }


def emotion_report(
    truth: Sequence[str], predicted: Sequence[Sequence[str] | None], labels: Sequence[str] = ()
) -> EmotionReport:
    """Score lists of emotion words against one label each.

    Args:
        truth: N labels.
        predicted: N lists of words; None where a clip has no answer.
        labels: The closed set (default: the labels of the truth); truth outside it is folded as answers are.
    """
    check_lengths(truth, predicted)
    folds = CorrectedScorer(labels=tuple(labels)).label_map(truth)
    answers = [answer or () for answer in predicted]
    wanted = [folds.read((label,)) or label for label in truth]
    read = [folds.read(answer) for answer in answers]
    return EmotionReport(
        scores=classification_scores(wanted, read, tuple(dict.fromkeys(wanted))),
        sets=WheelScores(_named_rows(folds, wanted, answers)),
        pairs=tuple(zip(wanted, read, strict=True)),
        labels_per_answer=sum(map(len, answers)) / len(answers),
        unknown=unknown_words(answers),
    )


def unknown_words(answers: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return the words that the lexicon lacks with their counts, the most common first."""
    counts = Counter(part for answer in answers for label in answer for part in pieces(label))
    missing = {part: n for part, n in counts.items() if look_up(part) is None}
    return dict(sorted(missing.items(), key=lambda item: (-item[1], item[0])))


def _named_rows(folds: LabelMap, truth: Sequence[str], answers: Sequence[Sequence[str]]) -> Rows:
    """float64[1, N, 2]: precision and recall of all classes that an answer names, the truth being one."""
    rows = np.zeros((1, len(truth), 2))
    for i, (true, answer) in enumerate(zip(truth, answers, strict=True)):
        named = {name for name, _ in folds.classes(answer)}
        rows[0, i] = (true in named) / max(len(named), 1), true in named
    return rows


def _names(word: LexiconWord) -> tuple[tuple[str, str], ...]:
    return ("word", word.base), ("group", word.group), ("family", word.family)


@lru_cache(maxsize=65536)
def _classes_of(label: str, level: Level) -> frozenset[str]:
    found = set()
    for part in pieces(label):
        word = look_up(part)
        if word is None:
            found.add(f"?{part}")
        elif level != "family" or word.family not in UNSPECIFIC:
            found.add({"family": word.family, "group": word.group, "word": word.base}[level])
    return frozenset(found)
