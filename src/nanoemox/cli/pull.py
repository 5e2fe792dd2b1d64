"""Commands about pulled models: ``pull``, and ``models`` to list and remove them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nanoemox.cli.app import JsonOption, app, print_json, print_text


@app.command(epilog="Example:  nanoemox pull small")
def pull(
    name: Annotated[str, typer.Argument(help="Which model: small, or authors (2.2B).")] = "small",
    force: Annotated[bool, typer.Option("--force", help="Fetch and convert again.")] = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="authors: you accept the licences that a pull without it shows.")
    ] = False,
    dtype: Annotated[str | None, typer.Option(help="authors: float16, bfloat16 or float32. [default: float16]")] = None,
    max_shard_size: Annotated[
        str | None, typer.Option(help="authors: limit of one file, such as 500MB. [default: 2GB]")
    ] = None,
    words: Annotated[
        Path | None, typer.Option(help="authors: templates.yaml with the words that the weights were trained with.")
    ] = None,
    lock: Annotated[
        Path | None, typer.Option(help="authors: report.json of a pulled model; fetch exactly what it lists.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the pulled model as JSON.")] = False,
) -> None:
    """Fetch a model's public parts once, check and convert them; afterwards no network is needed."""
    from functools import partial

    from nanoemox.cli.render import bytes_progress
    from nanoemox.types import NanoEmoXError
    from nanoemox.weights.home import AUTHORS

    say = partial(print_text, err=True)
    options: dict[str, Any] = {"accept_licence": accept_licence, "dtype": dtype, "max_shard_size": max_shard_size}
    options |= {"words": words, "lock": lock}
    given = {option: value for option, value in options.items() if value}
    if name != AUTHORS and given:
        wrong = ", ".join(f"--{option.replace('_', '-')}" for option in given)
        raise NanoEmoXError(f"{wrong}: for {AUTHORS} alone, not for {name}: leave it out")
    if name == AUTHORS:
        from nanoemox.weights.authors import AuthorsOptions, pull_authors

        with bytes_progress() as progress:
            model = pull_authors(AuthorsOptions(force=force, **given), tell=say, progress=progress)
    else:
        from nanoemox.weights.pull import pull as pull_model

        model = pull_model(name, force=force, tell=say)
    if json:
        print_json(model.to_dict())
    else:
        print_text(f"{model.name}: {model.size_bytes / 1e6:.0f} MB in {model.folder}")


@app.command(epilog="Example:  nanoemox models --json")
def models(
    remove: Annotated[str | None, typer.Option(metavar="NAME", help="Delete this pulled model.")] = None,
    json: JsonOption = False,
) -> None:
    """List the models that were pulled: size, licence, source and hash of each part; or remove one."""
    from nanoemox.weights.home import models_folder, pulled_models
    from nanoemox.weights.place import remove_pulled

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
