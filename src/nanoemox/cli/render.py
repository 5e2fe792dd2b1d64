"""Answers and reports on the terminal: a compact card, a progress bar, a list of problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from nanoemox.inference.questions import Decision
from nanoemox.printing import one_line, printable
from nanoemox.tasks import CHAIN_FIELDS, TASKS
from nanoemox.types import Answer, Evidence, Reading, Transcript

if TYPE_CHECKING:
    from nanoemox.data.doctor.check import Report

NUM_BEST = 3
"""Number of candidates, frames and windows displayed."""
MAX_WIDTH, BAR_WIDTH = 100, 24
_COLOURS: Final = {"error": "bold red", "warning": "yellow", "note": "dim"}


def show_card(answer: Answer) -> None:
    """Print one answer on stdout."""
    console = Console(highlight=False)
    console.print(card(answer), width=min(console.width, MAX_WIDTH))


def show_sizes(rows: Sequence[tuple[str, int, str]]) -> None:
    """Print a table of parts of a model: name, number of parameters, remark."""
    table = Table("part", "parameters", "", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for part, count, remark in rows:
        table.add_row(part, f"{count / 1e6:.2f} M", Text(remark, style="dim"))
    Console(highlight=False).print(table)


def format_decision(answer: Decision) -> str:
    """Lay out the answer to a free question in plain lines: the question, then a bar for each option."""
    question = answer.question
    lines = [question.instructions if question.name is None else f"{question.name}: {question.instructions}"]
    if question.form == "score":
        lines[0] += f"   {answer.score:.2f} of {len(question.options) - 1}"
    longest = max(map(len, question.texts))
    for text, share in zip(question.texts, answer.probabilities, strict=True):
        lines.append(f"  {text:<{longest}}  {share:6.1%}  {'#' * round(share * BAR_WIDTH)}".rstrip())
    return "\n".join(lines)


def card(answer: Answer) -> Panel:
    """Lay out one answer."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for key, reading in answer.tasks.items():
        if reading.think is not None:
            for name in CHAIN_FIELDS:
                rows.add_row(f"  {name}", Text(printable(getattr(reading.think, name)), style="dim"))
        rows.add_row(TASKS[key].answer_name, _reading(reading))
    if answer.heard is not None:
        rows.add_row("heard", _heard(answer.heard))
    if answer.evidence is not None:
        for name, text in _evidence(answer.evidence, answer.gate):
            rows.add_row(name, text)
    lines: list[Table | Text] = [rows]
    lines += [Text(f"! {printable(w)}", style="yellow") for w in answer.warnings]
    span = "" if answer.span_s is None else f"  {answer.span_s[0]:.1f}-{answer.span_s[1]:.1f} s"
    seconds = answer.timing_s.get("total")
    foot = f"{printable(answer.model)} read {', '.join(answer.modalities) or 'nothing'}"
    foot += "" if seconds is None else f" in {seconds:.1f} s"
    return Panel(
        Group(*lines), title=Text(one_line(answer.clip) + span, style="bold"), subtitle=Text(foot, style="dim")
    )


def _reading(reading: Reading) -> Text:
    if reading.probabilities is not None:
        best = sorted(reading.probabilities.items(), key=lambda kv: -kv[1])[:NUM_BEST]
        text = Text()
        for i, (label, share) in enumerate(best):
            text.append(f"{printable(label)} {share:.0%}", style="bold" if i == 0 else "dim")
            text.append("   ")
        if reading.valence is not None:
            text.append(f"valence {round(reading.valence, 2) + 0.0:+.2f}")
        return text
    if reading.labels is not None:
        return Text(printable(", ".join(reading.labels)) or "(none)", style="bold")
    return Text(printable(reading.text or reading.reply or "") or "(empty)")


def _heard(heard: Transcript) -> Text:
    how = "transcribed" if heard.task == "transcribe" else "translated into English"
    text = Text(printable(heard.text))
    language = f"language {printable(heard.language)} {heard.language_probability:.0%}"
    return text.append(f"  ({language}, {how}, sure {heard.confidence:.0%})", style="dim")


def _evidence(evidence: Evidence, gate: tuple[float, ...] | None) -> Iterator[tuple[str, Text]]:
    if gate is not None:
        yield "gate", Text("  ".join(f"expert {i + 1}: {g:.2f}" for i, g in enumerate(gate)))
    times, frames = evidence.frame_times_s, evidence.frame_attention
    if times is not None and frames is not None:
        best = np.argsort(-frames, kind="stable")[:NUM_BEST]
        yield "looked at", Text("  ".join(f"{times[i]:.2f} s ({frames[i]:.0%})" for i in best))
    spans, windows = evidence.window_spans_s, evidence.window_attention
    if spans is not None and windows is not None:
        best = np.argsort(-windows, kind="stable")[:NUM_BEST]
        yield "listened to", Text("  ".join(f"{spans[i][0]:.2f}-{spans[i][1]:.2f} s ({windows[i]:.0%})" for i in best))
    if evidence.face_boxes is not None:
        x0, y0, x1, y1 = np.median(evidence.face_boxes, axis=0).round().astype(int)
        yield "face", Text(f"about x {x0}-{x1}, y {y0}-{y1} px")


@contextmanager
def progress_over(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while many clips are answered; yields what to call after each, with the failures so far."""
    console = Console(stderr=True)
    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*parts, console=console, disable=total < 2 or not console.is_terminal) as bar:
        job = bar.add_task("clips", total=total)
        answered = 0

        def advance(num_failed: int) -> None:
            nonlocal answered
            answered += 1
            bar.update(job, completed=answered + num_failed)

        yield advance


@contextmanager
def bytes_progress() -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a download on stderr: a bar, or a line per tenth; yields a callback (bytes done, total)."""
    console = Console(stderr=True, highlight=False)
    parts = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(*parts, console=console, disable=not console.is_terminal)
    job, tenths = None, 0

    def show(done: int, total: int) -> None:
        nonlocal job, tenths
        if job is None:
            bar.start()
            job = bar.add_task("", total=total)
        bar.update(job, completed=done)
        tenth = 10 * done // max(1, total)
        if bar.disable and tenth > tenths:
            tenths = tenth
            console.print(f"{10 * tenth:3} % of {total / 1e9:.2f} GB")

    try:
        yield show
    finally:
        bar.stop()


def show_line(text: str) -> None:
    """Print a remark on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(printable(text)))


def show_problems(problems: Mapping[Path | str, str]) -> None:
    """List the files that could not be used on stderr."""
    if problems:
        show_line(f"nanoemox: {len(problems)} clip(s) could not be answered:")
    for path, reason in problems.items():
        show_line(f"  {one_line(str(path))}: {reason}")


def show_report(report: Report) -> None:
    """Print the report on stdout: a row for every kind of finding, with up to three examples."""
    from nanoemox.data.doctor.check import problems_of

    console = Console(highlight=False)
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
def checking(*, show: bool) -> Iterator[Callable[[int | None], None]]:
    """Show a bar on stderr while files are checked; yields what to call with their number, then with None for each."""
    console = Console(stderr=True)
    parts = (TextColumn("files"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*parts, console=console, disable=not show or not console.is_terminal) as bar:
        job = bar.add_task("files", total=None)

        def done(total: int | None) -> None:
            bar.update(job, total=total) if total is not None else bar.advance(job)

        yield done
