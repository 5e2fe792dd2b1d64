"""Bootstrap intervals and paired comparisons, over samples or clusters of samples.

Samples of one speaker or dialogue are not independent. With ``clusters``, whole clusters are drawn with replacement
(Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8); resampling single samples would
give too narrow intervals.

Resampling K clusters underestimates the variance by (K - 1) / K, and for small K the distribution is not normal.
Intervals of clusters are therefore expanded (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015,
section 4.2): the percentiles are those at which a normal variable exceeds sqrt(K / (K - 1)) times the quantile of
Student's t with K - 1 degrees of freedom. p-values are corrected in the same way. Beyond about fifty clusters the
effect is negligible.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile interval, chapter 13); paired comparison
of two systems on the same samples as in Koehn, EMNLP 2004. Letters: ``N`` samples, ``R`` resamples.

A ``Statistic`` is a function of int64[R, N] indices that returns float64[R], one score per resample.
``mean_statistic``, ``classification.confusion_statistic`` and ``wheels.WheelScores.statistic`` return them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import atan, cos, pi, sin, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from nanoemox.types import NanoEmoXError

Indices = npt.NDArray[np.int64]
Statistic = Callable[[Indices], npt.NDArray[np.float64]]

_MAX_INDICES: Final = 2_000_000
"""Limit of indices drawn at a time: 16 MB for any N and R."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A score with its percentile interval.

    Attributes:
        estimate: The score on the original samples.
        low: Lower end.
        high: Upper end.
        level: Coverage, 0.95 for a 95 % interval.
        num_resamples: R.
        num_clusters: Number of clusters; N without clusters.
    """

    estimate: float
    low: float
    high: float
    level: float
    num_resamples: int
    num_clusters: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of systems A and B on the same samples.

    Attributes:
        interval: Interval of score(A) - score(B).
        p_value: Two-sided: twice the smaller share of resamples with a difference <= 0 or >= 0, at most 1. The
            observed sample is included, so it is never 0. With one sample, or one cluster, it is 1.
    """

    interval: Interval
    p_value: float


def mean_statistic(values: npt.ArrayLike) -> Statistic:
    """Return the mean of float[N] ``values`` (one score per sample, booleans allowed) as a function of indices."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not bool(np.isfinite(array).all()):
        raise NanoEmoXError(f"values of shape {array.shape} must be one list of finite numbers; drop NaN first")

    def statistic(indices: Indices) -> npt.NDArray[np.float64]:
        means: npt.NDArray[np.float64] = array[indices].mean(1)
        return means

    return statistic


def bootstrap_interval(
    statistic: Statistic,
    num_samples: int,
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the score and its percentile interval.

    Args:
        statistic: Score as a function of indices.
        num_samples: N, number of samples of the statistic.
        clusters: The cluster of each of the N samples; None resamples single samples. With one cluster the interval
            has width 0.
        level: Coverage of the interval, in 0..1.
        num_resamples: R.
        seed: Seed of the resampling; equal seeds draw equal resamples.
    """
    _check(num_samples, level, num_resamples)
    members = _members(num_samples, clusters)
    scores = np.concatenate([statistic(block) for block in _blocks(members, num_resamples, seed)])
    return _interval(_on_all(statistic, num_samples), scores, level, members, clusters is not None)


def bootstrap_difference(
    first: Statistic,
    second: Statistic,
    num_samples: int,
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Return the difference ``first`` - ``second`` on the same resamples; arguments as in ``bootstrap_interval``."""
    _check(num_samples, level, num_resamples)
    members = _members(num_samples, clusters)
    blocks = _blocks(members, num_resamples, seed)
    scores = np.concatenate([first(block) - second(block) for block in blocks])
    observed = _on_all(first, num_samples) - _on_all(second, num_samples)
    # Adding the observed sample keeps the p-value valid (North, Curtis and Sham, 2002).
    below, above = (1 + int((scores <= 0).sum())), (1 + int((scores >= 0).sum()))
    tail = min(0.5, min(below, above) / (num_resamples + 1))
    if len(members) < 2:
        tail = 0.5  # one sample, or one cluster, shows nothing
    elif clusters is not None:
        tail = student_tail(-NormalDist().inv_cdf(tail) / sqrt(_inflation(len(members))), len(members) - 1)
    return Difference(_interval(observed, scores, level, members, clusters is not None), 2 * tail)


def _members(num_samples: int, clusters: Sequence[Hashable] | None) -> list[Indices]:
    """Return int64[n_k] indices of the samples of each cluster k."""
    if clusters is None:
        return list(np.arange(num_samples, dtype=np.int64)[:, None])
    if len(clusters) != num_samples:
        raise NanoEmoXError(f"{len(clusters)} clusters for {num_samples} samples; name one for each sample")
    found: dict[Hashable, list[int]] = {}
    for place, cluster in enumerate(clusters):
        found.setdefault(cluster, []).append(place)
    return [np.array(places, np.int64) for places in found.values()]


def _blocks(members: Sequence[Indices], num_resamples: int, seed: int) -> Iterator[Indices]:
    """Yield int64[r, n], the indices of all resamples in blocks of equal size n."""
    generator = np.random.default_rng(seed)
    sizes = np.array([len(places) for places in members], np.int64)
    rows = max(1, _MAX_INDICES // int(sizes.sum()))
    for start in range(0, num_resamples, rows):
        shape = (min(rows, num_resamples - start), len(members))
        drawn = generator.integers(0, len(members), size=shape, dtype=np.int64)
        if len(members) == sizes.sum():
            yield np.concatenate(members)[drawn]
            continue
        lengths = sizes[drawn].sum(1)
        for length in np.unique(lengths):
            same = drawn[lengths == length]
            yield np.stack([np.concatenate([members[k] for k in row]) for row in same])


def _on_all(statistic: Statistic, num_samples: int) -> float:
    return float(statistic(np.arange(num_samples, dtype=np.int64)[None])[0])


def _interval(
    estimate: float, scores: npt.NDArray[np.float64], level: float, members: Sequence[Indices], clustered: bool
) -> Interval:
    tail = (1 - level) / 2
    if clustered and len(members) > 1:
        wanted = sqrt(_inflation(len(members))) * student_quantile(tail, len(members) - 1)
        tail = NormalDist().cdf(-wanted)
    low, high = np.quantile(scores, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high), level, len(scores), len(members))


def _inflation(num_clusters: int) -> float:
    return num_clusters / (num_clusters - 1)


def student_tail(value: float, freedom: int) -> float:
    """Return P(T > value >= 0) of Student's t (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = atan(value / sqrt(freedom))
    odd = freedom % 2 == 1
    term, total = (cos(angle), 0.0) if odd else (1.0, 0.0)
    for k in range(3 if odd else 2, freedom + 1, 2):
        total += term
        term *= (k - 1) / k * cos(angle) ** 2
    within = 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
    return max(0.0, (1 - within) / 2)


def student_quantile(tail: float, freedom: int) -> float:
    """Return the value that Student's t exceeds with probability ``tail``, by bisection."""
    low, high = 0.0, 1.0
    while student_tail(high, freedom) > tail:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, freedom) > tail else (low, middle)
    return high


def _check(num_samples: int, level: float, num_resamples: int) -> None:
    if num_samples < 1:
        raise NanoEmoXError(f"{num_samples} samples to resample; at least 1 is needed")
    if not 0 < level < 1:
        raise NanoEmoXError(f"level is {level}; give a number between 0 and 1, such as 0.95")
    if num_resamples < 1:
        raise NanoEmoXError(f"num_resamples is {num_resamples}; at least 1 is needed (2000 is usual)")
