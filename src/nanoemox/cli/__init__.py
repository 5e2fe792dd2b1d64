"""The command line. Every command imports what it needs when it runs, so that ``--help`` is instant.

Exit codes: 0 success; 2 a user error or an unusable file, reported in one sentence on stderr.
"""

from __future__ import annotations

import io
import os
import sys

import typer

from nanoemox.cli import answering, data, evaluation, models, pull, rating, serving
from nanoemox.cli.app import app, is_unicode

__all__ = ["answering", "app", "data", "evaluation", "main", "models", "pull", "rating", "serving"]


def main(args: list[str] | None = None) -> None:
    """Run the command line; a user's mistake ends in one sentence and exit code 2."""
    # OpenMP reads these when torch is loaded, which is later. Threads that spin long while they wait make an answer
    # several times slower where other processes want the cores; a short spin costs little elsewhere
    # (docs/performance.md).
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "1000"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not is_unicode(stream):
            stream.reconfigure(errors="backslashreplace")  # a name that it cannot show must not end a long run
    try:
        app(args)
    except ValueError as error:
        from nanoemox.types import NanoEmoXError

        if not isinstance(error, NanoEmoXError):
            raise
        _fail(str(error))
    except OSError as error:
        if error.filename is None or isinstance(error, BrokenPipeError):
            raise
        _fail(f"{error.filename}: {error.strerror}")


def _fail(message: str) -> None:
    from nanoemox.printing import one_line

    typer.echo(f"nanoemox: {one_line(message)}", err=True)
    sys.exit(2)
