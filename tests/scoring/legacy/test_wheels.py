"""Scores on emotion wheels by hand, against scikit-learn, and as functions of resampled clips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from nanoemox.scoring.legacy.wheels import WheelScores
from nanoemox.scoring.legacy.words import LegacyScorer
from nanoemox.scoring.metrics.bootstrap import bootstrap_interval

NAN = float("nan")
WORDS = ("angry", "calm", "glad", "sad", "tired")
AS_WRITTEN = LegacyScorer(({word: word for word in WORDS},))
some = st.lists(st.sampled_from(WORDS), max_size=6)


def test_by_hand() -> None:
    rows = np.array(
        [[[0.5, 1.0], [1.0, 0.5], [0.0, 0.0]], [[NAN, NAN], [1.0, 1.0], [NAN, NAN]], [[NAN, NAN]] * 3]  # no wheel 3
    )
    scores = WheelScores(rows)
    assert scores.counted == (3, 1, 0)
    assert scores.n == 3
    np.testing.assert_allclose(scores.per_wheel, [[0.5] * 3, [1.0] * 3, [NAN] * 3])
    assert (scores.f1, scores.precision, scores.recall, scores.hit_rate) == (0.75,) * 4


def test_f1_is_computed_from_averages() -> None:
    scores = WheelScores(np.array([[[1.0, 0.0], [0.0, 1.0]]]))
    assert scores.f1 == 0.5
    assert WheelScores(np.zeros((1, 2, 2))).f1 == 0.0
    assert WheelScores(np.full((2, 2, 2), NAN)).f1 == 0.0


@pytest.mark.parametrize("name", ["f1", "precision", "recall", "hit_rate"])
def test_statistics_resample_clips(name: str) -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((3, 20, 2))
    rows[rng.random((3, 20)) < 0.3] = NAN
    scores = WheelScores(rows)
    statistic = scores.statistic(name)
    indices = rng.integers(0, 20, (5, 20))
    expected = [getattr(WheelScores(rows[:, row]), name) for row in indices]
    np.testing.assert_allclose(statistic(indices), expected, atol=1e-12)
    interval = bootstrap_interval(statistic, 20, num_resamples=200)
    assert interval.low < getattr(scores, name) < interval.high
    assert interval.estimate == pytest.approx(getattr(scores, name))


@given(st.lists(st.tuples(some.filter(bool), some), min_size=1, max_size=30))
def test_equal_to_scikit_learn(pairs: list[tuple[list[str], list[str]]]) -> None:
    truth, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    binarize = MultiLabelBinarizer(classes=list(WORDS))
    p, r, _, _ = precision_recall_fscore_support(
        binarize.fit_transform(truth), binarize.transform(predicted), average="samples", zero_division=0
    )
    scores = AS_WRITTEN.set_scores(truth, predicted)
    assert (scores.precision, scores.recall) == pytest.approx((p, r), abs=1e-12)
    assert scores.f1 == pytest.approx(2 * p * r / (p + r) if p + r else 0.0, abs=1e-12)
