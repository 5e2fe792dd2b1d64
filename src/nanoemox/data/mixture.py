"""Stateless sampling from several sources by position: exact ratios, shuffled epochs.

Weights count samples, not batches or data sets. Positions are cut into blocks of 1000; each block holds every source
as often as its weight says (largest remainders), shuffled. The n-th draw of a source takes the n-th entry of that
source's own shuffled epochs. All of it is a function of seed and position, so a resumed run, or another rank at
another position, needs nothing but the number.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nanoemox.data.manifest import Sample
from nanoemox.types import RecipeError

BLOCK = 1000
"""Positions in a block: ratios are exact to 0.1 % of the whole in each."""
Indices = npt.NDArray[np.int64]


def seeded(*key: str | int) -> np.random.Generator:
    """Return a generator that depends on nothing but its key."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


class Mixture:
    """Samples of several sources, drawn in fixed ratios.

    Args:
        sources: Name -> its samples.
        weights: Name -> weight; need not sum to one.
        seed: Another seed gives another order.
    """

    def __init__(self, sources: Mapping[str, Sequence[Sample]], weights: Mapping[str, float], seed: int) -> None:
        self.names = tuple(weights)
        self._samples = [sources[name] for name in self.names]
        empty = [name for name, samples in zip(self.names, self._samples, strict=True) if not samples]
        if empty:
            raise RecipeError(f"mixture: no sample for {', '.join(empty)}; remove the source or give its data")
        self.seed = seed
        self.counts = _counts([weights[name] for name in self.names], self.names)
        self._block = lru_cache(maxsize=8)(self._shuffled_block)
        self._epoch = lru_cache(maxsize=4 * len(self.names))(self._shuffled_epoch)

    def __getitem__(self, position: int) -> tuple[str, Sample]:
        """Return source name and sample at a position >= 0."""
        number, at = divmod(position, BLOCK)
        which, ranks = self._block(number)
        source = int(which[at])
        nth = number * int(self.counts[source]) + int(ranks[at])
        epoch, index = divmod(nth, len(self._samples[source]))
        return self.names[source], self._samples[source][int(self._epoch(source, epoch)[index])]

    def _shuffled_block(self, number: int) -> tuple[Indices, Indices]:
        """Return for each position of a block its source, and how many of that source came before in the block."""
        which = seeded(self.seed, "block", number).permutation(np.repeat(np.arange(len(self.names)), self.counts))
        ranks = np.zeros(BLOCK, np.int64)
        for source in range(len(self.names)):
            mask = which == source
            ranks[mask] = np.arange(mask.sum())
        return which, ranks

    def _shuffled_epoch(self, source: int, epoch: int) -> Indices:
        return seeded(self.seed, self.names[source], epoch).permutation(len(self._samples[source]))


class BalancedMixture:
    """A mixture whose weights change at known positions; between two changes it is a :class:`Mixture`."""

    def __init__(self, sources: Mapping[str, Sequence[Sample]], weights: Mapping[str, float], seed: int) -> None:
        self.seed = seed
        self._sources = sources
        self._starts = [0]
        self._parts = [Mixture(sources, weights, seed)]

    def change(self, position: int, weights: Mapping[str, float]) -> None:
        """Change the weights from a position on, which must lie after the last change."""
        if position <= self._starts[-1]:
            raise RecipeError(f"mixture: weights change at {self._starts[-1]} already, cannot at {position}")
        self._starts.append(position)
        # Another seed: a part begins with new epochs and must not repeat the start of the one before.
        self._parts.append(Mixture(self._sources, weights, self.seed + position))

    def __getitem__(self, position: int) -> tuple[str, Sample]:
        """Return source name and sample at a position >= 0."""
        part = bisect_right(self._starts, position) - 1
        return self._parts[part][position - self._starts[part]]


def _counts(weights: Sequence[float], names: Sequence[str]) -> Indices:
    """Share a block among the sources by largest remainders."""
    share = np.array(weights, np.float64)
    if not len(share) or not np.isfinite(share).all() or (share <= 0).any():
        raise RecipeError(f"mixture: weights must be positive, got {dict(zip(names, weights, strict=True))}")
    share = share / share.sum() * BLOCK
    counts = np.floor(share).astype(np.int64)
    rest = np.argsort(-(share - counts), kind="stable")[: BLOCK - counts.sum()]
    counts[rest] += 1
    if (counts == 0).any():
        small = [name for name, count in zip(names, counts, strict=True) if count == 0]
        raise RecipeError(f"mixture: the weight of {', '.join(small)} is below {1 / BLOCK:.1%} of the whole")
    return counts
