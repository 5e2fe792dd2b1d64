"""``nanoemox report``: runs beside each other and beside printed numbers, as a page, figures and a LaTeX table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from nanoemox.benchmarks.clusters import clusters_text
from nanoemox.data.files import write_text
from nanoemox.reporting.build import Section, build
from nanoemox.reporting.data import Run, read_runs
from nanoemox.reporting.latex import latex_table
from nanoemox.types import NanoEmoXError

PAGE: Final = "report.html"


@dataclass(frozen=True, slots=True)
class ReportRequest:
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


def run_report(request: ReportRequest) -> dict[str, Any]:
    """Write what is asked for.

    Returns:
        The numbers of the report, and the files that were written.

    Raises:
        NanoEmoXError: A folder that is no finished run, an option that cannot be meant, or a missing library.
    """
    wants_figures = request.out is not None or request.figures is not None
    if wants_figures and (lacking := missing_extra()) is not None:
        raise NanoEmoXError(lacking)
    if request.frames and request.data_root is None:
        raise NanoEmoXError("--frames shows pictures of the clips: name the folder that holds them with --data-root")
    runs = read_runs(request.runs)
    sections = build(runs, request.wheel_tables)
    if request.frames and request.data_root is not None:
        sections = [_framed(section, request.data_root) for section in sections]
    try:
        files = _write(request, runs, sections)
    except OSError as error:
        raise NanoEmoXError(f"{error.filename}: {error.strerror or error}") from error
    return {
        "scorer": runs[0].scores.scorer,
        "runs": [run.name for run in runs],
        "benchmarks": {section.benchmark.id: section.to_dict() for section in sections},
        "files": [str(file) for file in files],
    }


def write_html(out: Path, wheel_tables: Path | None = None) -> str | None:
    """Write the page of one run beside its ``metrics.json``.

    Args:
        out: Folder of the run.
        wheel_tables: Folder of the published tables, for scores by the published protocol.

    Returns:
        None; or, where the libraries for it are not installed and nothing was written, a sentence that says so.
    """
    lacking = missing_extra()
    if lacking is None:
        run_report(ReportRequest((out,), out / PAGE, wheel_tables=wheel_tables))
    return lacking


def missing_extra() -> str | None:
    """Return what to install for pages and figures, or None where it is there."""
    lacking = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    return f"pages and figures need {' and '.join(lacking)}: pip install 'nanoemox[eval]'" if lacking else None


def format_written(result: dict[str, Any]) -> str:
    """Return the paired differences and the files as lines for people."""
    lines = []
    for key, section in result["benchmarks"].items():
        for row in section["comparisons"]:
            head = f"{key}  {row['first']} - {row['second']}  {row['metric']}"
            if row["difference"] is None:
                lines.append(f"{head}: {row['note']}")
            else:
                low, high = (100 * end for end in row["interval"])
                told = f"{100 * row['difference']:+.2f} [{low:+.2f}, {high:+.2f}]  p {row['p_value']:.3f}"
                lines.append(f"{head} {told}  {row['num_clips']} clips by {clusters_text(row['clusters'])}")
    return "\n".join([*lines, *(f"written: {file}" for file in result["files"])])


def _write(request: ReportRequest, runs: Sequence[Run], sections: Sequence[Section]) -> list[Path]:
    files = []
    if request.out is not None or request.figures is not None:
        files += _drawn(request, runs, sections)
    if request.latex is not None:
        write_text(request.latex, latex_table([run.name for run in runs], sections))
        files.append(request.latex)
    return files


def _drawn(request: ReportRequest, runs: Sequence[Run], sections: Sequence[Section]) -> list[Path]:
    # Libraries of the extra: only here, so that tables and JSON need none.
    from nanoemox.reporting.draw import draw
    from nanoemox.reporting.figures import save
    from nanoemox.reporting.html import render

    drawings = {section.benchmark.id: draw(section) for section in sections}
    files = []
    if request.out is not None:
        write_text(request.out, render(runs, sections, drawings))
        files.append(request.out)
    if request.figures is not None:
        for several in drawings.values():
            files += [path for drawing in several for path in save(drawing, request.figures)]
    return files


def _framed(section: Section, data_root: Path) -> Section:
    from nanoemox.reporting.frames import with_frames

    return replace(section, examples=with_frames(section.benchmark, section.examples, data_root))
