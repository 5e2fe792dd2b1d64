"""Inter-rater agreement: Krippendorff's alpha and Fleiss' kappa.

Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011: alpha = 1 - D_observed / D_expected, from the
coincidences of values within units; ratings may be missing. Fleiss, "Measuring nominal scale agreement among many
raters", 1971: kappa = (P - P_e) / (1 - P_e), where P is the share of agreeing pairs of raters, averaged over units,
and P_e the sum of the squared shares of the values. Letters: ``R`` raters, ``U`` units, ``V`` values.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from nanoemox.types import NanoEmoXError

Level = Literal["nominal", "ordinal", "interval"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

Floats = npt.NDArray[np.float64]


def krippendorff_alpha(ratings: npt.ArrayLike, level: Level) -> float | None:
    """Return Krippendorff's alpha: 1 is perfect agreement, 0 chance, below 0 systematic disagreement.

    Args:
        ratings: float[R, U], NaN for missing ratings.
        level: Level of measurement: ``nominal``, ``ordinal`` or ``interval``.

    Returns:
        Alpha, or None if it is undefined: no unit has two ratings, or all ratings are equal.

    Raises:
        NanoEmoXError: Ratings of another shape, infinite ratings, or an unknown level.
    """
    table = np.asarray(ratings, np.float64)
    if table.ndim != 2 or bool(np.isinf(table).any()):
        raise NanoEmoXError(f"ratings of shape {table.shape} must be finite raters x units, NaN for missing ones")
    if level not in LEVELS:
        raise NanoEmoXError(f"level {level!r}: the levels are {', '.join(LEVELS)}")
    pairable = table[:, (~np.isnan(table)).sum(0) >= 2]
    if pairable.size == 0:
        return None
    values = np.unique(pairable[~np.isnan(pairable)])
    counts = (pairable[None] == values[:, None, None]).sum(1).astype(np.float64)  # [V, U]
    weights = 1 / (counts.sum(0) - 1)
    coincidences = (counts * weights) @ counts.T - np.diag((counts * weights).sum(1))
    totals = coincidences.sum(1)
    distance = _distance(values, totals, level)
    expected = float((np.outer(totals, totals) * distance).sum())
    if expected == 0:
        return None
    return 1 - (float(totals.sum()) - 1) * float((coincidences * distance).sum()) / expected


def fleiss_kappa(ratings: npt.ArrayLike) -> float | None:
    """Return Fleiss' kappa of nominal values: 1 is perfect agreement, 0 chance.

    Args:
        ratings: float[R, U]; no rating may be missing.

    Returns:
        Kappa, or None if it is undefined: fewer than two raters, no unit, or all ratings are equal.

    Raises:
        NanoEmoXError: Ratings of another shape, or missing ones.
    """
    table = np.asarray(ratings, np.float64)
    if table.ndim != 2 or not bool(np.isfinite(table).all()):
        raise NanoEmoXError(f"ratings of shape {table.shape} must be finite raters x units, none missing, for kappa")
    num_raters, num_units = table.shape
    values = np.unique(table)
    if num_raters < 2 or num_units == 0 or len(values) == 1:
        return None
    counts = (table[None] == values[:, None, None]).sum(1)  # [V, U]
    agreement: float = (counts * (counts - 1)).sum() / (num_units * num_raters * (num_raters - 1))
    chance: float = ((counts.sum(1) / counts.sum()) ** 2).sum()
    return float((agreement - chance) / (1 - chance))


def _distance(values: Floats, totals: Floats, level: Level) -> Floats:
    """Return float64[V, V], the squared differences of values."""
    if level == "nominal":
        return 1 - np.eye(len(values))
    # The position of a rank is the middle of its ratings, so that a distance counts half of both ends.
    places = values if level == "interval" else np.cumsum(totals) - totals / 2
    squared: Floats = np.subtract.outer(places, places) ** 2
    return squared
