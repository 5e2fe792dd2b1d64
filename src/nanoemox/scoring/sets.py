"""Scores of label sets, for open-vocabulary emotion recognition.

As in MER-UniBench (Lian et al., AffectGPT, 2025): precision and recall are averaged over samples, and F is the
harmonic mean of the two averages. The mapping of words onto emotion wheels happens before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanoemox.scoring.bootstrap import Statistic
from nanoemox.types import NanoEmoXError


@dataclass(frozen=True, slots=True)
class SetScores:
    """Sample-averaged scores of label sets, in 0..1.

    Attributes:
        f1: Harmonic mean of ``precision`` and ``recall``, 0 where both are 0.
        precision: Mean over samples of |P & T| / |P|.
        recall: Mean over samples of |P & T| / |T|.
        num_samples: Samples whose truth is not empty; only they are scored.
    """

    f1: float
    precision: float
    recall: float
    num_samples: int


def set_precision_recall(
    truth: Sequence[Collection[str]], predicted: Sequence[Collection[str] | None]
) -> npt.NDArray[np.float64]:
    """Return float64[K, 2], precision and recall of the K samples whose truth is not empty.

    An empty or missing prediction has precision and recall 0. Repeated labels count once.
    """
    if len(truth) != len(predicted):
        raise NanoEmoXError(f"{len(truth)} true sets but {len(predicted)} predictions; give one prediction per sample")
    rows = []
    for true, guess in zip(truth, predicted, strict=True):
        wanted, given = _as_set(true), _as_set(guess or ())
        if wanted:
            common = len(wanted & given)
            rows.append((common / max(len(given), 1), common / len(wanted)))
    if not rows:
        raise NanoEmoXError(f"0 of {len(truth)} samples have a true label; at least 1 is needed")
    return np.array(rows, dtype=np.float64)


def set_scores(truth: Sequence[Collection[str]], predicted: Sequence[Collection[str] | None]) -> SetScores:
    """Return sample-averaged precision and recall and the F of these averages."""
    rows = set_precision_recall(truth, predicted)
    precision, recall = rows.mean(0)
    return SetScores(float(_f1(precision, recall)), float(precision), float(recall), len(rows))


def set_f1_statistic(truth: Sequence[Collection[str]], predicted: Sequence[Collection[str] | None]) -> Statistic:
    """Return the F of the averages as a function of resampled indices into the K scored samples, for the bootstrap."""
    rows = set_precision_recall(truth, predicted)

    def statistic(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        means = rows[indices].mean(1)
        return _f1(means[:, 0], means[:, 1])

    return statistic


def _as_set(labels: Collection[str]) -> set[str]:
    if isinstance(labels, str):  # a string is a collection of its letters: never what was meant
        raise NanoEmoXError(f"{labels!r} is a string where a list of labels is needed; split it first")
    return set(labels)


def _f1(precision: npt.ArrayLike, recall: npt.ArrayLike) -> npt.NDArray[np.float64]:
    p, r = np.asarray(precision, np.float64), np.asarray(recall, np.float64)
    return np.divide(2 * p * r, p + r, out=np.zeros_like(p), where=p + r > 0)
