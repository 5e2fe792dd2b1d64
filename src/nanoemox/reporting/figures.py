"""Figures of a report, drawn with matplotlib: small, and distinguishable by shape as well as by colour.

Colours are those of Okabe and Ito (2008), safe for all common types of colour blindness. Text stays text in SVG. Names
come from users and are never parsed as mathtext.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nanoemox.benchmarks.tables import NO_SHARES
from nanoemox.printing import one_line
from nanoemox.reporting.build import Section
from nanoemox.reporting.cases import Confusions, Reliability
from nanoemox.reporting.data import ScoreRow
from nanoemox.types import NanoEmoXError

OKABE_ITO: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Blue, vermilion, green, purple, orange, sky blue, black; their yellow is too pale for lines on white."""
MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X")
_GREY: Final = "#767676"
_WIDTH: Final = 4.2
_FEW: Final = 10
"""Labels up to which a matrix fits a phone; a larger one is wider and scrolls."""
_STYLE: Final = {
    "font.size": 8.0, "axes.titlesize": 8.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlelocation": "left", "svg.fonttype": "none", "text.parse_math": False, "axes.unicode_minus": False,
}  # fmt: skip
Kind = Literal["run", "baseline", "published"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure with title and caption.

    Attributes:
        name: Stem of its files.
        title: What it shows.
        caption: How to read it.
        figure: The drawing.
        wide: Too wide for a phone; scrolls horizontally.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of an interval figure; ``place`` is the run's place, which gives colour and shape."""

    label: str
    value: float
    interval: tuple[float, float] | None
    kind: Kind
    place: int = 0


def interval_plot(name: str, title: str, axis: str, bars: Sequence[Bar]) -> Drawing:
    """Draw scores with intervals: runs filled, baselines hollow, published numbers as grey bars."""
    with _style():
        figure, axes = _figure(0.75 + 0.23 * len(bars))
        for row, bar in enumerate(bars):
            colour = _GREY if bar.kind == "published" else OKABE_ITO[bar.place % len(OKABE_ITO)]
            if bar.interval is not None:
                axes.plot([100 * end for end in bar.interval], [row, row], color=colour, linewidth=1.6)
            printed = bar.kind == "published"
            axes.plot(
                [100 * bar.value], [row], linestyle="none", color=colour, markersize=9 if printed else 5.5,
                marker="|" if printed else MARKERS[bar.place % len(MARKERS)],
                markerfacecolor=colour if bar.kind == "run" else "white", markeredgewidth=1.4,
            )  # fmt: skip
        axes.set_yticks(range(len(bars)), [_short(bar.label) for bar in bars])
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel(axis)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    caption = "Points are scores, lines their 95 % intervals. Filled: a run. Hollow: its baselines."
    if any(bar.kind == "published" for bar in bars):
        caption += " Grey ticks: printed numbers, of the published protocol."
    return Drawing(name, title, caption, figure)


def confusion_matrix(name: str, title: str, found: Confusions) -> Drawing:
    """Draw a confusion matrix, normalised by row."""
    counts = found.counts if found.counts[:, -1].any() else found.counts[:, :-1]
    columns = [*found.labels, "none"][: counts.shape[1]]
    clips = counts.sum(1, keepdims=True)
    shares = np.divide(counts, clips, out=np.zeros(counts.shape), where=clips > 0)
    wide = len(found.labels) > _FEW
    with _style():
        size = 1.6 + 0.29 * len(columns) if wide else _WIDTH
        figure, axes = _figure(1.2 + (size - 1.2) * len(found.labels) / len(columns), width=size)
        shades = LinearSegmentedColormap.from_list("shares", ["#ffffff", OKABE_ITO[0]])
        for row, column in zip(*np.nonzero(counts), strict=True):
            share = float(shares[row, column])
            # Squares, not an image: SVG would carry it as a bitmap.
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=shades(share), edgecolor="white"))
            axes.text(column, row, str(int(counts[row, column])), ha="center", va="center", fontsize=6.5,
                      color="white" if share > 0.5 else "black")  # fmt: skip
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(found.labels) - 0.5, -0.5)
        axes.set_xticks(range(len(columns)), [_short(c, 22) for c in columns], rotation=45 if len(columns) < 5 else 90)
        axes.set_yticks(range(len(found.labels)), [_short(label, 22) for label in found.labels])
        axes.set_xlabel("answered")
        axes.set_ylabel("true")
        axes.tick_params(length=0)
    caption = "Numbers are clips; the darker, the larger the share of the row."
    return Drawing(
        name, title, caption + (' "none": no label was named.' if columns[-1] == "none" else ""), figure, wide
    )


def wheel_bars(
    name: str, title: str, axis: str, groups: Sequence[str], series: Mapping[str, Sequence[float]]
) -> Drawing:
    """Draw one bar per wheel and metric."""
    with _style():
        figure, axes = _figure(2.3)
        width = 0.8 / max(len(series), 1)
        for place, (label, values) in enumerate(series.items()):
            middles = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * width
            axes.bar(
                middles, [100 * v for v in values], width * 0.92, color=OKABE_ITO[place % len(OKABE_ITO)],
                edgecolor="black", linewidth=0.4, hatch=("", "//", "..", "xx")[place % 4], label=_short(label),
            )  # fmt: skip
        axes.set_xticks(range(len(groups)), [_short(group) for group in groups])
        axes.set_ylim(0, 100)
        axes.set_ylabel(axis)
        axes.legend(frameon=False, fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return Drawing(name, title, "One group a wheel or a level of likeness, one bar a score.", figure)


def reliability_diagram(name: str, title: str, curves: Mapping[str, Reliability]) -> Drawing:
    """Draw accuracy against confidence."""
    with _style():
        figure, axes = _figure(3.4)
        axes.plot([0, 100], [0, 100], color=_GREY, linewidth=1, linestyle="--", label="as sure as right")
        for place, (label, curve) in enumerate(curves.items()):
            full = [b for b in curve.bins if b.accuracy is not None and b.confidence is not None]
            legend = f"{_short(label)} (error {100 * curve.error:.1f})"
            axes.plot(
                [100 * (b.confidence or 0.0) for b in full], [100 * (b.accuracy or 0.0) for b in full], label=legend,
                color=OKABE_ITO[place % len(OKABE_ITO)], marker=MARKERS[place % len(MARKERS)], markersize=4.5,
            )  # fmt: skip
        axes.set_xlim(-2, 102)
        axes.set_ylim(-2, 102)
        axes.set_xlabel("probability of the answer, %")
        axes.set_ylabel("right answers, %")
        axes.legend(frameon=False, fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    caption = "On the dashed line a model is right as often as it says; below it, it is too sure."
    return Drawing(name, title, f"{caption} The error is the expected calibration error.", figure)


def svg_of(drawing: Drawing) -> str:
    """Return the figure as an SVG element for a page: no addresses, no scripts, its ids its own."""
    text = StringIO()
    with _style(drawing.name):
        drawing.figure.savefig(text, format="svg", metadata={"Date": None})
    _, _, svg = text.getvalue().partition("<svg")
    head, _, body = svg.partition(">")
    box = re.search(r'viewBox="([-\d. ]+)"', head)
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL).replace("xlink:href=", "href=")
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", body)
    return f'<svg viewBox="{box[1] if box else ""}" aria-hidden="true">{body}'


def save(drawing: Drawing, folder: Path) -> list[Path]:
    """Write a figure as PNG and as SVG.

    Raises:
        NanoEmoXError: The folder cannot be written.
    """
    paths = [folder / f"{drawing.name}.{kind}" for kind in ("png", "svg")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _style(drawing.name):
            for path in paths:
                drawing.figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise NanoEmoXError(f"{error.filename or folder}: {error.strerror or error}") from error
    return paths


def _figure(height: float, width: float = _WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _short(text: str, most: int = 30) -> str:
    line = one_line(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


@contextmanager
def _style(salt: str = "") -> Iterator[None]:
    """Draw in our style; missing glyphs are boxes in PNG and text in SVG, not warnings."""
    style: Any = _STYLE | {"svg.hashsalt": salt or "nanoemox"}
    with warnings.catch_warnings(), mpl.rc_context(style):
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


_BESIDE = ("wheel", "n")


def draw(section: Section) -> list[Drawing]:
    """Return the figures: intervals, confusions, wheels, reliability, each where there is something to draw."""
    key, title = section.benchmark.id, section.benchmark.title
    several = len({line.run for line in section.lines}) > 1
    found = [] if (bars := _intervals(section, several)) is None else [bars]
    for place, (run, counts) in enumerate(section.confusions.items(), 1):
        found.append(confusion_matrix(f"{key}-confusion-{place}", _of("Confusions", title, run, several), counts))
    for place, line in enumerate((line for line in section.lines if not line.baseline), 1):
        row = line.scores if line.scores.per_wheel else section.legacy.get(line.run)
        if row is not None and (bars := _wheels(f"{key}-wheels-{place}", row, title, line.run, several)) is not None:
            found.append(bars)
    if section.reliability:
        found.append(reliability_diagram(f"{key}-reliability", f"Reliability, {title}", section.reliability))
    return found


def _intervals(section: Section, several: bool) -> Drawing | None:
    metric = next((name for name in section.metrics if name not in NO_SHARES), None)
    if metric is None:
        return None
    bars = []
    for line in section.lines:
        value = line.scores.metrics.get(metric)
        if value is not None:
            label = f"{line.name}, {line.run}" if several and line.baseline else line.name
            interval = line.scores.intervals.get(metric)
            bars.append(Bar(label, value, interval, "baseline" if line.baseline else "run", line.place))
    if not bars:
        return None
    places = {line.run: line.place for line in section.lines}
    for run, row in section.legacy.items():
        value = row.metrics.get(metric)
        if value is not None and row is not next(x.scores for x in section.lines if x.run == run):
            bars.append(Bar(f"{run}, legacy", value, row.intervals.get(metric), "run", places[run]))
    bars += [Bar(p.system, p.metrics[metric], None, "published") for p in section.published if metric in p.metrics]
    name = metric.replace("_", " ")
    return interval_plot(
        f"{section.benchmark.id}-intervals", f"{name.capitalize()}, {section.benchmark.title}", f"{name}, %", bars
    )


def _wheels(name: str, row: ScoreRow, title: str, run: str, several: bool) -> Drawing | None:
    rows = [wheel for wheel in row.per_wheel if wheel.get("n")]
    shares = {
        metric: [float(wheel[metric] or 0.0) for wheel in rows]
        for metric in (rows[0] if rows else {})
        if metric not in _BESIDE
    }
    if not shares:
        return None
    groups = [str(wheel["wheel"]) for wheel in rows]
    series = {metric.replace("_", " "): values for metric, values in shares.items()}
    return wheel_bars(name, _of("Wheels", title, run, several), "%", groups, series)


def _of(what: str, title: str, run: str, several: bool) -> str:
    return f"{what}, {title}, {run}" if several else f"{what}, {title}"
