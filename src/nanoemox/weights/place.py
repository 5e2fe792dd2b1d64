"""Changes to the folder of pulled models: lock, free space, atomic replacement, removal."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from nanoemox.types import CheckpointError
from nanoemox.weights.home import (
    PULLABLE,
    PULLED,
    find_pulled,
    folder_size,
    home,
    old_folder,
    pulled_models,
    work_folders,
)


def check_space(needed_bytes: int) -> None:
    """Raise CheckpointError if the disk has less free space than a pull needs."""
    root = home()
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < needed_bytes:
        raise CheckpointError(
            f"{root} has {free / 1e9:.2f} GB free, a pull needs {needed_bytes / 1e9:.1f} GB: free some, or set "
            "NANOEMOX_HOME to a folder on a disk with room"
        )


def replace_model(new: Path, final: Path) -> None:
    """Replace the old directory by a finished one."""
    old = old_folder(final.name)
    _delete(old)
    if final.exists():
        final.rename(old)
    new.rename(final)
    _delete(old)


def _delete(folder: Path) -> None:
    """Delete a directory; a link to another disk goes with what it points to."""
    if folder.is_symlink():
        shutil.rmtree(folder.resolve(), ignore_errors=True)
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def remove_pulled(name: str) -> int:
    """Delete a pulled model, and what an interrupted pull of it left.

    Returns:
        Bytes freed.

    Raises:
        CheckpointError: There is none of that name, or a pull is running.
    """
    folder = find_pulled(name)
    rest = [f for f in (*work_folders(name), old_folder(name)) if f.is_dir()] if name in PULLABLE else []
    if folder is None and not rest:
        there = ", ".join(m.name for m in pulled_models()) or "none"
        raise CheckpointError(f"{name}: no such pulled model; there: {there}")
    with pull_lock():
        freed = sum(map(folder_size, rest))
        for left in rest:
            _delete(left)
        if folder is not None:
            freed += folder_size(folder)
            (folder / PULLED).unlink()  # from here on it is no model, whatever happens to the rest
            _delete(folder)
    return freed


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn errors of the disk, also those of safetensors' writer, into a CheckpointError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error):
            raise CheckpointError(
                f"no space left in {home()}: free some, or set NANOEMOX_HOME to another disk"
            ) from None
        if number is not None and isinstance(error, OSError):
            raise CheckpointError(
                f"{error.filename or home()} cannot be written ({error.strerror}): remove it, or set NANOEMOX_HOME to "
                "another folder"
            ) from None
        raise


@contextmanager
def pull_lock() -> Iterator[None]:
    """Hold the lock of the folder; it is released when the process ends."""
    from filelock import FileLock, Timeout

    root = home()
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / "pull.lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise CheckpointError(f"another pull is running in {root}: wait for it") from None
    except OSError as error:
        raise CheckpointError(
            f"{root} cannot be written ({error.strerror}): set NANOEMOX_HOME to a folder that can"
        ) from None
    try:
        yield
    finally:
        lock.release()
