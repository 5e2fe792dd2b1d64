"""The command ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanoemox.cli.app import WheelOption, app, print_json, print_text


@app.command(epilog="Example:  nanoemox report runs/a runs/b --out report.html")
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; the others are compared with the first.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file; default: report.html in the first run, if nothing else is asked for."),
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures, PNG and SVG.")] = None,
    latex: Annotated[Path | None, typer.Option(help="LaTeX file for the main table (booktabs).")] = None,
    frames: Annotated[
        bool, typer.Option("--frames/--no-frames", help="Show a frame of every example; clips are often private.")
    ] = False,
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds the corpora, for --frames.")] = None,
    wheel_tables: WheelOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON, fractions of one.")] = False,
) -> None:
    """Compare runs of evaluate with each other and with published numbers, on one self-contained page."""
    from nanoemox.reporting.report import PAGE, ReportOptions, format_report_summary, write_report

    if out is None and figures is None and latex is None and not json:
        out = runs[0] / PAGE
    options = ReportOptions(
        runs=tuple(runs),
        out=out,
        figures=figures,
        latex=latex,
        frames=frames,
        data_root=data_root,
        wheel_tables=wheel_tables,
    )
    result = write_report(options)
    if json:
        print_json(result, 1)
    else:
        print_text(format_report_summary(result))
