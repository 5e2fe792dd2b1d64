"""Intervals and paired comparisons by resampling the evaluated samples.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile interval, chapter 13); paired comparison
of two systems on the same samples as in Koehn, EMNLP 2004. Letters: ``N`` samples, ``R`` resamples.

What is resampled is a ``Statistic``: a function of int64[R, N] indices that returns float64[R], one score a resample.
``mean_statistic``, ``classification.confusion_statistic`` and ``wheels.WheelScores.statistic`` make them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from nanoemox.types import NanoEmoXError

Indices = npt.NDArray[np.int64]
Statistic = Callable[[Indices], npt.NDArray[np.float64]]

_MAX_INDICES: Final = 2_000_000
"""Indices drawn at a time: 16 MB, whatever N and R are."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A score with its percentile interval.

    Attributes:
        estimate: The score on the samples themselves.
        low: Lower end.
        high: Upper end.
        level: Coverage, 0.95 for a 95 % interval.
        num_resamples: R.
    """

    estimate: float
    low: float
    high: float
    level: float
    num_resamples: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better system A is than system B on the same samples.

    Attributes:
        interval: Of score(A) - score(B).
        p_value: Two-sided: twice the smaller share of resamples in which the difference is <= 0 or >= 0, the
            observed sample counted among them, so that it is never 0; at most 1.
    """

    interval: Interval
    p_value: float


def mean_statistic(values: npt.ArrayLike) -> Statistic:
    """Return the mean of float[N] ``values`` (one score a sample, booleans allowed) as a function of indices."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not bool(np.isfinite(array).all()):
        raise NanoEmoXError(f"values of shape {array.shape} must be one list of finite numbers; drop NaN first")

    def statistic(indices: Indices) -> npt.NDArray[np.float64]:
        means: npt.NDArray[np.float64] = array[indices].mean(1)
        return means

    return statistic


def bootstrap_interval(
    statistic: Statistic, num_samples: int, *, level: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the score and its percentile interval.

    Args:
        statistic: Score as a function of indices.
        num_samples: N, how many samples the statistic was made from.
        level: Coverage of the interval, in 0..1.
        num_resamples: R.
        seed: Seed of the resampling; equal seeds draw equal resamples.
    """
    _check(num_samples, level, num_resamples)
    scores = np.concatenate([statistic(block) for block in _blocks(num_samples, num_resamples, seed)])
    return _interval(_on_all(statistic, num_samples), scores, level)


def bootstrap_difference(
    first: Statistic,
    second: Statistic,
    num_samples: int,
    *,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Return how much ``first`` exceeds ``second``, both scored on the same resamples of the same samples."""
    _check(num_samples, level, num_resamples)
    blocks = _blocks(num_samples, num_resamples, seed)
    scores = np.concatenate([first(block) - second(block) for block in blocks])
    observed = _on_all(first, num_samples) - _on_all(second, num_samples)
    # Adding the observed sample keeps the p-value valid (North, Curtis and Sham, 2002).
    below, above = (1 + int((scores <= 0).sum())), (1 + int((scores >= 0).sum()))
    p_value = min(1.0, 2 * min(below, above) / (num_resamples + 1))
    return Difference(_interval(observed, scores, level), p_value)


def _blocks(num_samples: int, num_resamples: int, seed: int) -> Iterator[Indices]:
    """Yield the int64[R, N] indices of all resamples, a few rows at a time."""
    generator = np.random.default_rng(seed)
    rows = max(1, _MAX_INDICES // num_samples)
    for start in range(0, num_resamples, rows):
        size = (min(rows, num_resamples - start), num_samples)
        yield generator.integers(0, num_samples, size=size, dtype=np.int64)


def _on_all(statistic: Statistic, num_samples: int) -> float:
    return float(statistic(np.arange(num_samples, dtype=np.int64)[None])[0])


def _interval(estimate: float, scores: npt.NDArray[np.float64], level: float) -> Interval:
    tail = (1 - level) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high), level, len(scores))


def _check(num_samples: int, level: float, num_resamples: int) -> None:
    if num_samples < 1:
        raise NanoEmoXError(f"{num_samples} samples to resample; at least 1 is needed")
    if not 0 < level < 1:
        raise NanoEmoXError(f"level is {level}; give a share between 0 and 1, such as 0.95")
    if num_resamples < 1:
        raise NanoEmoXError(f"num_resamples is {num_resamples}; at least 1 is needed (2000 is usual)")
