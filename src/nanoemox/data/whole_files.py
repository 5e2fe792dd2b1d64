r"""Files that are there as a whole or not at all, whoever is killed while writing; and lines of JSON files.

JSON may hold U+2028, U+0085 and other characters that :meth:`str.splitlines` takes for the end of a line, so lines end
at ``\n`` alone.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none; its folder is made where it lacks. Several threads may write the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, the whole file or none."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_lines(paths: Iterable[Path]) -> list[Any]:
    """Read JSON lines of files that are appended to; a line that a killed process left half is passed over."""
    out = []
    for path in paths:
        for line in path.read_text("utf-8", errors="replace").split("\n"):
            try:
                out.append(json.loads(line))
            except ValueError:
                continue
    return out
