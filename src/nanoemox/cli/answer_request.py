"""The options of ``nanoemox answer``, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nanoemox.cli.app import DeviceOption, ModelOption
from nanoemox.cli.scaled import RayOptions


@dataclass(frozen=True)
class AnswerRequest(RayOptions):
    """The options, as typed; each field is one."""

    text: Annotated[str | None, typer.Option(help="Words alone, in place of clips.")] = None
    tasks: Annotated[
        str, typer.Option("--task", help="all, or some of msa, mer, ovmer, mir, eri, erg, with commas between.")
    ] = "all"
    subtitle: Annotated[str | None, typer.Option(help="The words, exactly as given.")] = None
    words: Annotated[
        str | None,
        typer.Option(
            metavar="auto|none|TEXT",
            help="auto: those beside or in the file, else what is heard (needs nanoemox pull small). [default: auto]",
        ),
    ] = None
    asr_model: Annotated[str | None, typer.Option(help="Directory of another Whisper to listen with.")] = None
    history: Annotated[
        Path | None, typer.Option(help='Earlier turns, oldest first: JSON [{"role": ..., "text": ...}, ...].')
    ] = None
    labels: Annotated[str | None, typer.Option(help="Candidates of one closed task, with commas between.")] = None
    think: Annotated[bool, typer.Option("--think/--no-think", help="Chain of empathy before the reply.")] = True
    every_s: Annotated[
        float | None, typer.Option("--every", help="Answer along the clip: seconds from one window to the next.")
    ] = None
    by: Annotated[
        str, typer.Option(help="window, or utterance: answer along the clip, cut where what is said ends.")
    ] = "window"
    window_s: Annotated[float | None, typer.Option("--window", help="Seconds in a window; default: 10.")] = None
    model: ModelOption = None
    device: DeviceOption = "auto"
    face_index: Annotated[int, typer.Option(help="Which person, 0 the largest.")] = 0
    face_vectors: Annotated[
        Path | None,
        typer.Option(help="OpenFace's .csv of the clip, or .npy, for a model that reads face vectors."),
    ] = None
    json: Annotated[bool, typer.Option("--json", help="One JSON object per clip (or window) and line.")] = False
    csv: Annotated[Path | None, typer.Option(help="Append to this table; clips that it holds are skipped.")] = None
    explain: Annotated[bool, typer.Option("--explain", help="Add what the model looked at.")] = False
    html: Annotated[Path | None, typer.Option(help="Write one HTML page: answers, frames, audio, evidence.")] = None
