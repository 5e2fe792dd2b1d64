"""Commands that make models: ``train``, ``assemble``, ``convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from nanoemox.cli.app import DataRootOption, ModelOption, app, print_json, print_text


@app.command(epilog="Example:  nanoemox train finetune --data-root data --out runs/mine")
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe of the package, or a YAML file.")],
    data_root: DataRootOption,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and metrics.")],
    model: ModelOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUT.")] = False,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Number of steps after which every phase stops.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Replaces the seed of the recipe.")] = None,
    precision: Annotated[
        Literal["auto", "float32", "bf16"] | None,
        typer.Option(help="Replaces the recipe's; auto: bf16 where the device has instructions for it."),
    ] = None,
    features: Annotated[Path | None, typer.Option(help="Folder of the feature cache; default: OUT/features.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model by a recipe, such as the three phases of P2E."""
    from nanoemox.inference.checkpoints import find_checkpoint
    from nanoemox.training.command import run_train

    base, _, _ = find_checkpoint(model)
    result = run_train(
        recipe, data_root, out, base, resume=resume, max_steps=max_steps, seed=seed, precision=precision,
        features=features, show=not json,
    )  # fmt: skip
    if json:
        print_json(result)
    else:
        print_text(f"trained: {result['model']}")


@app.command(epilog="Example:  nanoemox assemble nanoemox --out base")
def assemble(
    preset: Annotated[str, typer.Argument(help="Name of a model recipe of the package, or a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    vision: Annotated[str | None, typer.Option(help="Vision tower: directory or hub id.")] = None,
    speech: Annotated[str | None, typer.Option(help="Speech encoder: directory or hub id.")] = None,
    face: Annotated[str | None, typer.Option(help="Face backbone: file, directory or hub id.")] = None,
    lm: Annotated[str | None, typer.Option(help="Language model: directory or hub id.")] = None,
    random: Annotated[bool, typer.Option("--random", help="Random weights, no download: a placeholder.")] = False,
    seed: Annotated[int, typer.Option(help="Of what is drawn: adapters and fusion, or everything.")] = 0,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    max_shard_size: Annotated[str, typer.Option(help="Limit of one file, such as 2GB or 500MB.")] = "2GB",
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Assemble public backbones into a model with untrained adapters."""
    from nanoemox.weights.assemble import WriteOptions
    from nanoemox.weights.assemble import assemble as write_model
    from nanoemox.weights.presets import TEXT

    given = {"vision": vision, "speech": speech, "face": face, TEXT: lm}
    sources = {part: source for part, source in given.items() if source is not None}
    report = write_model(preset, out, sources, WriteOptions(random, seed, dtype, max_shard_size))
    if json:
        print_json(report.to_dict())
    else:
        from nanoemox.cli.render import show_sizes

        print_text(report.text())
        show_sizes(report.sizes.rows())


@app.command(epilog="Example:  nanoemox convert phase3.pth --base reference --out authors")
def convert(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="PTH...", help="The authors' files; later ones override earlier ones.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    base: Annotated[
        Path | None, typer.Option(help="Model directory that gives the frozen weights; without it: adapters alone.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Turn the authors' checkpoints into a model directory."""
    from nanoemox.inference.checkpoints import find_checkpoint
    from nanoemox.weights.convert import convert_checkpoints

    if base is not None:
        find_checkpoint(base)
    report = convert_checkpoints(checkpoints, out, base)
    if json:
        print_json(report.to_dict())
    else:
        print_text(report.text())
