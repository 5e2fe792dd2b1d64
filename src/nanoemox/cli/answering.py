"""Commands that run a model on clips, ``answer`` and ``decide``, and ``env``, which shows what it would run on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanoemox.cli.answer_request import AnswerRequest
from nanoemox.cli.app import DeviceOption, JsonOption, ModelOption, app, print_json, print_text, with_options


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


@app.command(epilog="Example:  nanoemox decide talk.mp4 --question 'choice: Is the speaker sincere? yes|no|unclear'")
def decide(
    clip: Annotated[Path | None, typer.Argument(help="Video, audio or picture file.")] = None,
    question: Annotated[
        list[str] | None,
        typer.Option(
            metavar="QUESTION",
            help="'predicate: Is it so?', 'choice: Which? one|other' or 'score: How much? little|some|much', "
            "lowest level first; give it again for more questions.",
        ),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="More: JSON as OpenAI's /v1/decisions takes them, or one question a line."),
    ] = None,
    text: Annotated[str | None, typer.Option(help="The words, alone or with a clip.")] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Answer up to 400 questions of your own about one clip: a probability for every option."""
    from nanoemox.inference.questions import check_questions, read_questions
    from nanoemox.types import NanoEmoXError

    if clip is None and not (text or "").strip():
        raise NanoEmoXError("nothing to decide about: name a clip, or give words alone with --text")
    if not question and questions is None:
        raise NanoEmoXError("no question: give --question 'predicate: Is it so?' or --questions FILE")
    checked = check_questions([*(question or ()), *(read_questions(questions) if questions else ())])
    from nanoemox.inference.engine import Engine

    found = Engine.from_pretrained(model, device=device).decide(clip, checked, text=text)
    if json:
        print_json(found.to_dict())
        return
    from nanoemox.cli.render import format_decision

    for answer in found.answers:
        print_text(format_decision(answer))
    for warning in found.warnings:
        print_text(f"note: {warning}", err=True)
