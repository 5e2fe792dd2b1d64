"""Calibration: whether a model with a confidence of 80 % is right in 80 % of cases.

Letters: ``N`` samples, ``M`` bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanoemox.types import NanoEmoXError


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bar of a reliability diagram: answers with confidence ``low < c <= high`` (the first bin includes 0).

    Attributes:
        low: Lower edge.
        high: Upper edge.
        count: Answers in the bin.
        accuracy: Share of right answers, None in an empty bin.
        confidence: Mean confidence, None in an empty bin.
    """

    low: float
    high: float
    count: int
    accuracy: float | None
    confidence: float | None


def reliability_table(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, num_bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """Assign answers to M bins of equal width.

    Args:
        confidence: float[N] in 0..1, probability of the chosen answer.
        correct: bool[N], whether it was right (an abstention: confidence 0, not right).
        num_bins: M.
    """
    conf, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    _check(conf, right, num_bins)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    place = np.searchsorted(edges[1:-1], conf, side="left")
    count = np.bincount(place, minlength=num_bins)
    sum_right = np.bincount(place, weights=right, minlength=num_bins)
    sum_conf = np.bincount(place, weights=conf, minlength=num_bins)
    return tuple(
        ReliabilityBin(
            low=float(edges[m]),
            high=float(edges[m + 1]),
            count=int(count[m]),
            accuracy=float(sum_right[m] / count[m]) if count[m] else None,
            confidence=float(sum_conf[m] / count[m]) if count[m] else None,
        )
        for m in range(num_bins)
    )


def expected_calibration_error(confidence: npt.ArrayLike, correct: npt.ArrayLike, num_bins: int = 15) -> float:
    """Return sum_m |B_m| / N * |accuracy(B_m) - confidence(B_m)|, in 0..1, lower is better.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3, bins of equal width. Arguments as
    in ``reliability_table``.
    """
    table = reliability_table(confidence, correct, num_bins)
    gaps = (
        b.count * abs(b.accuracy - b.confidence) for b in table if b.accuracy is not None and b.confidence is not None
    )
    return float(sum(gaps) / sum(b.count for b in table))


def _check(conf: npt.NDArray[np.float64], right: npt.NDArray[np.float64], num_bins: int) -> None:
    if num_bins < 1:
        raise NanoEmoXError(f"num_bins is {num_bins}; at least 1 is needed")
    if conf.ndim != 1 or conf.shape != right.shape:
        raise NanoEmoXError(f"confidence {conf.shape} and correct {right.shape} must be two lists of one length")
    if not conf.size:
        raise NanoEmoXError("0 samples to score; at least 1 is needed")
    if not bool(np.all((conf >= 0) & (conf <= 1))):  # also false for NaN
        bad = conf[~((conf >= 0) & (conf <= 1))][0]
        raise NanoEmoXError(f"confidence {bad} is not in 0..1; give probabilities, not logits or percentages")
    if not bool(np.all((right == 0) | (right == 1))):
        raise NanoEmoXError("correct holds values other than 0 and 1; give whether each answer was right")
