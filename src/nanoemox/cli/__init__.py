"""The command line. Every command imports what it needs when it runs, so that ``--help`` is instant.

Exit codes: 0 success; 2 a user error or an unusable file, reported in one sentence on stderr.
"""

from __future__ import annotations

import os
import sys

import typer

from nanoemox.cli import answering, data, evaluation, models, pull, rating, serving
from nanoemox.cli.app import app

__all__ = ["answering", "app", "data", "evaluation", "main", "models", "pull", "rating", "serving"]


def main(args: list[str] | None = None) -> None:
    """Run the command line; a user's mistake ends in one sentence and exit code 2."""
    # OpenMP reads these when torch is loaded, which is later. Threads that spin long while they wait make an answer
    # several times slower where other processes want the cores; a short spin costs little elsewhere
    # (docs/performance.md).
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "1000"
    try:
        app(args)
    except ValueError as error:
        from nanoemox.types import NanoEmoXError

        if not isinstance(error, NanoEmoXError):
            raise
        from nanoemox.printing import one_line

        typer.echo(f"nanoemox: {one_line(str(error))}", err=True)
        sys.exit(2)
