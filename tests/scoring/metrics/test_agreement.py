"""Agreement, against published examples: of Krippendorff, 2011, for alpha; of Fleiss, 1971, for kappa."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from nanoemox.scoring.metrics.agreement import LEVELS, Level, fleiss_kappa, krippendorff_alpha
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


def test_alpha_is_none_if_undefined() -> None:
    assert krippendorff_alpha([[1, 2, 3]], "ordinal") is None
    assert krippendorff_alpha([[1, _], [_, 2]], "ordinal") is None
    assert krippendorff_alpha([[4, 4], [4, 4]], "ordinal") is None
    assert krippendorff_alpha(np.empty((2, 0)), "nominal") is None


def test_hostile_ratings() -> None:
    with pytest.raises(NanoEmoXError, match="raters x units"):
        krippendorff_alpha([1, 2], "nominal")
    with pytest.raises(NanoEmoXError, match="raters x units"):
        krippendorff_alpha([[1, np.inf]], "nominal")
    with pytest.raises(NanoEmoXError, match="the levels are nominal"):
        krippendorff_alpha(FOUR, "ratio")


# Counts of values by unit. The first is the worked example of the article "Fleiss' kappa" of Wikipedia (14 raters), the
# second the diagnoses of Fleiss, 1971, table 1 (6 psychiatrists).
FOURTEEN = """
0 0 0 0 14, 0 2 6 4 2, 0 0 3 5 6, 0 3 9 2 0, 2 2 8 1 1, 7 7 0 0 0, 3 2 6 3 0, 2 5 3 2 2, 6 5 2 1 0, 0 2 2 3 7
"""
SIX = """
0 0 0 6 0, 0 3 0 0 3, 0 1 4 0 1, 0 0 0 0 6, 0 3 0 3 0, 2 0 4 0 0, 0 0 4 0 2, 2 0 3 1 0, 2 0 0 4 0, 0 0 0 0 6,
1 0 0 5 0, 1 1 0 4 0, 0 3 3 0 0, 1 0 0 5 0, 0 2 0 3 1, 0 0 5 0 1, 3 0 0 1 2, 5 1 0 0 0, 0 2 0 4 0, 1 0 2 0 3,
0 0 0 0 6, 0 1 0 5 0, 0 2 0 1 3, 2 0 0 4 0, 1 0 0 4 1, 0 5 0 1 0, 4 0 0 0 2, 0 2 0 4 0, 1 0 5 0 0, 0 0 0 0 6
"""


def ratings_of(counts: str) -> np.ndarray:
    rows = [[int(count) for count in unit.split()] for unit in counts.split(",")]
    return np.asarray([np.repeat(np.arange(5), row) for row in rows]).T


@pytest.mark.parametrize(("counts", "kappa"), [(FOURTEEN, 0.210), (SIX, 0.430)])
def test_published_examples_of_kappa(counts: str, kappa: float) -> None:
    assert fleiss_kappa(ratings_of(counts)) == pytest.approx(kappa, abs=5e-4)


def test_kappa_by_hand_and_its_properties() -> None:
    # Two raters, four units: they agree on three; shares of the values 5/8 and 3/8.
    ratings = [[1, 1, 2, 2], [1, 1, 2, 1]]
    assert fleiss_kappa(ratings) == pytest.approx((3 / 4 - 34 / 64) / (1 - 34 / 64))
    shuffled = np.random.default_rng(0).permuted(ratings_of(SIX), axis=0)  # it does not matter who said what
    assert fleiss_kappa(shuffled) == pytest.approx(fleiss_kappa(ratings_of(SIX)))
    assert fleiss_kappa([[1, 2, 3]] * 4) == 1
    assert fleiss_kappa(np.random.default_rng(0).integers(1, 6, (3, 4000))) == pytest.approx(0, abs=0.03)


def test_kappa_is_none_if_undefined() -> None:
    for ratings in ([[1, 2, 3]], [[4, 4], [4, 4]], np.empty((2, 0)), np.empty((0, 3))):
        assert fleiss_kappa(ratings) is None
    for ratings in ([1, 2], [[1, np.inf], [1, 1]], FOUR):
        with pytest.raises(NanoEmoXError, match="none missing, for kappa"):
            fleiss_kappa(ratings)
