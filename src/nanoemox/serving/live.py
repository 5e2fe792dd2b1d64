"""``/v1/live``: audio and images in, measurements out, over one WebSocket.

The client sends binary messages (s16le 16 kHz mono of about 100 ms, or a JPEG) and JSON (``session.update``,
``session.end``). The server sends ``session.created``, ``session.updated``, ``utterance.start``, ``utterance.end``,
``measurement.result``, ``reply``, ``error`` and ``session.ended``. If the model cannot keep up, measurements are
dropped and counted; the connection stays open.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from nanoemox.faces.detectors import DetectionCache
from nanoemox.inference.batch import make_plan
from nanoemox.serving.errors import ApiError, error_body, invalid_field, to_api_error
from nanoemox.serving.measuring import (
    Smoother,
    clips_of,
    measurement_work,
    reply_message,
    reply_work,
    result_message,
    speech_message,
)
from nanoemox.serving.pictures import is_jpeg
from nanoemox.serving.rolling import Backlog, Due, LiveConfig, Rolling, Speech
from nanoemox.serving.service import Service

routes = APIRouter()
T = TypeVar("T")
MAX_OUTGOING: Final = 64
"""Limit of unsent messages; beyond it the oldest is dropped."""
MAX_JSON_CHARACTERS: Final = 16_384


@routes.websocket("/v1/live")
async def live(socket: WebSocket) -> None:
    """Measure a stream until it ends."""
    service: Service = socket.app.state.service
    if service.live_sessions >= service.limits.sessions:
        await socket.close(1013, "too many sessions: retry later")
        return
    service.live_sessions += 1
    try:
        await socket.accept()
        await Session(service, socket).run()
    finally:
        service.live_sessions -= 1


class Session:
    """One client's stream."""

    def __init__(self, service: Service, socket: WebSocket) -> None:
        self.service, self.socket = service, socket
        self.id = f"live-{secrets.token_hex(8)}"
        self._outgoing: deque[dict[str, Any]] = deque()
        self._backlog = Backlog()
        self._changed, self._sendable = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._unsent = 0
        self._ended = self._measured = False

    async def _configure(self, config: LiveConfig) -> None:
        engine = self.service.engine
        make_plan(config.tasks, config.labels or None)
        self.config = config
        frames, pixels = engine.processor.config.vision.num_frames, self.service.limits.pixels
        # This loads the speech detector from its file.
        self._rolling = await self._off_loop(lambda: Rolling(config, frames, pixels))
        self._smoother, self._work = Smoother(config.half_life_s), measurement_work(engine, config)
        self._cache = DetectionCache()
        self._backlog.clear()

    async def run(self) -> None:
        """Receive, measure and send concurrently; at the end of the stream finish pending measurements."""
        await self._configure(LiveConfig())
        self._enqueue({"type": "session.created", "session": self._session()})
        sending = asyncio.ensure_future(self._send())
        measuring = asyncio.ensure_future(self._measure())
        try:
            await self._receive()
            self._ended = True
            self._changed.set()
            await measuring
            self._enqueue({"type": "session.ended"})
            self._measured = True
            self._sendable.set()
            await sending
            await self.socket.close()
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # the client disconnected
        finally:
            for task in (sending, measuring):
                task.cancel()

    def _session(self) -> dict[str, Any]:
        return {"id": self.id, "model": self.service.names[0], **self.config.model_dump(mode="json")}

    # ---------------------------------------------------------------- input

    async def _receive(self) -> None:
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1000))
            try:
                if message.get("text") is not None:
                    if await self._control(message["text"]):
                        await self._off_loop(lambda: self._pass_on(self._rolling.finish()))
                        return
                else:
                    # Images are decoded and speech is detected in order, off the event loop.
                    await self._off_loop(partial(self._feed, message.get("bytes") or b""))
            except Exception as error:  # one bad message does not end the stream
                self._enqueue({"type": "error", **error_body(to_api_error(error))})

    async def _control(self, text: str) -> bool:
        """Handle a control message; return whether it ends the stream."""
        try:
            message = json.loads(text[:MAX_JSON_CHARACTERS])
            kind = message["type"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ApiError(400, 'a control message is a JSON object with a "type"') from None
        if kind == "session.end":
            return True
        if kind != "session.update":
            raise ApiError(400, "the types are session.update and session.end")
        try:
            given = message.get("session")
            config = LiveConfig.model_validate(self.config.model_dump() | (given if isinstance(given, dict) else {}))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            raise invalid_field({**first, "loc": ("session", *first["loc"])}, LiveConfig.model_fields) from None
        await self._configure(config)
        self._enqueue({"type": "session.updated", "session": self._session()})
        return False

    async def _off_loop(self, action: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self.service.streams, action)

    def _feed(self, data: bytes) -> None:
        self._pass_on(self._rolling.see(data) if is_jpeg(data) else self._rolling.hear(data))

    def _pass_on(self, events: Iterable[Speech | Due]) -> None:
        for event in events:
            self._loop.call_soon_threadsafe(self._on_event, event)

    def _on_event(self, event: Speech | Due) -> None:
        if isinstance(event, Speech):
            self._enqueue(speech_message(event))
            return
        self._backlog.add(event)
        self._changed.set()

    # ---------------------------------------------------------------- output

    async def _measure(self) -> None:
        while not (self._ended and not self._backlog):
            if not self._backlog:
                self._changed.clear()
                await self._changed.wait()
                continue
            due = self._backlog.take()
            try:
                await self._answer(due)
            except Exception as error:  # one failed measurement does not end the stream
                self._enqueue({"type": "error", **error_body(to_api_error(error))})

    async def _answer(self, due: Due) -> None:
        service, config, cache = self.service, self.config, self._cache
        work, smoother = self._work, self._smoother
        clips = await service.run_in_decoder(lambda: clips_of(service.engine, due, config, cache))
        answers = [await service.batcher.run(work, clip) for clip in clips]
        if smoother is not self._smoother:
            return  # the session was restarted meanwhile
        self._enqueue(result_message(due, answers, smoother, self._backlog.dropped + self._unsent))
        if config.reply and due.trigger == "speech_ended" and clips:
            self._enqueue(reply_message(due, await service.batcher.run(reply_work(service.engine), clips[0])))

    def _enqueue(self, message: dict[str, Any]) -> None:
        self._outgoing.append(message)
        while len(self._outgoing) > MAX_OUTGOING:
            self._outgoing.popleft()
            self._unsent += 1
        self._sendable.set()

    async def _send(self) -> None:
        while not (self._measured and not self._outgoing):
            if not self._outgoing:
                self._sendable.clear()
                await self._sendable.wait()
                continue
            await self.socket.send_text(json.dumps(self._outgoing.popleft(), separators=(",", ":")))
