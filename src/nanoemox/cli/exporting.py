"""The command ``export-task``: benchmarks for other harnesses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanoemox.cli.app import DataRootOption, JsonOption, TrustOption, app, print_json, print_text


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
