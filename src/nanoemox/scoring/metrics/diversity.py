"""Distinct-n: diversity of generated replies.

Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models", NAACL 2016. Tokens are lower
case and split at whitespace, punctuation attached, as in the protocol of the paper's ERG table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from nanoemox.scoring.metrics.bootstrap import Statistic
from nanoemox.types import NanoEmoXError


def distinct_n_values(texts: Sequence[str], n: int) -> npt.NDArray[np.float64]:
    """Return float64[N]: distinct n-grams / n-grams of each text, NaN where a text has fewer than n tokens.

    ``texts`` are replies without the chain of thought.
    """
    grams = [_grams(text, n) for text in texts]
    return np.array([len(set(g)) / len(g) if g else np.nan for g in grams], dtype=np.float64)


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Return the mean of ``distinct_n_values`` over texts that have an n-gram; 0.0 if none has.

    Paper: its Dist-1 and Dist-2 (95.47, 99.83 in percent) are of this kind. The score saturates near 1 and rewards
    short replies; ``corpus_distinct_n`` does not, and the two must not be compared.
    """
    values = distinct_n_values(texts, n)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else 0.0


def distinct_statistic(texts: Sequence[str], n: int) -> Statistic:
    """Return ``distinct_n`` as a function of resampled indices."""
    values = distinct_n_values(texts, n)
    counts = ~np.isnan(values)
    filled = np.where(counts, values, 0.0)

    def statistic(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        total, kept = filled[indices].sum(1), counts[indices].sum(1)
        means: npt.NDArray[np.float64] = np.divide(total, kept, out=np.zeros_like(total), where=kept > 0)
        return means

    return statistic


def corpus_distinct_n(texts: Iterable[str], n: int) -> float:
    """Return distinct n-grams / n-grams over all texts together; 0.0 without any n-gram.

    The score of Li et al. (2016), with n-grams instead of tokens in the denominator, as in most later work.
    N-grams do not cross from one text to the next. It falls with the number of texts: compare equal counts only.
    """
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        grams = _grams(text, n)
        seen.update(grams)
        total += len(grams)
    return len(seen) / total if total else 0.0


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    if n < 1:
        raise NanoEmoXError(f"n is {n}; an n-gram has at least 1 token")
    tokens = text.lower().split()
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
