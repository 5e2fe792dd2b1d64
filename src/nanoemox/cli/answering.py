"""Commands that ask a model: ``answer``, and what it would run on: ``env``."""

from __future__ import annotations

from typing import Annotated

import typer

from nanoemox.cli.answer_request import AnswerRequest
from nanoemox.cli.app import JsonOption, app, print_json, with_options


@app.command(epilog="Example:  nanoemox answer talk.mp4 --task mer --labels happy,sad,neutral --explain")
@with_options(AnswerRequest)
def answer(
    clips: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLIP...", help="Video, audio or picture files, or folders; with --ray s3://... too."),
    ] = None,
    *,
    options: AnswerRequest,
) -> None:
    """Answer some or all of the six tasks about clips of a talking person."""
    from nanoemox.cli.answer_files import answer_files
    from nanoemox.cli.answer_inputs import as_sources

    raise typer.Exit(answer_files(as_sources(clips or [], remote=options.ray), options))


@app.command(epilog="Example:  nanoemox env --json")
def env(
    json: JsonOption = False,
) -> None:
    """Show versions, device, decoders and models: what a bug report needs."""
    from nanoemox.cli.environment import describe_environment, format_environment

    found = describe_environment()
    if json:
        print_json(found, 2)
    else:
        typer.echo(format_environment(found))
