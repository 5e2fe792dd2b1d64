"""The application, shared options, and printing."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final, TextIO, get_type_hints

import typer
from typer.core import TyperGroup

from nanoemox.printing import escaped, json_text


class Commands(TyperGroup):
    """The group of all commands; usage errors are escaped, since they quote names such as ``--x``."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options before the command."""
        with _usage_escaped():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read a command's own options, and run it."""
        with _usage_escaped():
            return super().invoke(ctx)


@contextmanager
def _usage_escaped() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):  # click's errors; typer may bring its own click
            error.message = escaped(message, keep="\n")  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    name="nanoemox",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Read a talking person: six affective answers from a clip.",
    epilog="Example:  nanoemox answer talk.mp4 --subtitle 'I finally got the job!'",
)


def quieten_libraries() -> None:
    """Silence the libraries' progress bars, notes and warnings, unless the user has set them.

    The libraries read these settings when they are imported, which commands do when they run.
    """
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("OPENCV_LOG_LEVEL", "ERROR"),
    ):
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _show_version(wanted: bool) -> None:
    if wanted:
        from nanoemox import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show what the libraries print: bars, notes, warnings.")
    ] = False,
) -> None:
    """Read a talking person: six affective answers from a clip."""
    logging.getLogger("nanoemox").addHandler(_LOG)
    if not verbose:
        quieten_libraries()


ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="small, authors, mini, a directory or a hub id; default: small if pulled, else mini."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MaxSecondsOption = Annotated[float, typer.Option(min=1, help="Longest clip.")]
DataRootOption = Annotated[Path, typer.Option(help="Folder that holds the corpora.")]
MediaRootOption = Annotated[Path | None, typer.Option(help="Folder of the media; default: as the manifest says.")]
TrustOption = Annotated[
    bool, typer.Option("--trust-npz", help="Open pickled .npz files: they can run any code, so trust their source.")
]
ScorerOption = Annotated[str, typer.Option(help="corrected, or legacy: the published protocol with its quirks.")]
WheelOption = Annotated[Path | None, typer.Option(help="Folder of the published wheel tables, for the legacy scorer.")]


def with_options(kind: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the fields of a dataclass as options of a command, which receives them as one object, ``options``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(kind, include_extras=True)
        options = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
            for f in fields(kind)
        ]

        @wraps(command)
        def run(**arguments: Any) -> None:
            command(options=kind(**{o.name: arguments.pop(o.name) for o in options}), **arguments)

        own = inspect.signature(command, eval_str=True)
        others = [p for p in own.parameters.values() if p.name != "options"]
        # Typer reads the options of a command from its signature.
        run.__signature__ = own.replace(parameters=[*others, *options])  # type: ignore[attr-defined]
        return run

    return decorate


def print_text(text: str, *, err: bool = False) -> None:
    """Print text; names and answers are untrusted, so control characters are escaped."""
    typer.echo(escaped(text, keep="\n"), err=err)


def print_json(value: object, indent: int | None = None) -> None:
    """Print JSON, in ASCII on a terminal or into a pipe that has no Unicode."""
    typer.echo(json_text(value, indent, ascii_only=not is_unicode(sys.stdout)))


def is_unicode(stream: TextIO) -> bool:
    """Return whether a stream can write every character."""
    return (stream.encoding or "utf-8").lower().replace("_", "-").startswith("utf")


class TerminalLog(logging.Handler):
    """Prints the package's log on stderr, one line per record, escaped: messages contain file names."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        typer.echo(escaped(self.format(record)), err=True)


_LOG: Final = TerminalLog()
