"""The default scorer of emotion words, based on our lexicon.

Differences from the published protocol (``legacy``), which has the same interface, ``WheelScorer``:

- ``fear`` is fear: a word has the meaning of the lexicon, not the alphabetically first of several;
- ``neutral`` is a class: neutral clips are scored, a neutral answer can be right;
- nothing is dropped: an unknown word is a class of its own, right only if the truth contains it;
- long lists do not pay: against one true label an answer is reduced to one class, and precision is reported too.

Only unspecific words such as ``positive`` are ignored when families are compared: they name no emotion.
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
"""Family -> substitutes if a closed label set lacks it; the first one in the set is used.

After Shaver et al. (1987): pride and love belong to joy, contempt and disgust to anger. Doubt is a mild surprise.
Calm, interest, boredom, manners and speech acts are usually annotated as neutral.
"""


@dataclass(frozen=True)
class LabelMap:
    """A map from emotion words to the labels of a closed set.

    A word maps to the label with its base form, else its group of synonyms, else its family, else a substitute family
    (``FOLDS``); of several such labels to the first.
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
        """Return the label of a word, or None."""
        if word.family in UNSPECIFIC and word.family not in self.labels:
            return None
        names = [*_names(word), *(("family", other) for other in FOLDS.get(word.family, ()))]
        return next((self._places[name] for name in names if name in self._places), None)

    def classes(self, labels: Sequence[str]) -> list[tuple[str, bool]]:
        """Return the class of each word of an answer, in order, and whether it is a label of this set."""
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
        """Return the label of an answer by majority vote of its words, the first of equals; None without a label."""
        votes = Counter(label for label, own in self.classes(labels) if own)
        return max(votes, key=votes.__getitem__) if votes else None


@dataclass(frozen=True, slots=True)
class CorrectedScorer:
    """Scores emotion words by the lexicon.

    Attributes:
        level: Classes to compare: families (the headline), groups of synonyms, or base forms.
        labels: The closed set for ``hit_rate`` (default: the labels of the truth).
    """

    level: Level = "family"
    labels: tuple[str, ...] = ()

    def set_scores(self, truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> WheelScores:
        """Score sets of words against sets of words, on one wheel.

        Precision |P & T| / |P| and recall |P & T| / |T| of the classes of a clip, averaged over clips; F is the
        harmonic mean of the averages, as in MER-UniBench (Lian et al., AffectGPT, ICML 2025). A clip without a true
        class is excluded.
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
        """Score sets of words against one label each, on one wheel; no clip is excluded.

        The hit rate (``recall``) is an accuracy: the share of clips whose label by ``LabelMap.read`` is right.
        Precision is the share of right classes among all classes of the answer.
        """
        check_lengths(truth, predicted)
        folds = self.label_map(truth)
        wanted = [folds.read((label,)) or label for label in truth]
        rows = _named_rows(folds, wanted, predicted)
        rows[0, :, 1] = [folds.read(answer) == true for answer, true in zip(predicted, wanted, strict=True)]
        return WheelScores(rows)

    def classes(self, labels: Sequence[str]) -> frozenset[str]:
        """Return the classes of a list of words at this level."""
        return frozenset().union(*(_classes_of(label, self.level) for label in labels))

    def label_map(self, truth: Sequence[str]) -> LabelMap:
        """Return the map to the closed set."""
        return LabelMap(self.labels or tuple(sorted(set(truth))))


@dataclass(frozen=True, slots=True, eq=False)
class EmotionReport:
    """Scores of answers to clips with one true label each.

    Attributes:
        scores: For the single label of each answer: accuracy (the hit rate), unweighted average recall, macro and
            weighted F1, confusions, abstentions (answers without a label of the set).
        sets: For all classes of each answer: precision, recall (the field's hit rate) and F.
        pairs: True label and label of the answer, clip by clip.
        labels_per_answer: Mean number of words in an answer.
        unknown: Words missing from the lexicon with their counts, most frequent first.
    """

    scores: ClassificationScores
    sets: WheelScores
    pairs: tuple[tuple[str, str | None], ...]
    labels_per_answer: float
    unknown: Mapping[str, int]

    @property
    def metrics(self) -> dict[str, float]:
        """Name -> score, in 0..1 except ``labels_per_answer``."""
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
        predicted: N lists of words; None for an unanswered clip.
        labels: The closed set (default: the labels of the truth); other true labels are mapped to it like answers.
    """
    check_lengths(truth, predicted)
    folds = CorrectedScorer(labels=tuple(labels)).label_map(truth)
    answers = [answer or () for answer in predicted]
    wanted = [folds.read((label,)) or label for label in truth]
    read = [folds.read(answer) for answer in answers]
    return EmotionReport(
        scores=classification_scores(wanted, read, tuple(dict.fromkeys([*wanted, *folds.labels]))),
        sets=WheelScores(_named_rows(folds, wanted, answers)),
        pairs=tuple(zip(wanted, read, strict=True)),
        labels_per_answer=sum(map(len, answers)) / len(answers),
        unknown=unknown_words(answers),
    )


def unknown_words(answers: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return the words missing from the lexicon with their counts, most frequent first."""
    counts = Counter(part for answer in answers for label in answer for part in pieces(label))
    missing = {part: n for part, n in counts.items() if look_up(part) is None}
    return dict(sorted(missing.items(), key=lambda item: (-item[1], item[0])))


def _named_rows(folds: LabelMap, truth: Sequence[str], answers: Sequence[Sequence[str]]) -> Rows:
    """Return float64[1, N, 2]: precision and recall of all classes of an answer against one true class."""
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
