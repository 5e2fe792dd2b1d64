"""Krippendorff's alpha, against the worked examples of Krippendorff, 2011."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from nanoemox.scoring.agreement import LEVELS, Level, krippendorff_alpha
from nanoemox.types import NanoEmoXError

_ = np.nan
# Section C of the paper: four observers, twelve units, missing values.
FOUR = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_published_example_with_missing_values(level: Level, alpha: float) -> None:
    assert krippendorff_alpha(FOUR, level) == pytest.approx(alpha, abs=5e-4)


def test_published_examples_of_two_observers() -> None:
    binary = [[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]
    assert krippendorff_alpha(binary, "nominal") == pytest.approx(0.095, abs=5e-4)
    letters = [[ord(c) for c in word] for word in ("aabbdcccedda", "babbbccceddd")]
    assert krippendorff_alpha(letters, "nominal") == pytest.approx(0.692, abs=5e-4)


@pytest.mark.parametrize("level", LEVELS)
def test_properties(level: Level) -> None:
    alpha = krippendorff_alpha(FOUR, level)
    for order in permutations(FOUR):
        assert krippendorff_alpha(list(order), level) == pytest.approx(alpha)
    lonely = np.hstack([np.asarray(FOUR), [[9], [_], [_], [_]]])
    assert krippendorff_alpha(lonely, level) == pytest.approx(alpha)
    assert krippendorff_alpha([[1, 2, 3], [1, 2, 3]], level) == 1
    noise = np.random.default_rng(0).integers(1, 6, (3, 4000))
    assert krippendorff_alpha(noise, level) == pytest.approx(0, abs=0.03)


def test_interval_agrees_with_the_definition_by_pairs() -> None:
    table = np.asarray(FOUR)
    units = [column[~np.isnan(column)] for column in table.T]
    units = [u for u in units if len(u) >= 2]
    everything = np.concatenate(units)
    observed = sum(((u[:, None] - u) ** 2).sum() / (len(u) - 1) for u in units) / len(everything)
    expected = ((everything[:, None] - everything) ** 2).sum() / (len(everything) * (len(everything) - 1))
    assert krippendorff_alpha(FOUR, "interval") == pytest.approx(1 - observed / expected, abs=1e-12)


def test_where_it_is_not_defined() -> None:
    assert krippendorff_alpha([[1, 2, 3]], "ordinal") is None
    assert krippendorff_alpha([[1, _], [_, 2]], "ordinal") is None
    assert krippendorff_alpha([[4, 4], [4, 4]], "ordinal") is None
    assert krippendorff_alpha(np.empty((2, 0)), "nominal") is None


def test_hostile_ratings() -> None:
    with pytest.raises(NanoEmoXError, match="raters x units"):
        krippendorff_alpha([1, 2], "nominal")
    with pytest.raises(NanoEmoXError, match="raters x units"):
        krippendorff_alpha([[1, np.inf]], "nominal")
    with pytest.raises(NanoEmoXError, match="there are nominal"):
        krippendorff_alpha(FOUR, "ratio")
