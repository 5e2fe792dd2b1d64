"""The report's main table for a paper, with the rules of booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from nanoemox.benchmarks.tables import NO_SHARES
from nanoemox.printing import one_line
from nanoemox.reporting.build import Line, Section

_ESCAPES: Final = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''",
}  # fmt: skip
_SPECIAL: Final = re.compile("[" + re.escape("".join(_ESCAPES)) + "]")


def escape(text: str) -> str:
    """Escape text for LaTeX; line breaks and unprintable characters become spaces."""
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], one_line(text))


def latex_table(runs: Sequence[str], sections: Sequence[Section]) -> str:
    r"""Return a table of each benchmark's first score: runs with intervals, the first run's baselines, printed numbers.

    It needs ``\usepackage{booktabs}``.
    """
    baselines = list(dict.fromkeys(x.name for s in sections for x in s.lines if x.baseline and x.run == runs[0]))
    systems = list(dict.fromkeys(p.system for s in sections for p in s.published))
    head = ["Benchmark", "Score", *map(escape, runs), *map(escape, baselines)]
    head += [rf"{escape(system)}\textsuperscript{{\dag}}" for system in systems]
    rows = []
    for section in sections:
        metric = section.metrics[0]
        cells = [escape(section.benchmark.title), escape(metric.replace("_", " "))]
        cells += [_cell(metric, section.line(run), with_interval=True) for run in runs]
        cells += [_cell(metric, section.line(runs[0], name), with_interval=False) for name in baselines]
        printed = {p.system: p.metrics[metric] for p in section.published if metric in p.metrics}
        cells += [_number(metric, printed.get(system)) for system in systems]
        rows.append(" & ".join(cells) + r" \\")
    scorer = escape(sections[0].lines[0].scorer)
    units = {s.benchmark.title: s.clusters for s in sections}
    by = "; ".join(f"{escape(title)}: {escape(unit)}" for title, unit in units.items())
    caption = f"Scores in percent with 95\\,\\% cluster-bootstrap intervals ({scorer} scorer). Clusters: {by}."
    if systems:
        caption += r" \dag: printed numbers of the published protocol, chosen on the test part; another scorer."
    lines = [
        r"\begin{table}[t]", r"\centering", rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule", *rows,
        r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _cell(metric: str, line: Line | None, *, with_interval: bool) -> str:
    if line is None:
        return "--"
    ends = line.scores.intervals.get(metric) if with_interval else None
    number = _number(metric, line.scores.metrics.get(metric))
    if ends is None:
        return number
    low, high = (_number(metric, end, digits=1) for end in ends)
    return rf"{number} {{\scriptsize [{low}, {high}]}}"


def _number(metric: str, value: float | None, digits: int = 2) -> str:
    if value is None:
        return "--"
    return f"{value if metric in NO_SHARES else 100 * value:.{digits}f}"
