"""A process pool that works ahead and returns results in the order of the items.

User files can crash a decoder. An item whose process died is repeated by the caller, in its
careful way; the others go on in a fresh pool. Processes are spawned, never forked (threads of torch and FFmpeg do
not survive a fork), and end with the process that started them, even if it is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final, Generic, TypeVar

State = TypeVar("State")
Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD: Final = 4
"""Items in flight per process: enough to keep all busy, few enough for memory."""
THREADS: Final = 2
"""Threads used in place of processes: decoders release the interpreter lock."""


class Workers(Generic[State, Item, Result]):
    """A pool that does one kind of task.

    Args:
        task: Function of the result of ``make``, an item, and whether to be careful because the item may have killed
            a process. ``task`` and ``make`` must be module-level functions, so that other processes can import them.
        make: Creates the state of each process.
        arguments: Arguments of ``make``.
        processes: Number of processes; 0 uses threads.
    """

    def __init__(
        self,
        task: Callable[[State, Item, bool], Result],
        make: Callable[..., State],
        arguments: tuple[Any, ...] = (),
        processes: int = 0,
    ) -> None:
        self._task, self._make, self._arguments = task, make, arguments
        self.processes = processes
        self._state: State | None = None
        self._pool = self._fresh()

    def run(self, items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
        """Yield each item with its result, in order; some items are worked on ahead."""
        waiting = deque[tuple[Item, Future[Result], Executor]]()
        try:
            for item in items:
                waiting.append((item, *self._submit(item)))
                if len(waiting) >= AHEAD * max(self.processes, 1):
                    yield self._take(*waiting.popleft())
            while waiting:
                yield self._take(*waiting.popleft())
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, item: Item) -> tuple[Future[Result], Executor]:
        if self.processes == 0:
            return self._pool.submit(self._task, self._here(), item, False), self._pool
        try:
            return self._pool.submit(_call, self._task, item), self._pool
        except BrokenProcessPool:
            self._renew(self._pool)
            return self._pool.submit(_call, self._task, item), self._pool

    def _take(self, item: Item, future: Future[Result], pool: Executor) -> tuple[Item, Result]:
        try:
            return item, future.result()
        except BrokenProcessPool:  # this item or another one under way ended its process: which one cannot be known
            self._renew(pool)
            return item, self._task(self._here(), item, True)

    def _here(self) -> State:
        if self._state is None:
            self._state = self._make(*self._arguments)
        return self._state

    def _renew(self, broken: Executor) -> None:
        if broken is self._pool:
            broken.shutdown(wait=False, cancel_futures=True)
            self._pool = self._fresh()

    def _fresh(self) -> Executor:
        if self.processes == 0:
            return ThreadPoolExecutor(THREADS)
        return ProcessPoolExecutor(
            self.processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(self._make, self._arguments),
        )


_STATE: Any = None
"""The result of ``make`` in a worker process."""


def _start(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Initialise a worker: ignore Ctrl-C, end with the parent, use one core."""
    global _STATE
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import cv2

    cv2.setNumThreads(1)
    _STATE = make(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(task: Callable[[Any, Item, bool], Result], item: Item) -> Result:
    return task(_STATE, item, False)
