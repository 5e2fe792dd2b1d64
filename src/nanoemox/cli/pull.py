"""The command ``pull``."""

from __future__ import annotations

from typing import Annotated

import typer

from nanoemox.cli.app import app, tell_json


@app.command(epilog="Example:  nanoemox pull small")
def pull(
    name: Annotated[str, typer.Argument(help="Which model: small.")] = "small",
    force: Annotated[bool, typer.Option("--force", help="Fetch and convert again what is here.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what is here afterwards as JSON.")] = False,
) -> None:
    """Fetch a model's public parts once, check and convert them; afterwards no network is needed."""
    from nanoemox.weights.pull import pull as pull_model

    model = pull_model(name, force=force, tell=lambda line: typer.echo(line, err=True))
    if json:
        tell_json(model.to_dict())
    else:
        typer.echo(f"{model.name}: {model.size_bytes / 1e6:.0f} MB in {model.folder}")
