"""Fork servers: isolated decoding of many files without starting an interpreter for each.

``python -m nanoemox.media.forking`` loads the libraries once and then forks for each request: the child decodes one
file under its limits and exits. The fork server never reads a media file, so every child starts clean.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from queue import Empty, LifoQueue

from nanoemox.media.isolated import Launch, decode_request, run_once

_LATE = b"late\n"


class ForkServers:
    """A pool of fork servers that grows with the number of concurrent files; a ``Launch`` like ``run_once``."""

    def __init__(self) -> None:
        self._idle: LifoQueue[subprocess.Popen[bytes]] = LifoQueue()
        self._closed = False

    @property
    def idle(self) -> list[int]:
        """Process ids of the idle fork servers."""
        return [forker.pid for forker in self._idle.queue]

    def __call__(self, request: bytes, time_limit_s: float) -> int:
        """Decode one file and return the exit status of its process.

        Raises:
            TimeoutError: It took longer than ``time_limit_s`` and was killed.
        """
        forker = self._take()
        assert forker.stdin is not None
        assert forker.stdout is not None
        try:
            forker.stdin.write(json.dumps({"time_limit_s": time_limit_s}).encode() + b"\n" + request + b"\n")
            forker.stdin.flush()
            told = forker.stdout.readline()
        except BrokenPipeError:
            told = b""
        if not told:  # the fork server was killed
            _end(forker)
            return -signal.SIGKILL
        self._idle.put(forker)
        if self._closed:
            self.close()
        if told == _LATE:
            raise TimeoutError
        return int(told)

    def close(self) -> None:
        """Stop the fork servers; busy ones stop when they are done."""
        self._closed = True
        while True:
            try:
                _end(self._idle.get_nowait())
            except Empty:
                return

    def _take(self) -> subprocess.Popen[bytes]:
        while True:
            try:
                forker = self._idle.get_nowait()
            except Empty:
                return _start()
            if forker.poll() is None:
                return forker
            _end(forker)


def launcher() -> Launch:
    """Return :class:`ForkServers` if the system can fork, else ``run_once``."""
    return ForkServers() if hasattr(os, "fork") else run_once


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "nanoemox.media.forking"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Only the forking thread survives in a child, so there must be no other.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        # Ctrl-C must reach only the server, which finishes running work.
        start_new_session=True,
    )


def _end(forker: subprocess.Popen[bytes]) -> None:
    with forker:  # closes its pipes, upon which it exits, and waits for it
        pass


def _in_child(request: bytes, time_limit_s: float) -> bytes:
    """Fork a child that decodes; return its exit status as a line."""
    alive, held = os.pipe()
    child = os.fork()
    if child == 0:
        _decode_and_exit(request)
    os.close(held)
    # The child keeps the other end open until it ends, by whatever cause.
    ended = select.select([alive], [], [], time_limit_s)[0]
    if not ended:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(alive)
    return b"%d\n" % os.waitstatus_to_exitcode(status) if ended else _LATE


def _decode_and_exit(request: bytes) -> None:
    status = 1
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)  # output there would be read as an exit status
        decode_request(request)
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Serve requests until standard input ends."""
    requests, told = sys.stdin.buffer, sys.stdout.buffer
    while head := requests.readline():
        told.write(_in_child(requests.readline(), json.loads(head)["time_limit_s"]))
        told.flush()


if __name__ == "__main__":
    main()
