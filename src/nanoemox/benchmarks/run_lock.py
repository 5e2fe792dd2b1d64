"""One writer a run: a second ``nanoemox evaluate`` with the same ``--out`` is refused while the first one works."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nanoemox.types import NanoEmoXError

LOCK: Final = ".lock"


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Hold the lock of a run; the system lets go of it however the process ends.

    Where the system or the file system has no such locks (Windows, some network drives), nothing is checked.

    Raises:
        NanoEmoXError: Another process holds it.
        OSError: The folder cannot be written.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NanoEmoXError(
                f"{out}: another nanoemox evaluate writes this run: wait for it, or give another --out"
            ) from None
        except OSError:
            pass  # no locks here
        yield
    finally:
        os.close(handle)
