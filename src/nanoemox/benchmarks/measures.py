"""Compute the metrics of a task from aligned truth and answers: by the published protocol, or corrected.

``LegacyMeasures`` and ``CorrectedMeasures`` have one method per task, with the same arguments. An answer is None if a
clip has none. Every score is a fraction of one, with its function of resampled clips for intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from nanoemox.scoring.legacy.tasks import fold_truth, legacy_emotion, legacy_intent, legacy_replies, legacy_sentiment
from nanoemox.scoring.legacy.wheels import WheelScorer, WheelScores
from nanoemox.scoring.metrics.bootstrap import Statistic, mean_statistic
from nanoemox.scoring.metrics.classification import (
    ClassificationScores,
    Metric,
    accuracy,
    confusion_statistic,
    macro_f1,
    unweighted_average_recall,
    weighted_f1,
    weighted_precision,
)
from nanoemox.types import NanoEmoXError

Words = Sequence[str]
CLASSIFICATION: Final[Mapping[str, Metric]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "weighted_precision": weighted_precision,
    "unweighted_average_recall": unweighted_average_recall,
}


@dataclass(frozen=True, slots=True)
class TaskScores:
    """Scores of one task.

    Attributes:
        metrics: Name -> score; None if undefined.
        statistics: Name -> score as a function of resampled clips, and the positions of the clips that count for it
            among all that are scored.
        num_counted: Clips that count.
        per_wheel: One record per wheel, if words were scored on wheels.
        notes: Notes for the reader.
    """

    metrics: dict[str, float | None]
    statistics: dict[str, tuple[Statistic, Sequence[int]]]
    num_counted: int
    per_wheel: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Measures(Protocol):
    """A scorer of the tasks; a list per argument, one entry per clip."""

    @property
    def name(self) -> str:
        """``legacy`` or ``corrected``."""
        ...

    def emotion(self, truth: Sequence[str], answers: Sequence[Words | None], labels: Words) -> TaskScores:
        """Score emotion words against one emotion each, which is one of ``labels``."""
        ...

    def open(self, truth: Sequence[Words], answers: Sequence[Words | None]) -> TaskScores:
        """Score emotion words against emotion words."""
        ...

    def sentiment(self, truth: Sequence[str], answers: Sequence[str | None]) -> TaskScores:
        """Score sentiment against sentiment."""
        ...

    def intent(self, truth: Sequence[str], answers: Sequence[str | None], labels: Words) -> TaskScores:
        """Score written intents against labels."""
        ...

    def replies(self, truth: Sequence[str], answers: Sequence[str | None], strays: Sequence[str]) -> TaskScores:
        """Score chains and replies against the speaker's emotion; ``strays`` are replies without a truth."""
        ...


@dataclass(frozen=True, slots=True)
class LegacyMeasures:
    """The published protocol, for comparison with printed tables."""

    wheels: WheelScorer | None
    name: str = "legacy"

    def emotion(self, truth: Sequence[str], answers: Sequence[Words | None], labels: Words) -> TaskScores:
        """Return the hit rate; its precision is the protocol's unprinted "mscore"."""
        return on_wheels(self._wheels().hit_rate(truth, _lists(answers)), answers, "hit_rate")

    def open(self, truth: Sequence[Words], answers: Sequence[Words | None]) -> TaskScores:
        """Return F, precision and recall of sets."""
        return on_wheels(self._wheels().set_scores(truth, _lists(answers)), answers, "f1")

    def sentiment(self, truth: Sequence[str], answers: Sequence[str | None]) -> TaskScores:
        """Return weighted F1 and accuracy without neutral clips; everything that is not positive is negative."""
        scores = legacy_sentiment(truth, answers)
        kept = [place for place, true in enumerate(truth) if true != "neutral"]
        pairs = [(truth[k], "positive" if answers[k] == "positive" else "negative") for k in kept]
        return classified(scores, pairs, ("weighted_f1", "accuracy"), kept)

    def intent(self, truth: Sequence[str], answers: Sequence[str | None], labels: Words) -> TaskScores:
        """Return the scores of answers that equal the label exactly; unanswered clips are left out."""
        kept = [place for place, answer in enumerate(answers) if answer is not None]
        wanted = {str(k): truth[k] for k in kept}
        written = {str(k): answer for k in kept if (answer := answers[k]) is not None}
        pairs = list(zip(wanted.values(), written.values(), strict=True))
        return classified(legacy_intent(wanted, written), pairs, tuple(CLASSIFICATION), kept)

    def replies(self, truth: Sequence[str], answers: Sequence[str | None], strays: Sequence[str]) -> TaskScores:
        """Return accuracy, hit rate and variety; unanswered clips are left out, strays count for variety."""
        wanted = {str(i): word for i, word in enumerate(truth)}
        given = {str(i): text for i, text in enumerate((*answers, *strays)) if text is not None}
        scores = legacy_replies(wanted, given)
        notes = []
        if scores.unfolded is not None:
            notes = [
                f"no hit rate: the published code fails on {scores.unfolded!r}, which has none of its eight classes"
            ]
        metrics = {
            "accuracy": scores.accuracy,
            "hit_rate": scores.hit_rate,
            "distinct_1": scores.distinct_1,
            "distinct_2": scores.distinct_2,
        }
        kept = [place for place, answer in enumerate(answers) if answer is not None]
        right = [fold_truth(truth[k]) == legacy_emotion(answers[k] or "") for k in kept]
        statistics: dict[str, tuple[Statistic, Sequence[int]]]
        statistics = {"accuracy": (mean_statistic(right), kept)} if right else {}
        return TaskScores(metrics, statistics, scores.num_samples, notes=notes)

    def _wheels(self) -> WheelScorer:
        if self.wheels is None:
            raise NanoEmoXError(
                "the published scorer needs its tables: name their folder with --wheel-tables "
                "(wheel1..5.xlsx, synonym.xlsx, format.csv of the release of AffectGPT)"
            )
        return self.wheels


def on_wheels(scores: WheelScores, answers: Sequence[Words | None], headline: str) -> TaskScores:
    """Return scores on wheels; ``headline`` is ``f1`` (sets) or ``hit_rate`` (one word each)."""
    names = ("f1", "precision", "recall") if headline == "f1" else ("hit_rate", "precision")
    counted = max(scores.counted, default=0)
    metrics: dict[str, float | None] = {name: getattr(scores, name) if counted else None for name in names}
    metrics["labels_per_answer"] = sum(len(a or ()) for a in answers) / len(answers)
    columns = {"f1": 0, "precision": 1, "recall": 2, "hit_rate": 2}
    per_wheel = [
        {"wheel": w, "n": n} | {name: float(row[columns[name]]) if n else None for name in names}
        for w, (n, row) in enumerate(zip(scores.counted, scores.per_wheel, strict=True), 1)
    ]
    statistics: dict[str, tuple[Statistic, Sequence[int]]] = {
        name: (scores.statistic(name), range(scores.n)) for name in names if counted
    }
    statistics["labels_per_answer"] = labels_statistic(answers)
    notes = (
        [] if counted else ["no clip counts: the truth holds no word that this scorer knows (such as neutral alone)"]
    )
    return TaskScores(metrics, statistics, counted, per_wheel, notes)


def labels_statistic(answers: Sequence[Words | None]) -> tuple[Statistic, Sequence[int]]:
    """Return the mean number of words in an answer as a function of resampled clips, and the positions of the clips."""
    return mean_statistic([len(answer or ()) for answer in answers]), range(len(answers))


def classified(
    scores: ClassificationScores,
    pairs: Sequence[tuple[str, str | None]],
    names: Sequence[str],
    kept: Sequence[int] | None = None,
) -> TaskScores:
    """Return classification scores by name.

    Args:
        scores: The scores.
        pairs: The truths and answers that they were made from.
        names: Names of the scores.
        kept: Positions of these pairs among all scored clips; by default all of them.
    """
    truth, answers = [t for t, _ in pairs], [a for _, a in pairs]
    kept = range(len(pairs)) if kept is None else kept
    statistics = {
        name: (confusion_statistic(truth, answers, CLASSIFICATION[name], scores.labels), kept) for name in names
    }
    return TaskScores({name: getattr(scores, name) for name in names}, statistics, scores.num_samples)


def _lists(answers: Sequence[Words | None]) -> list[Words]:
    return [answer or () for answer in answers]
