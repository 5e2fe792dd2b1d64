"""``rate``: a blind rating study of replies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanoemox.cli.app import app, print_json, print_text


@app.command(epilog="Example:  nanoemox rate runs/ours runs/baseline --sample 200 --out study.sqlite")
def rate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="Runs whose replies are compared; none: go on with the study at --out."),
    ] = None,
    out: Annotated[Path, typer.Option(help="File of the study; an existing one is resumed.")] = Path("study.sqlite"),
    sample: Annotated[int, typer.Option(min=1, help="Clips of the study, each with a reply of every run.")] = 200,
    seed: Annotated[int, typer.Option(help="What the clips are drawn and shuffled with.")] = 0,
    host: Annotated[str, typer.Option(help="Address to serve the page at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    export: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Write the ratings of the study, with their runs, and stop.")
    ] = None,
    results: Annotated[bool, typer.Option("--results", help="Print means and agreement, and stop.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Serve a page where people rate replies blindly, on empathy, insight and safety; or show the results."""
    from nanoemox.types import NanoEmoXError, needs_extra

    if results or export is not None:
        if runs:
            raise NanoEmoXError(f"--results and --export read the study at --out ({out}): leave the runs out")
        _show_results(out, export, results, json)
        return
    if json:
        raise NanoEmoXError("--json is for --results")
    with needs_extra("serve", "the page"):
        from nanoemox.study.server import serve_study
    if runs:
        from nanoemox.study.plan import plan_study
        from nanoemox.study.store import create_study

        create_study(out, plan_study(runs, sample, seed))
    serve_study(out, host, port, lambda address: print_text(f"Rate at {address}   ratings in {out}   Ctrl-C stops"))


def _show_results(out: Path, export: Path | None, results: bool, json: bool) -> None:
    from nanoemox.study.results import export_ratings, format_study, measure_study

    if export is not None:
        count = export_ratings(out, export)
        print_text(f"{count} ratings in {export}", err=True)
    if results:
        result = measure_study(out)
        print_json(result, 1) if json else print_text(format_study(result))
