"""The report as one HTML page: no network, no scripts, every word of a clip or a model escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from nanoemox import __version__
from nanoemox.benchmarks.tables import ROW_NOTES, cell, settings_lines
from nanoemox.printing import printable
from nanoemox.reporting.build import Section
from nanoemox.reporting.data import EvaluatedRun
from nanoemox.reporting.figures import Drawing, svg_of

_LISTED: Final = 200
"""Unanswered clips that are listed; the prediction file holds them all."""


def render(runs: Sequence[EvaluatedRun], sections: Sequence[Section], drawings: Mapping[str, Sequence[Drawing]]) -> str:
    """Return the page.

    Args:
        runs: The runs, the one that is compared with the others first.
        sections: What was gathered, benchmark by benchmark.
        drawings: Benchmark -> its figures.
    """
    pages = Environment(
        loader=PackageLoader("nanoemox.reporting", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,  # markup of ours is no plain str
    )
    baselines = dict.fromkeys(
        line.name for section in sections for line in section.lines if line.baseline and line.run == runs[0].name
    )
    return pages.get_template("report.html.j2").render(
        title=" and ".join(run.name for run in runs),
        version=__version__,
        scorer=runs[0].scores.scorer,
        runs=runs,
        settings={run.name: settings_lines(run.scores.settings, run.scores.cost) for run in runs},
        sections=sections,
        baselines=list(baselines),
        row_notes={name: note for name, note in ROW_NOTES.items() if name in baselines},
        drawings=drawings,
        most=_LISTED,
        svg_of=svg_of,
        cell=cell,
        words=lambda name: name.replace("_", " "),
        signed=lambda value: f"{100 * value:+.2f}",
        chance=lambda value: "< 0.001" if value < 0.001 else f"{value:.3f}",
        points=lambda value: "-" if value is None else f"{value:.2f}",
    )
