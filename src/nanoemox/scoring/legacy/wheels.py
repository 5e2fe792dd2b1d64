"""Scores of emotion words on emotion wheels.

As in MER-UniBench (Lian et al., AffectGPT, ICML 2025): every wheel maps words to its inner classes, answers are
compared as sets of classes, and scores are averaged over the wheels. The scorers ``legacy`` and ``corrected``
implement ``WheelScorer`` and differ in the mapping and in the excluded samples.

Letters: ``W`` wheels, ``N`` samples, ``R`` resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nanoemox.scoring.metrics.bootstrap import Statistic
from nanoemox.types import NanoEmoXError

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class WheelScores:
    """Scores of sets of emotion words on W wheels, each in 0..1.

    A sample has a precision |P & T| / |P| and a recall |P & T| / |T| of classes on each wheel, both 0 without a
    prediction. A wheel's precision and recall are means over its counted samples, its F their harmonic mean; the total
    scores are means over the wheels with counted samples.

    Attributes:
        rows: float64[W, N, 2], precision and recall of every sample; NaN if it is excluded.
    """

    rows: Rows

    @property
    def per_wheel(self) -> Rows:
        """float64[W, 3]: F, precision and recall; NaN for a wheel without counted samples."""
        return _per_wheel(self.rows, np.arange(self.rows.shape[1])[None])[:, 0]

    @property
    def counted(self) -> tuple[int, ...]:
        """Number of counted samples, per wheel."""
        return tuple(int(n) for n in (~np.isnan(self.rows[..., 1])).sum(1))

    @property
    def n(self) -> int:
        """Number of samples, N."""
        return int(self.rows.shape[1])

    @property
    def f1(self) -> float:
        """Mean over wheels of F."""
        return self._mean("f1")

    @property
    def precision(self) -> float:
        """Mean over wheels of mean precision."""
        return self._mean("precision")

    @property
    def recall(self) -> float:
        """Mean over wheels of mean recall."""
        return self._mean("recall")

    @property
    def hit_rate(self) -> float:
        """Recall; if the truth is one word, the share of samples whose answer contains its class."""
        return self.recall

    def statistic(self, name: str) -> Statistic:
        """Return ``f1``, ``precision`` or ``recall`` (``hit_rate``) as a function of resampled indices."""
        column = {"f1": 0, "precision": 1, "recall": 2, "hit_rate": 2}[name]

        def of(indices: npt.NDArray[np.int64]) -> Rows:
            return _over_wheels(_per_wheel(self.rows, indices)[..., column])

        return of

    def _mean(self, name: str) -> float:
        return float(self.statistic(name)(np.arange(self.n)[None])[0])


class WheelScorer(Protocol):
    """A scorer of emotion words."""

    def set_scores(self, truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> WheelScores:
        """Score sets of words against sets of words (open vocabulary)."""
        ...

    def hit_rate(self, truth: Sequence[str], predicted: Sequence[Sequence[str]]) -> WheelScores:
        """Score sets of words against one word each (emotion recognition); ``hit_rate`` is the field's score."""
        ...


def _per_wheel(rows: Rows, indices: npt.NDArray[np.int64]) -> Rows:
    """Return float64[W, R, 3]: F, precision and recall of each wheel on resampled samples; NaN if none counts."""
    out = np.full((len(rows), len(indices), 3), np.nan)
    for w, wheel in enumerate(rows):
        counts = ~np.isnan(wheel[:, 1])
        kept = counts[indices].sum(1)
        scored = kept > 0
        for column, values in enumerate(np.where(counts[:, None], wheel, 0.0).T, 1):
            np.divide(values[indices].sum(1), kept, out=out[w, :, column], where=scored)
        total = out[w, :, 1] + out[w, :, 2]
        product = 2 * out[w, :, 1] * out[w, :, 2]
        out[w, :, 0] = np.where(scored, np.divide(product, total, out=np.zeros_like(total), where=total > 0), np.nan)
    return out


def _over_wheels(scores: Rows) -> Rows:
    """Return float64[R]: the mean over wheels with counted samples, 0 if there are none."""
    counted = ~np.isnan(scores)
    total = np.where(counted, scores, 0.0).sum(0)
    means: Rows = np.divide(total, counted.sum(0), out=np.zeros_like(total), where=counted.any(0))
    return means


def check_lengths(truth: Sequence[object], predicted: Sequence[object]) -> None:
    """Raise unless there is one prediction per sample, and at least one sample."""
    if len(truth) != len(predicted):
        raise NanoEmoXError(f"{len(truth)} true labels but {len(predicted)} predictions; give one per sample")
    if not truth:
        raise NanoEmoXError("0 samples to score; at least 1 is needed")
