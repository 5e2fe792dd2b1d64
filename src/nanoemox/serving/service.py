"""The service behind all endpoints: one model thread, a pool of decoders, and admission control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import Request

from nanoemox.inference.engine import Engine
from nanoemox.inference.options import LoadOptions
from nanoemox.inference.timeline import NO_ANSWER
from nanoemox.media.forking import ForkServers, launcher
from nanoemox.media.load import load_clip
from nanoemox.media.windows import rolling_windows
from nanoemox.serving.batching import Batcher
from nanoemox.serving.errors import ApiError
from nanoemox.serving.fetch import fetch
from nanoemox.serving.files import FileStore
from nanoemox.serving.limits import MAX_INPUTS, Limits
from nanoemox.serving.media import ClipInput, Medium, merge
from nanoemox.serving.work import AnswerWork
from nanoemox.types import Answer, Clip, MediaError, NanoEmoXError

T = TypeVar("T")


class Metrics:
    """The metrics of ``/metrics``; no label contains anything that a client sent."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "nanoemox_requests", "Responses by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "nanoemox_request_seconds", "From request to response.", ["route"], registry=self.registry
        )
        self.at_work = Gauge("nanoemox_requests_at_work", "Requests running or waiting.", registry=self.registry)
        self.batch = Histogram(
            "nanoemox_batch_size", "Clips in one batch.", registry=self.registry, buckets=(1, 2, 4, 8, 16, 32)
        )
        self.batch_seconds = Histogram("nanoemox_batch_seconds", "Seconds of one batch.", registry=self.registry)

    def observe_batch(self, size: int, seconds: float) -> None:
        """Record one batch."""
        self.batch.observe(size)
        self.batch_seconds.observe(seconds)


class Service:
    """An engine shared by concurrent requests.

    Args:
        engine: The engine.
        limits: Limits of the server.
        media_hosts: Hosts from which media may be fetched.
        names: Names of the model in requests.
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
        self.batcher = Batcher(self.limits.batch, self.metrics.observe_batch)
        self.decoders = ThreadPoolExecutor(self.limits.decoders, "nanoemox-decode")
        self.streams = ThreadPoolExecutor(self.limits.decoders, "nanoemox-stream")
        self._launch = launcher()
        self.files = FileStore(self.limits.files_bytes, self.limits.file_s)
        self.live_sessions = 0
        self._at_work = 0

    def close(self) -> None:
        """Finish running work and stop the threads."""
        for pool in (self.decoders, self.streams):
            pool.shutdown(cancel_futures=True)
        if isinstance(self._launch, ForkServers):
            self._launch.close()
        self.batcher.close()

    def check_model(self, name: str | None) -> None:
        """Raise ApiError (404) for an unknown model."""
        if name is not None and name not in self.names:
            raise ApiError(
                404, f"no such model: the models are {', '.join(self.names)}", code="model_not_found", param="model"
            )

    # ---------------------------------------------------------------- admission

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Admit a request if the queue is not full; the body of the context has ``request_s`` to finish."""
        with self._place():
            async with asyncio.timeout(self.limits.request_s):
                yield

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Hold a place in the queue, if it is not full."""
        if self._at_work >= self.limits.queue:
            raise ApiError(429, "too many requests at once: retry in a second", retry_after_s=1)
        self._at_work += 1
        self.metrics.at_work.set(self._at_work)
        try:
            yield
        finally:
            self._at_work -= 1
            self.metrics.at_work.set(self._at_work)

    async def while_connected(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Run admitted work for a client; cancel it on disconnect."""
        task, leaving = asyncio.ensure_future(self._admitted(work)), asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ApiError(499, "the client disconnected")
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

    async def clip(self, source: ClipInput) -> Clip:
        """Decode the media of a request in child processes, and complete the clip with face and words.

        Raises:
            ApiError: A medium cannot be fetched, or there are too many.
            MediaError: A medium cannot be decoded.
        """
        words = (source.words or "").strip() or None
        if len(source.media) > MAX_INPUTS:
            raise ApiError(400, f"{len(source.media)} media: send at most {MAX_INPUTS}")
        if not source.media:
            return Clip("words", subtitle=words, history=tuple(source.history))
        clips = await asyncio.gather(*(self.decode(m, words) for m in source.media))
        whole = replace(merge(clips, self._frames), subtitle=words or clips[-1].subtitle, history=tuple(source.history))
        options = LoadOptions(hear=words is None)
        return await self.run_in_decoder(lambda: self.engine.complete(whole, options=options))

    async def decode(self, medium: Medium, words: str | None = None, span_s: tuple[float, float] | None = None) -> Clip:
        """Decode one medium, or a span of it."""
        data = await self.read_bytes(medium)
        options = self.limits.media(self._frames, self.engine.processor.config.vision.frame_sampling, span_s)
        return await self.run_in_decoder(
            lambda: load_clip(
                data,
                num_frames=self._frames,
                subtitle=words,
                start_s=options.start_s,
                end_s=options.end_s,
                name=medium.kind,
                isolated=self._launch,
                options=options,
            )
        )

    async def read_bytes(self, medium: Medium) -> bytes:
        """Return the bytes of a medium."""
        if medium.file_id is not None:
            return self.files.get(medium.file_id).data
        if medium.url is not None:
            url = medium.url
            return await self.run_in_decoder(lambda: fetch(url, self.media_hosts, self.limits.body_bytes))
        return medium.data or b""

    @property
    def _frames(self) -> int:
        return int(self.engine.processor.config.vision.num_frames)

    async def run_in_decoder(self, action: Callable[[], T]) -> T:
        """Run blocking work (decoding, face detection) in the decoder pool."""
        return await asyncio.get_running_loop().run_in_executor(self.decoders, action)

    # ---------------------------------------------------------------- timeline

    async def timeline(
        self, source: ClipInput, work: AnswerWork, every_s: float, window_s: float
    ) -> AsyncGenerator[Answer, None]:
        """Yield the answers along a clip in order, one per window; at most ``limits.decoders`` windows run at once.

        It holds a place in the queue until it is closed; the decoding of the clip and each window have ``request_s``.

        Raises:
            ApiError: Not exactly one video or audio, or the queue is full.
            TimeoutError: Decoding or a window took too long.
            NanoEmoXError: An invalid hop or window length.
        """
        if len(source.media) != 1 or source.media[0].kind == "image":
            raise ApiError(400, "a timeline needs one video or audio: send exactly one", param="timeline")
        with self._place():
            async with asyncio.timeout(self.limits.request_s):
                data = await self.read_bytes(source.media[0])
                medium = replace(source.media[0], data=data, url=None, file_id=None)
                whole = await self.decode(medium)
            try:
                spans = rolling_windows(whole.duration_s, every_s, window_s)
            except ValueError as error:
                raise NanoEmoXError(str(error)) from error
            waiting: list[asyncio.Task[Answer]] = []
            try:
                for span in spans:
                    waiting.append(asyncio.ensure_future(self._window(medium, source, work, span)))
                    if len(waiting) > self.limits.decoders:
                        yield await asyncio.wait_for(waiting.pop(0), self.limits.request_s)
                while waiting:
                    yield await asyncio.wait_for(waiting.pop(0), self.limits.request_s)
            finally:
                for task in waiting:
                    task.cancel()

    async def _window(self, medium: Medium, source: ClipInput, work: AnswerWork, span: tuple[float, float]) -> Answer:
        try:
            part = await self.decode(medium, source.words, span)
            part = replace(part, history=tuple(source.history))
            options = LoadOptions(hear=source.words is None)
            clip = await self.run_in_decoder(lambda: self.engine.complete(part, options=options))
            answer: Answer = await self.batcher.run(work, clip)
        except MediaError as error:
            answer = Answer(medium.kind, self.engine.name, {}, warnings=(f"{NO_ANSWER}: {error}",))
        return replace(answer, span_s=(span[0], span[1]))


async def _disconnected(request: Request) -> None:
    """Wait for the client to disconnect; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
