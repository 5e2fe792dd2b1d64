"""Coordinates of the charts of an answer, as plain numbers for the template.

Drawings are ``WIDTH`` units wide and time runs from left to right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nanoemox.reporting.clip_view import ClipView
from nanoemox.tasks import TASKS
from nanoemox.types import Answer, Evidence

WIDTH: Final = 900.0
LINE_HEIGHT: Final = 120.0
WAVE_HEIGHT: Final = 90.0
MAX_LINES: Final = 6
"""Lines of one chart: the labels that are most probable on the whole."""


@dataclass(frozen=True, slots=True)
class Column:
    """A stretch of time in a drawing: its left edge, width and height in units, and a share in 0..1."""

    x: float
    width: float
    height: float
    share: float = 0.0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """The probability of one label along the clip.

    Attributes:
        label: The label.
        colour: Index into the page's palette.
        pieces: Polylines, one for each stretch without a gap: points ``x,y``.
        dots: One per window: x, y, and a sentence.
    """

    label: str
    colour: int
    pieces: tuple[str, ...]
    dots: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """The lines of one closed task."""

    task: str
    name: str
    lines: tuple[Line, ...]


def share_of(seconds: float, duration_s: float) -> float:
    """Return how far a moment lies along a clip, in 0..1."""
    return min(1.0, max(0.0, seconds / duration_s)) if duration_s > 0 else 0.0


def waveform_columns(view: ClipView) -> list[Column]:
    """Place the outline of the sound."""
    step = WIDTH / max(1, len(view.peaks))
    return [Column(i * step, step * 0.7, max(1.0, peak * WAVE_HEIGHT)) for i, peak in enumerate(view.peaks)]


def window_columns(evidence: Evidence | None, duration_s: float) -> list[Column]:
    """Place the speech windows; ``share`` is the attention of each relative to the strongest."""
    if evidence is None or evidence.window_spans_s is None or evidence.window_attention is None:
        return []
    most = max(float(evidence.window_attention.max()), 1e-9)
    return [
        _between(float(a), float(b), duration_s, float(w) / most, f"{a:.2f} to {b:.2f} s: {w:.0%} of the attention")
        for (a, b), w in zip(evidence.window_spans_s, evidence.window_attention, strict=True)
    ]


def word_columns(view: ClipView) -> list[Column]:
    """Place the words whose times are known."""
    return [_between(w.start_s, w.end_s, view.duration_s, 0.0, w.text) for w in view.words]


def frame_shares(evidence: Evidence | None, view: ClipView) -> list[float | None]:
    """Return the share of attention of each shot, or None where it is not known."""
    found = None if evidence is None else evidence.frame_attention
    return [None if found is None or s.index >= len(found) else float(found[s.index]) for s in view.shots]


def charts(answers: Sequence[Answer], duration_s: float) -> list[Chart]:
    """Draw the closed tasks of the windows of one clip; a window that was not answered is a gap."""
    keys = [k for k in TASKS if any(a.tasks.get(k) and a.tasks[k].probabilities for a in answers)]
    return [Chart(k, TASKS[k].answer_name, tuple(_lines(k, answers, duration_s))) for k in keys]


def _lines(key: str, answers: Sequence[Answer], duration_s: float) -> list[Line]:
    tables = [dict(a.tasks[key].probabilities or {}) if key in a.tasks else {} for a in answers]
    labels = dict.fromkeys(label for table in tables for label in table)
    mean = {label: float(np.mean([t[label] for t in tables if label in t])) for label in labels}
    best = sorted(labels, key=lambda label: -mean[label])[:MAX_LINES]
    middles = [sum(a.span_s or (0.0, 0.0)) / 2 for a in answers]
    lines = []
    for colour, label in enumerate(best):
        pieces: list[list[str]] = [[]]
        dots = []
        for middle, table in zip(middles, tables, strict=True):
            if label not in table:
                pieces.append([])
                continue
            x, y = WIDTH * share_of(middle, duration_s), LINE_HEIGHT * (1 - table[label])
            pieces[-1].append(f"{x:.1f},{y:.1f}")
            dots.append((round(x, 1), round(y, 1), f"{label} {table[label]:.0%} around {middle:.1f} s"))
        lines.append(Line(label, colour, tuple(" ".join(p) for p in pieces if len(p) > 1), tuple(dots)))
    return lines


def _between(start_s: float, end_s: float, duration_s: float, share: float, text: str) -> Column:
    left, right = (WIDTH * share_of(s, duration_s) for s in (start_s, end_s))
    return Column(left, max(1.0, right - left), WAVE_HEIGHT, share, text)
