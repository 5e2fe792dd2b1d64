"""Windows of a clip: speech windows, rolling windows, utterances, frame sampling. Pure arithmetic.

Letters: ``W`` speech windows, ``T`` frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nanoemox.types import SAMPLE_RATE_HZ, Word

_PAUSE_S, _LONG_WORD_S, _LONGEST_S, _SHORTEST_S = 0.6, 1.5, 15.0, 0.5


class Span(NamedTuple):
    """A span of a clip in seconds."""

    start_s: float
    end_s: float


MAX_WINDOWS = 100_000
"""Limit of windows per clip: a day at a hop of a second."""


def check_windows(every_s: float, window_s: float) -> None:
    """Raise ValueError for a hop and a window length that leave gaps."""
    if not 0 < every_s <= window_s < math.inf:
        raise ValueError(
            f"windows of {window_s:g} s every {every_s:g} s: both must be positive, "
            "and a window at least as long as the hop"
        )


def rolling_windows(duration_s: float, every_s: float = 3.0, window_s: float = 10.0) -> tuple[Span, ...]:
    """Cover a long clip with overlapping windows; the last one ends at the end of the clip.

    Args:
        duration_s: Length of the clip in seconds.
        every_s: Hop between starts in seconds, > 0.
        window_s: Length of a window in seconds, >= ``every_s``.
    """
    check_windows(every_s, window_s)
    if not 0 < duration_s < math.inf:
        raise ValueError(f"windows in a clip of {duration_s:g} s: its duration must be positive and finite")
    if duration_s <= window_s:
        return (Span(0.0, duration_s),)
    if duration_s / every_s > MAX_WINDOWS:
        raise ValueError(
            f"a window every {every_s:g} s in a clip of {duration_s:g} s: more than {MAX_WINDOWS} windows: use a "
            "longer hop"
        )
    hops = math.ceil((duration_s - window_s) / every_s - 1e-9)
    starts = [min(i * every_s, duration_s - window_s) for i in range(hops + 1)]
    return tuple(Span(s, s + window_s) for s in starts)


def utterances(words: Sequence[Word], duration_s: float) -> tuple[tuple[Span, str], ...]:
    """Split a transcript into utterances: at the end of a sentence and at a pause, at most 15 s each.

    Args:
        words: The words in order; a word lasts until the next one, so a long one contains a pause.
        duration_s: Duration of the clip in seconds.

    Returns:
        The span of each utterance, inside the clip and at least half a second long, and its words.
    """
    groups: list[list[Word]] = []
    for word in words:
        last = groups[-1] if groups else []
        over = not last or last[-1].text.endswith((".", "?", "!")) or word.end_s - last[0].start_s > _LONGEST_S
        if over or word.start_s - last[-1].end_s > _PAUSE_S or last[-1].end_s - last[-1].start_s > _LONG_WORD_S:
            groups.append([])
        groups[-1].append(word)
    out = []
    for group in groups:
        start = max(0.0, min(group[0].start_s, duration_s - _SHORTEST_S))
        end = min(duration_s, max(group[-1].end_s, start + _SHORTEST_S))
        out.append((Span(start, end), " ".join(w.text for w in group)))
    return tuple(out)


def speech_window_starts(
    num_samples: int, num_windows: int, window_samples: int, grid: Literal["reference", "cover"]
) -> npt.NDArray[np.int64]:
    """Return the first sample of each speech window, int64[W]; all zero if the clip is no longer than one window.

    ``cover`` spreads the windows so that the last ends with the clip. Reference: ``reference`` steps by 1/W of the
    rest, so the end is never used; exact rational arithmetic on a float64 duration, truncated to samples.
    """
    spare = num_samples - window_samples
    if spare <= 0:
        return np.zeros(num_windows, np.int64)
    if grid == "cover":
        return np.linspace(0, spare, num_windows).round().astype(np.int64)
    duration = Fraction(num_samples / SAMPLE_RATE_HZ)
    step = (duration - Fraction(window_samples, SAMPLE_RATE_HZ)) / num_windows
    return np.array([int(i * step * SAMPLE_RATE_HZ) for i in range(num_windows)], np.int64)


def frame_indices_reference(num_frames: int, num_wanted: int) -> npt.NDArray[np.int64]:
    """Reference: left-edge sampling of frames by index; a clip of fewer frames repeats the last."""
    if num_frames < num_wanted:
        return np.minimum(np.arange(num_wanted), num_frames - 1)
    return np.arange(0, num_frames, num_frames / num_wanted).astype(np.int64)[:num_wanted]


def coverage_warning(duration_s: float, seen_s: float) -> str | None:
    """Return a warning if less than half of a clip was used, else None."""
    if duration_s <= 0 or seen_s >= duration_s / 2:
        return None
    return f"only {seen_s:.0f} s of {duration_s:.0f} s were used: use --every SECONDS to answer along the whole clip"
