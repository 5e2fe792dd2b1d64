"""Micro-batching: requests that arrive while a batch runs form the next one, on the single model thread.

No request is delayed to fill a batch, so the latency of a single client is unchanged.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from nanoemox.serving.errors import ApiError


class Work(Protocol):
    """A kind of work; items of equal works (by ``==``) run in one batch."""

    def run(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return a result or an exception for each item."""


@dataclass(slots=True)
class _Job:
    work: Work
    item: Any
    future: Future[Any] = field(default_factory=Future)


class Batcher:
    """Runs work in batches on its own thread.

    Args:
        max_batch: Largest batch.
        on_batch: Called with the size and the seconds of each batch.
    """

    def __init__(self, max_batch: int, on_batch: Callable[[int, float], None] = lambda size, seconds: None) -> None:
        self.max_batch, self._on_batch = max_batch, on_batch
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="nanoemox-model", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Number of waiting items."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether the model thread runs."""
        return self._thread.is_alive() and not self._closed

    async def run(self, work: Work, item: Any) -> Any:
        """Return the result of an item or raise its exception; cancelling removes it from the queue.

        Raises:
            ApiError: 503 if the batcher is closed.
        """
        job = _Job(work, item)
        with self._changed:
            if self._closed:
                raise ApiError(503, "the server is shutting down: retry later", retry_after_s=5)
            self._waiting.append(job)
            self._changed.notify()
        return await asyncio.wrap_future(job.future)

    def close(self) -> None:
        """Finish the waiting items and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        while jobs := self._take():
            # Drop items whose future was cancelled by a disconnected client.
            live = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if live:
                self._answer(live)

    def _take(self) -> list[_Job]:
        """Wait for work; return the oldest item and those that can be batched with it, none once closed."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return []
                self._changed.wait()
            work, rest = self._waiting[0].work, deque[_Job]()
            jobs: list[_Job] = []
            for job in self._waiting:
                fits = len(jobs) < self.max_batch and job.work == work
                (jobs if fits else rest).append(job)
            self._waiting = rest
            return jobs

    def _answer(self, jobs: Sequence[_Job]) -> None:
        begin = time.perf_counter()
        try:
            results: Sequence[Any] = jobs[0].work.run([job.item for job in jobs])
        except BaseException as error:  # the thread must go on, and every client gets the error
            results = [error] * len(jobs)
        self._on_batch(len(jobs), time.perf_counter() - begin)
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, BaseException):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
