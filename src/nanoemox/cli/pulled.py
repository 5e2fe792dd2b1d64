"""The command ``models``."""

from __future__ import annotations

from typing import Annotated

import typer

from nanoemox.cli.app import app, print_json, print_text


@app.command(epilog="Example:  nanoemox models --json")
def models(
    remove: Annotated[str | None, typer.Option(metavar="NAME", help="Delete this pulled model.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that were pulled: size, licence, source and hash of each part; or remove one."""
    from nanoemox.weights.home import models_folder, pulled_models, remove_pulled

    if remove is not None:
        freed = remove_pulled(remove)
        print_text(f"{remove} is removed, {freed / 1e6:.0f} MB are free again", err=True)
    found = pulled_models()
    if json:
        print_json({"folder": str(models_folder()), "models": [m.to_dict() for m in found]}, 2)
        return
    if not found:
        print_text(f"no model was pulled to {models_folder()}: run nanoemox pull small")
    for model in found:
        print_text(f"{model.name}: {model.size_bytes / 1e6:.0f} MB in {model.folder}")
        for part in model.parts:
            print_text(f"  {part.part}, {part.licence}, from {part.source}, sha256 {part.sha256}")
