"""Reports that compare runs with each other and with published numbers: HTML page, figures, LaTeX table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoemox.benchmarks.clusters import clusters_text
from nanoemox.benchmarks.runs import PAGE
from nanoemox.data.files import write_text
from nanoemox.reporting.build import Section, build
from nanoemox.reporting.data import EvaluatedRun, read_runs
from nanoemox.reporting.latex import latex_table
from nanoemox.types import NanoEmoXError, check_output

if TYPE_CHECKING:
    from nanoemox.reporting.figures import Drawing


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """The options of ``nanoemox report``.

    Attributes:
        runs: Folders of runs; the others are compared with the first.
        out: The page to write; None for none.
        figures: Folder for the figures, PNG and SVG.
        latex: LaTeX file to write.
        frames: Show a frame of every example, which needs ``data_root``.
        data_root: Folder of the corpora, as of the evaluation.
        wheel_tables: Folder of the published tables, for scores by the published protocol.
    """

    runs: tuple[Path, ...]
    out: Path | None = None
    figures: Path | None = None
    latex: Path | None = None
    frames: bool = False
    data_root: Path | None = None
    wheel_tables: Path | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A report before it is drawn.

    Attributes:
        runs: The runs; the others are compared with the first.
        sections: One section per benchmark.
    """

    runs: tuple[EvaluatedRun, ...]
    sections: tuple[Section, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, as ``nanoemox report --json`` prints them."""
        return {
            "scorer": self.runs[0].scores.scorer,
            "runs": [run.name for run in self.runs],
            "benchmarks": {section.benchmark.id: section.to_dict() for section in self.sections},
        }

    def to_latex(self) -> str:
        """Return the main table in LaTeX."""
        return latex_table([run.name for run in self.runs], self.sections)

    def drawings(self) -> dict[str, list[Drawing]]:
        """Return the figures by benchmark; needs matplotlib."""
        from nanoemox.reporting.figures import draw

        return {section.benchmark.id: draw(section) for section in self.sections}

    def to_html(self, drawings: Mapping[str, Sequence[Drawing]] | None = None) -> str:
        """Return the page; needs matplotlib. ``drawings`` are reused if given."""
        from nanoemox.reporting.html import render

        return render(self.runs, self.sections, self.drawings() if drawings is None else drawings)


def report(
    runs: Sequence[EvaluatedRun], *, wheel_tables: Path | None = None, frames_from: Path | None = None
) -> Report:
    """Compare runs with each other, with their baselines and with published numbers.

    Args:
        runs: The runs (``read_runs``); the others are compared with the first.
        wheel_tables: Folder of the published wheel tables, for scores by the published protocol.
        frames_from: Folder of the corpora, to show a frame of every example; None for none.

    Raises:
        NanoEmoXError: The wheel tables or the corpora cannot be read.
    """
    sections = build(runs, wheel_tables)
    if frames_from is not None:
        sections = [_framed(section, frames_from) for section in sections]
    return Report(tuple(runs), tuple(sections))


def write_report(options: ReportOptions) -> dict[str, Any]:
    """Write the page, figures and table that the options name.

    Returns:
        The numbers of the report, and ``files``, the files that were written.

    Raises:
        NanoEmoXError: A folder that is not a finished run, an unusable option, or a missing library.
    """
    _check_outputs(options)
    wants_figures = options.out is not None or options.figures is not None
    if wants_figures and (missing := missing_extra()) is not None:
        raise NanoEmoXError(missing)
    if options.frames and options.data_root is None:
        raise NanoEmoXError("--frames shows pictures of the clips: name the folder that holds them with --data-root")
    frames_from = options.data_root if options.frames else None
    found = report(read_runs(options.runs), wheel_tables=options.wheel_tables, frames_from=frames_from)
    return found.to_dict() | {"files": [str(file) for file in _write(options, found)]}


def write_html(out: Path, wheel_tables: Path | None = None) -> str | None:
    """Write the page of one run into the folder of its ``metrics.json``.

    Args:
        out: Folder of the run.
        wheel_tables: Folder of the published tables, for scores by the published protocol.

    Returns:
        None; or, if libraries are missing and nothing was written, which ones.
    """
    missing = missing_extra()
    if missing is None:
        write_report(ReportOptions(runs=(out,), out=out / PAGE, wheel_tables=wheel_tables))
    return missing


def missing_extra() -> str | None:
    """Return what to install for pages and figures; None if nothing is missing."""
    if find_spec("matplotlib") is None:
        return "pages and figures need matplotlib: pip install 'nanoemox[eval]'"
    return None


def format_report_summary(result: dict[str, Any]) -> str:
    """Format the paired differences and the written files as text."""
    lines = []
    for key, section in result["benchmarks"].items():
        for row in section["comparisons"]:
            head = f"{key}  {row['first']} - {row['second']}  {row['metric']}"
            if row["difference"] is None:
                lines.append(f"{head}: {row['note']}")
            else:
                low, high = (100 * end for end in row["interval"])
                numbers = f"{100 * row['difference']:+.2f} [{low:+.2f}, {high:+.2f}]  p {row['p_value']:.3f}"
                lines.append(f"{head} {numbers}  {row['num_clips']} clips by {clusters_text(row['clusters'])}")
    return "\n".join([*lines, *(f"written: {file}" for file in result["files"])])


def _check_outputs(options: ReportOptions) -> None:
    """Raise if an output would overwrite a file of another kind."""
    if options.out is not None:
        check_output("--out", options.out, ".html", ".htm")
    if options.latex is not None:
        check_output("--latex", options.latex, ".tex")
    if options.figures is not None and os.path.isfile(options.figures):
        raise NanoEmoXError(f"--figures {options.figures}: a file: give a folder")


def _write(options: ReportOptions, found: Report) -> list[Path]:
    files = []
    drawings = {} if options.out is None and options.figures is None else found.drawings()
    if options.out is not None:
        _put(options.out, found.to_html(drawings))
        files.append(options.out)
    if options.figures is not None:
        from nanoemox.reporting.figures import save

        files += [path for several in drawings.values() for one in several for path in save(one, options.figures)]
    if options.latex is not None:
        _put(options.latex, found.to_latex())
        files.append(options.latex)
    return files


def _put(file: Path, text: str) -> None:
    try:
        write_text(file, text)
    except OSError as error:
        raise NanoEmoXError(f"{file}: {error.strerror or error}: give another file") from error


def _framed(section: Section, data_root: Path) -> Section:
    from nanoemox.reporting.frames import with_frames

    return replace(section, examples=with_frames(section.benchmark, section.examples, data_root))
