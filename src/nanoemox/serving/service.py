"""What stands between the requests and the engine: one model thread, a few decoders, and a bounded number at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import Request

from nanoemox.inference.engine import Engine
from nanoemox.inference.options import LoadOptions
from nanoemox.inference.timeline import NO_ANSWER
from nanoemox.media.load import load_clip
from nanoemox.media.windows import rolling_windows
from nanoemox.serving.batching import Batcher
from nanoemox.serving.errors import Refusal
from nanoemox.serving.fetch import fetch
from nanoemox.serving.files import FileStore
from nanoemox.serving.limits import MAX_INPUTS, Limits
from nanoemox.serving.media import Medium, Spoken, merge
from nanoemox.serving.work import AnswerWork
from nanoemox.types import Answer, Clip, MediaError, NanoEmoXError

T = TypeVar("T")


class Metrics:
    """What ``/metrics`` shows; no label holds anything that a client sent."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "nanoemox_requests", "Answers by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "nanoemox_request_seconds", "From request to answer.", ["route"], registry=self.registry
        )
        self.at_work = Gauge("nanoemox_requests_at_work", "Requests at work or waiting.", registry=self.registry)
        self.batch = Histogram(
            "nanoemox_batch_size", "Clips in one batch.", registry=self.registry, buckets=(1, 2, 4, 8, 16, 32)
        )
        self.batch_seconds = Histogram("nanoemox_batch_seconds", "Seconds of one batch.", registry=self.registry)

    def watch(self, size: int, seconds: float) -> None:
        """Note one batch."""
        self.batch.observe(size)
        self.batch_seconds.observe(seconds)


class Service:
    """An engine that serves.

    Args:
        engine: The engine.
        limits: Bounds.
        media_hosts: Hosts that media may be fetched from.
        names: What clients may call the model.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits | None = None,
        media_hosts: frozenset[str] = frozenset(),
        names: tuple[str, ...] = (),
    ) -> None:
        self.engine, self.limits, self.media_hosts = engine, limits or Limits(), media_hosts
        self.names = tuple(dict.fromkeys(names or (engine.name, "nanoemox")))
        self.metrics = Metrics()
        self.batcher = Batcher(self.limits.batch, self.metrics.watch)
        self.decoders = ThreadPoolExecutor(self.limits.decoders, "nanoemox-decode")
        self.streams = ThreadPoolExecutor(self.limits.decoders, "nanoemox-stream")
        self.files = FileStore(self.limits.files_bytes, self.limits.file_s)
        self.live_sessions = 0
        self._at_work = 0

    def close(self) -> None:
        """Finish what is at work."""
        for pool in (self.decoders, self.streams):
            pool.shutdown(cancel_futures=True)
        self.batcher.close()

    def check_model(self, name: str | None) -> None:
        """Refuse a model that is not here."""
        if name is not None and name not in self.names:
            raise Refusal(
                404, f"no such model here: ask for {' or '.join(self.names)}", code="model_not_found", param="model"
            )

    # ---------------------------------------------------------------- admission

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Take one of the places, or refuse; everything inside must be done in time."""
        if self._at_work >= self.limits.queue:
            raise Refusal(429, "too many requests at once: come back in a second", retry_after_s=1)
        self._at_work += 1
        self.metrics.at_work.set(self._at_work)
        try:
            async with asyncio.timeout(self.limits.request_s):
                yield
        finally:
            self._at_work -= 1
            self.metrics.at_work.set(self._at_work)

    async def while_there(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Do work for a client; stop when it leaves."""
        task, leaving = asyncio.ensure_future(self._admitted(work)), asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Refusal(499, "the client left")
            return await task
        finally:
            for one in (task, leaving):
                one.cancel()

    async def _admitted(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with self.admitted():
                return await work
        finally:
            work.close()

    # ---------------------------------------------------------------- clips

    async def clip(self, spoken: Spoken, hear: bool = True) -> Clip:
        """Decode what a request carries, in processes of its own, and find the face and the words.

        Raises:
            Refusal: A medium that cannot be had.
            MediaError: A medium that cannot be read.
        """
        words = (spoken.words or "").strip() or None
        if len(spoken.media) > MAX_INPUTS:
            raise Refusal(400, f"{len(spoken.media)} media: send at most {MAX_INPUTS}")
        if not spoken.media:
            return Clip("words", subtitle=words, history=tuple(spoken.history))
        clips = await asyncio.gather(*(self.decoded(m, words) for m in spoken.media))
        whole = replace(merge(clips, self._frames), subtitle=words or clips[-1].subtitle, history=tuple(spoken.history))
        options = LoadOptions(hear=hear and words is None)
        return await self.in_decoder(lambda: self.engine.complete(whole, options=options))

    async def decoded(
        self, medium: Medium, words: str | None = None, span_s: tuple[float, float] | None = None
    ) -> Clip:
        """Decode one medium, or a part of it."""
        data = await self.bytes_of(medium)
        options = self.limits.media(self._frames, self.engine.processor.config.vision.frame_sampling, span_s)
        return await self.in_decoder(
            lambda: load_clip(
                data,
                num_frames=self._frames,
                subtitle=words,
                start_s=options.start_s,
                end_s=options.end_s,
                name=medium.kind,
                isolated=True,
                options=options,
            )
        )

    async def bytes_of(self, medium: Medium) -> bytes:
        """Return what a medium holds."""
        if medium.file_id is not None:
            return self.files.get(medium.file_id).data
        if medium.url is not None:
            url = medium.url
            return await self.in_decoder(lambda: fetch(url, self.media_hosts, self.limits.body_bytes))
        return medium.data or b""

    @property
    def _frames(self) -> int:
        return int(self.engine.processor.config.vision.num_frames)

    async def in_decoder(self, action: Callable[[], T]) -> T:
        """Run what decodes or looks for faces on one of the decoders' threads."""
        return await asyncio.get_running_loop().run_in_executor(self.decoders, action)

    # ---------------------------------------------------------------- along a clip

    async def timeline(
        self, spoken: Spoken, work: AnswerWork, every_s: float, window_s: float
    ) -> AsyncGenerator[Answer, None]:
        """Answer along a clip, window by window, in order; as many windows are at work as media are decoded at a time.

        Raises:
            Refusal: More or less than one medium.
            NanoEmoXError: A hop or a window that cannot be meant.
        """
        if len(spoken.media) != 1 or spoken.media[0].kind == "image":
            raise Refusal(400, "a timeline runs along one video or sound: send exactly one", param="timeline")
        medium = replace(spoken.media[0], data=await self.bytes_of(spoken.media[0]), url=None, file_id=None)
        whole = await self.decoded(medium)
        try:
            spans = rolling_windows(whole.duration_s, every_s, window_s)
        except ValueError as error:
            raise NanoEmoXError(str(error)) from error
        waiting: list[asyncio.Task[Answer]] = []
        try:
            for span in spans:
                waiting.append(asyncio.ensure_future(self._window(medium, spoken, work, span)))
                if len(waiting) > self.limits.decoders:
                    yield await waiting.pop(0)
            while waiting:
                yield await waiting.pop(0)
        finally:
            for task in waiting:
                task.cancel()

    async def _window(self, medium: Medium, spoken: Spoken, work: AnswerWork, span: tuple[float, float]) -> Answer:
        try:
            part = await self.decoded(medium, spoken.words, span)
            part = replace(part, history=tuple(spoken.history))
            options = LoadOptions(hear=spoken.words is None)
            clip = await self.in_decoder(lambda: self.engine.complete(part, options=options))
            answer: Answer = await self.batcher.run(work, clip)
        except MediaError as error:
            answer = Answer(medium.kind, self.engine.name, {}, warnings=(f"{NO_ANSWER}: {error}",))
        return replace(answer, span_s=(span[0], span[1]))


async def _left(request: Request) -> None:
    """Wait until the client has gone; its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
