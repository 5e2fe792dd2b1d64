"""Many requests, one model: whatever waits and can run together does, on the one thread that runs the model.

Nothing waits for company: a batch is what came in while the last one ran, so one client alone is as quick as before.
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

from nanoemox.serving.errors import Refusal


class Work(Protocol):
    """A kind of work; equal works (by ``==``) run as one batch."""

    def run(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return a result, or an exception, for each item."""


@dataclass(slots=True)
class _Job:
    work: Work
    item: Any
    future: Future[Any] = field(default_factory=Future)


class Batcher:
    """Runs work in batches on one thread of its own.

    Args:
        max_batch: Items in one batch.
        watch: Told the size of each batch and its seconds.
    """

    def __init__(self, max_batch: int, watch: Callable[[int, float], None] = lambda size, seconds: None) -> None:
        self.max_batch, self._watch = max_batch, watch
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="nanoemox-model", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Items that wait."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether work is done."""
        return self._thread.is_alive() and not self._closed

    async def run(self, work: Work, item: Any) -> Any:
        """Return the result for an item, or raise what went wrong; cancelling takes it out of the queue.

        Raises:
            Refusal: 503, the batcher was closed.
        """
        job = _Job(work, item)
        with self._changed:
            if self._closed:
                raise Refusal(503, "the server is stopping: ask again later", retry_after_s=5)
            self._waiting.append(job)
            self._changed.notify()
        return await asyncio.wrap_future(job.future)

    def close(self) -> None:
        """Finish what waits and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        while jobs := self._take():
            # A client that has left has cancelled its future; from here on it cannot any more.
            live = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if live:
                self._answer(live)

    def _take(self) -> list[_Job]:
        """Wait for work; return the oldest item and those that can run with it, none once closed."""
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
        except BaseException as error:  # whatever it was, the thread must go on and every client must hear of it
            results = [error] * len(jobs)
        self._watch(len(jobs), time.perf_counter() - begin)
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, BaseException):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
