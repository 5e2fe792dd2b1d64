"""Commands around benchmarks: ``evaluate``, ``score``, ``judge``, ``report``, ``export-task``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanoemox.cli.app import (
    DataRootOption,
    DeviceOption,
    JsonOption,
    ScorerOption,
    TrustOption,
    WheelOption,
    app,
    print_json,
    print_text,
)
from nanoemox.printing import one_line

LANGUAGE_MODEL = "openai:http://host:port/v1#NAME or transformers:DIR_OR_ID"


@app.command(epilog="Example:  nanoemox evaluate --benchmarks meld --data-root data --out runs/eval")
def evaluate(
    benchmarks: Annotated[
        list[str], typer.Option("--benchmarks", help="Ids or groups, with commas between; may be given again.")
    ],
    data_root: DataRootOption,
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run is resumed.")],
    model: Annotated[
        str | None, typer.Option(help="Directory, hub id or openai:http://host:port/v1#NAME; default: the package's.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Clips of each benchmark.")] = None,
    scorer: ScorerOption = "corrected",
    wheel_tables: WheelOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips per batch.")] = 8,
    device: DeviceOption = "auto",
    trust_npz: TrustOption = False,
    again: Annotated[bool, typer.Option("--again", help="Ask unanswered clips of the run again.")] = False,
    frames: Annotated[int, typer.Option(min=1, max=64, help="Served model: pictures of a video.")] = 8,
    modalities: Annotated[str, typer.Option(help="Served model: what is sent of a clip.")] = "text,frames,audio",
    shots: Annotated[int, typer.Option(min=0, help="Served model: examples, of the training part.")] = 0,
    erg_steps: Annotated[bool, typer.Option("--erg-steps", help="Served model: empathetic reply in 3 steps.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what metrics.json holds.")] = False,
) -> None:
    """Evaluate a model on benchmarks, next to baselines that never look at a clip.

    Exit code 2 if the model answered no clip of a benchmark.
    """
    from nanoemox.benchmarks.evaluate import EvaluateOptions, evaluate_run, silent_benchmarks
    from nanoemox.benchmarks.remote import RemoteOptions, parse_modalities
    from nanoemox.benchmarks.runs import PAGE
    from nanoemox.benchmarks.tables import format_report
    from nanoemox.cli.render import progress_over
    from nanoemox.reporting.report import write_html

    keys = tuple(key.strip() for given in benchmarks for key in given.split(",") if key.strip())
    remote = RemoteOptions(modalities=parse_modalities(modalities), frames=frames, shots=shots, erg_steps=erg_steps)
    options = EvaluateOptions(
        benchmarks=keys,
        data_root=data_root,
        out=out,
        model=model,
        limit=limit,
        scorer=scorer,
        wheel_tables=wheel_tables,
        batch=batch,
        device=device,
        trust_npz=trust_npz,
        again=again,
        remote=remote,
    )
    metrics = evaluate_run(options, None if json else progress_over)
    if metrics is None:  # the first process prints
        return
    if (missing := write_html(out, wheel_tables)) is not None:
        print_text(f"no {PAGE}: {missing}", err=True)
    if json:
        print_json(metrics, 1)
    else:
        print_text(format_report(metrics))
    if silent := silent_benchmarks(metrics):
        reason = f"the first reason: {one_line(next(iter(silent.values())))}"
        remedy = "mend this and repeat the command with --again"
        print_text(f"nanoemox: {', '.join(silent)}: the model answered no clip; {reason}; {remedy}", err=True)
        raise typer.Exit(2)


@app.command(epilog="Example:  nanoemox score runs/eval --scorer legacy --wheel-tables emotion_wheel")
def score(
    path: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_FILE", help="A run, a result file, or a folder of the authors' checkpoints."),
    ],
    benchmark: Annotated[str | None, typer.Option(help="Id; default: what the run or the path says.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Label file or corpus folder; default: what the run holds.")
    ] = None,
    scorer: ScorerOption = "corrected",
    wheel_tables: WheelOption = None,
    trust_npz: TrustOption = False,
    common: Annotated[
        bool, typer.Option("--common", help="Leave out clips that only the label file knows; else they are wrong.")
    ] = False,
    extractor: Annotated[
        str | None,
        typer.Option(help=f"Takes emotion words out of running text, in place of rules: {LANGUAGE_MODEL}."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Another run or result file: show the differences on common clips, with p-values."),
    ] = None,
    intervals: Annotated[
        str, typer.Option(help="What intervals resample: auto (speaker, else dialogue, else clip) or clip.")
    ] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, fractions of one.")] = False,
) -> None:
    """Score predictions, of this package or the authors', without the model that made them."""
    from nanoemox.benchmarks.compare import compare_files, format_comparison
    from nanoemox.benchmarks.score_files import ScoreOptions, format_scores, score_files

    options = ScoreOptions(
        benchmark=benchmark,
        truth=truth,
        scorer=scorer,
        wheel_tables=wheel_tables,
        trust_npz=trust_npz,
        common=common,
        extractor=extractor,
        intervals=intervals,
    )
    result = score_files(path, options) if against is None else compare_files(path, against, options)
    if json:
        print_json(result, 1)
    else:
        print_text(format_scores(result) if against is None else format_comparison(result))


@app.command(epilog="Example:  nanoemox judge runs/eval --judge openai:http://localhost:8000/v1#NAME")
def judge(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run with explanations or replies.")],
    judges: Annotated[list[str], typer.Option("--judge", help=f"{LANGUAGE_MODEL}; may be repeated.")],
    json: Annotated[bool, typer.Option("--json", help="Print what judge.json holds.")] = False,
) -> None:
    """Let language models score explanations and replies; a server's key comes from OPENAI_API_KEY.

    Exit code 2 if a judge scored nothing.
    """
    from nanoemox.benchmarks.judge import format_judge_scores, judge_run, silent_judges

    result = judge_run(path, judges)
    print_json(result, 1) if json else print_text(format_judge_scores(result))
    raise typer.Exit(2 if silent_judges(result) else 0)


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
    from nanoemox.benchmarks.runs import PAGE
    from nanoemox.reporting.report import ReportOptions, format_report_summary, write_report

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


@app.command("export-task", epilog="Example:  nanoemox export-task meld --data-root data --out tasks/meld")
def export_task(
    benchmark: Annotated[str, typer.Argument(metavar="ID", help="Benchmark.")],
    data_root: DataRootOption,
    out: Annotated[Path, typer.Option(help="Folder to write; new, or empty.")],
    media: Annotated[str, typer.Option(help="copy, link, or none: the words alone.")] = "copy",
    limit: Annotated[int | None, typer.Option(min=1, help="Clips to take.")] = None,
    trust_npz: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Write a benchmark as a task of lm-evaluation-harness and lmms-eval, scored as here."""
    from nanoemox.interop.export import ExportOptions
    from nanoemox.interop.export import export_task as write_task

    written = write_task(
        ExportOptions(benchmark=benchmark, data_root=data_root, out=out, media=media, limit=limit, trust_npz=trust_npz)
    )
    if json:
        print_json(written)
    else:
        print_text(f"{written['out']}: {written['clips']} clips, {written['media']} media files; see its README.md")
