"""Calibration by hand, against scikit-learn, and as properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from nanoemox.scoring import expected_calibration_error, reliability_table
from nanoemox.types import NanoEmoXError

answers = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80)


def test_by_hand() -> None:
    confidence, correct = [0.1, 0.4, 0.6, 0.9, 1.0], [False, True, True, True, False]
    table = reliability_table(confidence, correct, num_bins=2)
    assert [(b.low, b.high, b.count) for b in table] == [(0.0, 0.5, 2), (0.5, 1.0, 3)]
    assert [b.accuracy for b in table] == pytest.approx([1 / 2, 2 / 3])
    assert [b.confidence for b in table] == pytest.approx([0.25, 2.5 / 3])
    assert expected_calibration_error(confidence, correct, 2) == pytest.approx(2 / 5 * 0.25 + 3 / 5 * (0.5 / 3))


def test_bins_include_their_upper_edge_and_the_first_zero() -> None:
    assert [b.count for b in reliability_table([0.0, 0.5, 1.0], [1, 1, 1], 2)] == [2, 1]


def test_empty_bins_are_none() -> None:
    empty = reliability_table([0.9], [True], 10)[0]
    assert (empty.count, empty.accuracy, empty.confidence) == (0, None, None)


@given(answers, st.integers(1, 20))
def test_equal_to_scikit_learn(rows: list[tuple[float, bool]], num_bins: int) -> None:
    confidence, correct = np.array([c for c, _ in rows]), np.array([r for _, r in rows])
    share, mean = calibration_curve(correct, confidence, n_bins=num_bins, pos_label=True)
    filled = [b for b in reliability_table(confidence, correct, num_bins) if b.count]
    assert [b.accuracy for b in filled] == pytest.approx(share)
    assert [b.confidence for b in filled] == pytest.approx(mean)
    weights = np.array([b.count for b in filled]) / len(rows)
    error = expected_calibration_error(confidence, correct, num_bins)
    assert error == pytest.approx(float((weights * np.abs(share - mean)).sum()), abs=1e-12)


@given(answers, st.integers(1, 20))
def test_properties(rows: list[tuple[float, bool]], num_bins: int) -> None:
    confidence, correct = [c for c, _ in rows], [r for _, r in rows]
    error = expected_calibration_error(confidence, correct, num_bins)
    assert 0 <= error <= 1
    assert expected_calibration_error(confidence[::-1], correct[::-1], num_bins) == pytest.approx(error, abs=1e-12)
    assert sum(b.count for b in reliability_table(confidence, correct, num_bins)) == len(rows)
    # Any binning hides miscalibration, never adds to it.
    assert error >= abs(np.mean(correct) - np.mean(confidence)) - 1e-12


def test_extremes_of_calibration_error() -> None:
    assert expected_calibration_error([1.0] * 4, [True] * 4) == 0
    assert expected_calibration_error([1.0] * 4, [False] * 4) == 1


@pytest.mark.parametrize(
    ("confidence", "correct", "num_bins", "message"),
    [
        ([], [], 10, "0 samples"),
        ([0.5], [True, False], 10, "one length"),
        ([80.0], [True], 10, r"80.0 is not in 0..1"),
        ([float("nan")], [True], 10, "nan is not in"),
        ([0.5], [0.3], 10, "other than 0 and 1"),
        ([0.5], [True], 0, "num_bins is 0"),
    ],
)
def test_mistakes_are_named(confidence: list[float], correct: list[float], num_bins: int, message: str) -> None:
    with pytest.raises(NanoEmoXError, match=message):
        expected_calibration_error(confidence, correct, num_bins)
