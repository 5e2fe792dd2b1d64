"""The folder of pulled models during a pull: lock, free space, and atomic replacement."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from nanoemox.types import CheckpointError
from nanoemox.weights.home import home


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
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def disk_full_as_error() -> Iterator[None]:
    """Turn the error of a full disk, also that of safetensors' writer, into a CheckpointError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error):
            raise CheckpointError(
                f"no space left in {home()}: free some, or set NANOEMOX_HOME to another disk"
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
