"""The folder of pulled models while one is made: alone in it, with room, and whole models only."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanoemox.types import CheckpointError
from nanoemox.weights.home import home


def check_space(needed_bytes: int) -> None:
    """Raise CheckpointError where the folder's disk has less room than a pull needs."""
    root = home()
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < needed_bytes:
        raise CheckpointError(
            f"{root} has {free / 1e9:.2f} GB free, a pull needs {needed_bytes / 1e9:.1f} GB: free some, or set "
            "NANOEMOX_HOME to a folder on a disk with room"
        )


def replace_model(new: Path, final: Path) -> None:
    """Put a finished directory in the place of the old one."""
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def disk_full_as_error() -> Iterator[None]:
    """Turn a full disk into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CheckpointError(
                f"no space left in {home()}: free some, or set NANOEMOX_HOME to another disk"
            ) from None
        raise


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of the folder; it ends with the process, however that ends."""
    from filelock import FileLock, Timeout

    root = home()
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / "pull.lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise CheckpointError(f"another pull is at work in {root}: wait for it") from None
    except OSError as error:
        raise CheckpointError(
            f"{root} cannot be written ({error.strerror}): set NANOEMOX_HOME to a folder that can"
        ) from None
    try:
        yield
    finally:
        lock.release()
