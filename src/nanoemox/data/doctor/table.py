"""The report of the checks as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from nanoemox.data.doctor.check import Report, problems_of
from nanoemox.printing import printable

_COLOURS: Final = {"error": "bold red", "warning": "yellow", "note": "dim"}


def show_report(report: Report, console: Console | None = None) -> None:
    """Print the report on stdout: a row for every kind of finding, with up to three examples."""
    console = console or Console(highlight=False)
    rows = problems_of(report)
    if rows:
        table = Table("found", "", "count", "examples", "what to do", show_lines=True)
        table.columns[2].justify = "right"
        for kind, level, count, examples, remedy in rows:
            table.add_row(
                kind, Text(level, style=_COLOURS[level]), str(count), Text(printable(examples), overflow="fold"), remedy
            )
        console.print(table)
    compared = f", compared with {', '.join(report.against)}" if report.against else ""
    console.print(Text(printable(f"{report.samples} samples, {report.files} files in {report.root}{compared}")))
    verdict = "nothing that would break or spoil training" if report.sound else "this would break or spoil training"
    console.print(Text(verdict, style="green" if report.sound else "bold red"))


@contextmanager
def looking(*, show: bool) -> Iterator[Callable[[int | None], None]]:
    """Draw a bar on standard error; yields what to call with the number of files, then with None for each."""
    console = Console(stderr=True)
    parts = (TextColumn("files"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*parts, console=console, disable=not show or not console.is_terminal) as bar:
        job = bar.add_task("files", total=None)

        def done(total: int | None) -> None:
            bar.update(job, total=total) if total is not None else bar.advance(job)

        yield done
