r"""Atomic file writing, safe against kills, and reading of JSON lines.

JSON may hold U+2028, U+0085 and other characters that :meth:`str.splitlines` takes for the end of a line, so lines end
at ``\n`` alone.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanoemox.types import NanoEmoXError, RecipeError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def files_below(folder: Path) -> list[Path]:
    """List the files below a folder in the order of their paths, through links to folders too, each folder once.

    Hidden files and folders are left out: archives of macOS hold a second file ``._name`` for every file.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(p for p in found if p.is_file())


class FullDiskError(RecipeError):
    """The disk is full; existing files are intact."""


_FULL = ("No space left", "file write failed", "Disk quota", "unexpected pos", "os error 28")
"""Messages for a full disk in the errors of C++ and Rust writers."""


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, creating its folder if needed. Several threads may write the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(partial):  # the user knows only the target
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_lines(paths: Iterable[Path]) -> list[Any]:
    """Read JSON lines of files that are appended to; a line cut off by a kill is skipped."""
    out = []
    for path in paths:
        for line in path.read_text("utf-8", errors="replace").split("\n"):
            try:
                out.append(json.loads(line))
            except ValueError:
                continue
    return out


def lock_file(descriptor: int) -> bool:
    """Lock an open file until it is closed or the process ends.

    Returns:
        False if another process holds the lock. Where the system or the file system has no locks (Windows, some network
        drives) nothing is checked, and the result is True.
    """
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


@contextmanager
def sole_writer(folder: Path, *, wanted: bool = True) -> Iterator[None]:
    """Lock a folder for this process.

    Args:
        folder: Created if it does not exist.
        wanted: False locks nothing.

    Raises:
        NanoEmoXError: Another process holds it.
        OSError: The folder cannot be written.
    """
    if not wanted:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        if not lock_file(file.fileno()):
            raise NanoEmoXError(f"{folder}: another process is writing here: wait for it, or give another folder")
        yield


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn the error of a full disk into a clear message.

    Raises:
        FullDiskError: Nothing more can be written.
    """
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or (not isinstance(error, NanoEmoXError) and any(sign in str(error) for sign in _FULL)):
            raise FullDiskError(
                f"{folder}: the disk is full: make room, then start again; what was finished is kept"
            ) from error
        raise
