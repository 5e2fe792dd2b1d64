"""Which figures a benchmark's section has."""

from __future__ import annotations

from nanoemox.benchmarks.tables import NO_SHARES
from nanoemox.reporting.build import Section
from nanoemox.reporting.data import ScoreRow
from nanoemox.reporting.figures import Bar, Drawing, confusion_matrix, interval_plot, reliability_diagram, wheel_bars

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
