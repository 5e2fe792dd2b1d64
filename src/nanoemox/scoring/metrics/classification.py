"""Classification metrics, all computed from a confusion matrix.

Letters: ``N`` samples, ``L`` labels, ``R`` resamples. Each metric takes ``int64[..., L, L + 1]``: rows are the truth,
columns the prediction, the last column everything that is no label (an abstention, an unknown word). Leading axes are
free, so that one call scores all resamples of a bootstrap. Labels are compared as strings; ``nanoemox.tasks.parse``
parses answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanoemox.scoring.metrics.bootstrap import Statistic
from nanoemox.types import NanoEmoXError

Counts = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
Metric = Callable[[Counts], Scores]


@dataclass(frozen=True, slots=True, eq=False)
class ClassificationScores:
    """The common metrics of one set of predictions, each in 0..1.

    Attributes:
        labels: The L labels in the order of the matrix.
        confusion: int64[L, L + 1], see ``confusion_matrix``.
        precision, recall, f1: float64[L], per label; 0 without predictions or samples of the label.
        num_samples: N, abstentions included.
        num_abstained: Predictions that are None or no label.
    """

    labels: tuple[str, ...]
    confusion: Counts
    accuracy: float
    macro_f1: float
    weighted_f1: float
    weighted_precision: float
    unweighted_average_recall: float
    precision: Scores
    recall: Scores
    f1: Scores
    num_samples: int
    num_abstained: int


def confusion_matrix(
    truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str] | None = None
) -> Counts:
    """Count pairs of truth and prediction.

    Args:
        truth: N labels.
        predicted: N predictions; None is an abstention.
        labels: The L labels in order (default: all in truth or predictions, sorted).

    Returns:
        int64[L, L + 1]: rows are the truth, the last column predictions that are no label.
    """
    codes, names = _codes(truth, predicted, labels)
    size = len(names)
    return np.bincount(codes, minlength=size * (size + 1)).reshape(size, size + 1).astype(np.int64)


def accuracy(confusion: Counts) -> Scores:
    """Return the accuracy, sum_i C_ii / N."""
    return _divide(_hits(confusion).sum(-1), confusion.sum((-1, -2)))


def macro_f1(confusion: Counts) -> Scores:
    """Return the mean of the labels' F1 = 2 TP / (2 TP + FP + FN).

    A label that occurs neither in the truth nor in the predictions has no F1 and is left out, as in scikit-learn's
    ``f1_score(average="macro")``.
    """
    support, named = _support(confusion), _named(confusion)
    return _divide(_f1(confusion).sum(-1), (support + named > 0).sum(-1))


def weighted_f1(confusion: Counts) -> Scores:
    """Return the F1 of the labels averaged by their share of the truth ("WAF" in this field)."""
    support = _support(confusion)
    return _divide((_f1(confusion) * support).sum(-1), support.sum(-1))


def weighted_precision(confusion: Counts) -> Scores:
    """Return the precision TP / (TP + FP) of the labels averaged by their share of the truth."""
    support = _support(confusion)
    return _divide((_divide(_hits(confusion), _named(confusion)) * support).sum(-1), support.sum(-1))


def unweighted_average_recall(confusion: Counts) -> Scores:
    """Return the mean recall TP / (TP + FN) of the labels that occur in the truth.

    The standard score of speech emotion recognition (Schuller et al., INTERSPEECH 2009); balanced accuracy elsewhere.
    """
    support = _support(confusion)
    return _divide(_divide(_hits(confusion), support).sum(-1), (support > 0).sum(-1))


def classification_scores(
    truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str] | None = None
) -> ClassificationScores:
    """Return all metrics of this module for one set of predictions."""
    names = _names(truth, predicted, labels)
    confusion = confusion_matrix(truth, predicted, names)
    return ClassificationScores(
        labels=names,
        confusion=confusion,
        accuracy=float(accuracy(confusion)),
        macro_f1=float(macro_f1(confusion)),
        weighted_f1=float(weighted_f1(confusion)),
        weighted_precision=float(weighted_precision(confusion)),
        unweighted_average_recall=float(unweighted_average_recall(confusion)),
        precision=_divide(_hits(confusion), _named(confusion)),
        recall=_divide(_hits(confusion), _support(confusion)),
        f1=_f1(confusion),
        num_samples=len(truth),
        num_abstained=int(confusion[:, -1].sum()),
    )


def confusion_statistic(
    truth: Sequence[str], predicted: Sequence[str | None], metric: Metric, labels: Sequence[str] | None = None
) -> Statistic:
    """Return ``metric`` as a function of resampled indices, for the bootstrap."""
    codes, names = _codes(truth, predicted, labels)
    cells = len(names) * (len(names) + 1)

    def statistic(indices: npt.NDArray[np.int64]) -> Scores:
        rows = np.arange(len(indices), dtype=np.int64)[:, None] * cells
        counts = np.bincount((codes[indices] + rows).ravel(), minlength=cells * len(indices))
        return metric(counts.reshape(len(indices), len(names), len(names) + 1).astype(np.int64))

    return statistic


def _names(truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str] | None) -> tuple[str, ...]:
    if labels is not None:
        return tuple(dict.fromkeys(labels))
    return tuple(sorted({*truth, *(label for label in predicted if label is not None)}))


def _codes(
    truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str] | None
) -> tuple[Counts, tuple[str, ...]]:
    """Return int64[N], the cell of each sample in the flattened matrix, and the labels."""
    if len(truth) != len(predicted):
        raise NanoEmoXError(
            f"{len(truth)} true labels but {len(predicted)} predictions; give one prediction per sample"
        )
    if not truth:
        raise NanoEmoXError("0 samples to score; at least 1 is needed")
    names = _names(truth, predicted, labels)
    rank = {name: i for i, name in enumerate(names)}
    unknown = sorted(set(truth) - set(rank))
    if unknown:
        raise NanoEmoXError(f"true label {unknown[0]!r} is none of the {len(names)} labels {', '.join(names)}; add it")
    outside = len(names)
    cells = [
        rank[true] * (outside + 1) + (outside if guess is None else rank.get(guess, outside))
        for true, guess in zip(truth, predicted, strict=True)
    ]
    return np.array(cells, dtype=np.int64), names


def _hits(confusion: Counts) -> Counts:
    """Return int64[..., L], true positives of each label."""
    return np.diagonal(confusion[..., :-1], axis1=-2, axis2=-1)


def _support(confusion: Counts) -> Counts:
    """Return int64[..., L], samples of each label."""
    support: Counts = confusion.sum(-1)
    return support


def _named(confusion: Counts) -> Counts:
    """Return int64[..., L], predictions of each label."""
    named: Counts = confusion[..., :-1].sum(-2)
    return named


def _f1(confusion: Counts) -> Scores:
    return _divide(2 * _hits(confusion), _support(confusion) + _named(confusion))


def _divide(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Scores:
    """Divide, with 0 / 0 = 0."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)
