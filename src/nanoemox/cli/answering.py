"""Commands that ask a model: ``answer``, and what it would run on: ``env``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanoemox.cli.app import DeviceOption, JsonOption, ModelOption, app, print_json
from nanoemox.cli.scaled import RayOptions, with_ray_options


@app.command(epilog="Example:  nanoemox answer talk.mp4 --task mer --labels happy,sad,neutral --explain")
@with_ray_options
def answer(
    clips: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLIP...", help="Video, audio or picture files, or folders; with --ray s3://... too."),
    ] = None,
    text: Annotated[str | None, typer.Option(help="Words alone, in place of clips.")] = None,
    task: Annotated[
        str, typer.Option(help="all, or some of msa, mer, ovmer, mir, eri, erg, with commas between.")
    ] = "all",
    subtitle: Annotated[str | None, typer.Option(help="The words, exactly as given.")] = None,
    words: Annotated[
        str | None,
        typer.Option(
            metavar="auto|none|TEXT",
            help="auto: those beside or in the file, else what is heard (needs nanoemox pull small). [default: auto]",
        ),
    ] = None,
    asr_model: Annotated[str | None, typer.Option(help="Directory of another Whisper to listen with.")] = None,
    history: Annotated[
        Path | None, typer.Option(help='Earlier turns, oldest first: JSON [{"role": ..., "text": ...}, ...].')
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Candidates of one closed task, with commas between.")] = None,
    think: Annotated[bool, typer.Option("--think/--no-think", help="Chain of empathy before the reply.")] = True,
    every: Annotated[
        float | None, typer.Option(help="Answer along the clip: seconds from one window to the next.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="window, or utterance: answer along the clip, cut where what is said ends.")
    ] = "window",
    window: Annotated[float | None, typer.Option(help="Seconds in a window; default: 10.")] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    face_index: Annotated[int, typer.Option(help="Which person, 0 the largest.")] = 0,
    face_vectors: Annotated[
        Path | None,
        typer.Option(help="OpenFace's .csv of the clip, or .npy, for a model that reads face vectors."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per clip (or window) and line.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Append to this table; clips that it holds are skipped.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Add what the model looked at.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write one HTML page: answers, frames, audio, evidence.")] = None,
    *,
    scaled: RayOptions,
) -> None:
    """Answer some or all of the six tasks about clips of a talking person."""
    from nanoemox.cli.answer_files import answer_files
    from nanoemox.cli.answer_inputs import as_sources
    from nanoemox.cli.answer_options import AnswerRequest

    request = AnswerRequest(
        tasks=task,
        text=text,
        subtitle=subtitle,
        words=words,
        asr_model=asr_model,
        history=history,
        labels=labels,
        think=think,
        every_s=every,
        by=by,
        window_s=window,
        model=model,
        device=device,
        face_index=face_index,
        face_vectors=face_vectors,
        json=json,
        csv=csv,
        explain=explain,
        html=html,
        scaled=scaled.where(),
    )
    raise typer.Exit(answer_files(as_sources(clips or [], remote=scaled.ray), request))


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
