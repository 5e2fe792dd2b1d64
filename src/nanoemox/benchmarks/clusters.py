"""Clusters of dependent clips: those of one speaker, else of one dialogue, video or episode.

Such clips are not independent, so intervals and paired comparisons resample clusters (``scoring.bootstrap``).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from nanoemox.benchmarks.records import Benchmark
from nanoemox.types import NanoEmoXError

By = Literal["auto", "clip"]
"""Resampled unit: ``auto`` for the largest known one, ``clip`` for single clips."""
BY: Final[tuple[By, ...]] = get_args(By)
CLIP: Final = "clip"
SPEAKER: Final = "speaker"
FEW: Final = 20
"""Below this many clusters, intervals are rough."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """The cluster of every clip.

    Attributes:
        unit: Unit of a cluster, such as ``speaker``; ``speaker, else dialogue`` if not every speaker is known.
        keys: One per clip; equal keys are one cluster.
    """

    unit: str
    keys: tuple[Hashable, ...]

    @property
    def size(self) -> int:
        """Number of clusters."""
        return len(set(self.keys))

    def of(self, places: Sequence[int]) -> list[Hashable] | None:
        """Return the clusters of some clips, given by their positions; None where each clip stands for itself."""
        return None if self.unit == CLIP else [self.keys[place] for place in places]

    def to_dict(self) -> dict[str, Any]:
        """Return unit and number in the format of results."""
        return {"unit": self.unit, "n": self.size}

    def notes(self) -> list[str]:
        """Return a warning if there are too few clusters for reliable intervals."""
        if self.unit == CLIP or self.size >= FEW:
            return []
        return [f"intervals are drawn from {self.size} clusters ({self.unit}): with fewer than {FEW} they are rough"]


def clusters_of(
    benchmark: Benchmark, names: Sequence[str], speakers: Mapping[str, str] | None = None, by: str = "auto"
) -> Clusters:
    """Return the clusters of clips.

    A level that would put all clips into one cluster is skipped for the next one.

    Args:
        benchmark: The benchmark; its record has the patterns of clip names.
        names: The clips.
        speakers: Clip -> speaker, where known; else it is taken from the clip's name if possible.
        by: ``auto`` or ``clip``.

    Raises:
        NanoEmoXError: ``by`` is neither.
    """
    if by not in BY:
        raise NanoEmoXError(f"--intervals {by}: give {' or '.join(BY)}")
    known = speakers or {}
    levels: list[tuple[str, dict[str, str]]] = []
    if by == "auto":
        named = _in_names(benchmark.speaker_pattern, names)
        levels.append((SPEAKER, {name: known.get(name) or named.get(name, "") for name in names}))
        levels.append((benchmark.recording, _in_names(benchmark.recording_pattern, names)))
    while levels:
        keys = [_key(name, levels) for name in names]
        if len(set(keys)) > 1:
            units = dict.fromkeys(unit for unit, _ in (*levels, (CLIP, {})) if any(key[0] == unit for key in keys))
            return Clusters(", else ".join(units), tuple(keys))
        levels = levels[1:]
    return Clusters(CLIP, tuple((CLIP, name) for name in names))


def clusters_text(clusters: Mapping[str, Any] | None) -> str:
    """Format the resampled unit: ``speaker (4)``; ``clip`` for results without it."""
    return CLIP if clusters is None else f"{clusters['unit']} ({clusters['n']})"


def _key(name: str, levels: Sequence[tuple[str, Mapping[str, str]]]) -> tuple[str, str]:
    return next(((unit, found[name]) for unit, found in levels if found.get(name)), (CLIP, name))


def _in_names(pattern: str | None, names: Sequence[str]) -> dict[str, str]:
    """Return clip -> match of a pattern in its name, groups joined."""
    if pattern is None:
        return {}
    found = {name: re.search(pattern, name) for name in names}
    return {name: "-".join(match.groups() or (match[0],)) for name, match in found.items() if match}
