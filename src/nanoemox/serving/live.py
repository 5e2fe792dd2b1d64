"""``/v1/live``: sound and pictures in, readings out, over one WebSocket.

The client sends binary messages (s16le 16 kHz mono of about 100 ms, or a JPEG) and JSON (``session.update``,
``session.end``); it is sent ``session.created``, ``session.updated``, ``utterance.start``, ``utterance.end``,
``measurement.result``, ``reply``, ``error`` and ``session.ended``. Where the model cannot keep up, readings are left
out and counted; the connection stays.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from nanoemox.faces.detectors import Memory
from nanoemox.inference.batch import make_plan
from nanoemox.serving.errors import Refusal, body_of, misfit, refusal_of
from nanoemox.serving.measuring import Smoother, look, measures, replied, reply, result, spoken
from nanoemox.serving.pictures import is_jpeg
from nanoemox.serving.rolling import Backlog, Due, LiveConfig, Rolling, Speech
from nanoemox.serving.service import Service
from nanoemox.types import NanoEmoXError

routes = APIRouter()
T = TypeVar("T")
MAX_OUTGOING: Final = 64
"""Messages that wait for a client that does not read; beyond, the oldest reading is forgotten."""
MAX_JSON_CHARACTERS: Final = 16_384


@routes.websocket("/v1/live")
async def live(socket: WebSocket) -> None:
    """Measure a stream until it ends."""
    service: Service = socket.app.state.service
    if service.live_sessions >= service.limits.sessions:
        await socket.close(1013, "too many sessions: come back later")
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
        # The detector of speech is read from its file here.
        self._rolling = await self._off_loop(lambda: Rolling(config, frames, pixels))
        self._smoother, self._measures = Smoother(config.half_life_s), measures(engine, config)
        self._memory = Memory()

    async def run(self) -> None:
        """Take messages, measure and send, each at its own pace; at the end of the stream finish what waits."""
        await self._configure(LiveConfig())
        self._say({"type": "session.created", "session": self._described()})
        sending = asyncio.ensure_future(self._send())
        measuring = asyncio.ensure_future(self._measure())
        try:
            await self._take()
            self._ended = True
            self._changed.set()
            await measuring
            self._say({"type": "session.ended"})
            self._measured = True
            self._sendable.set()
            await sending
            await self.socket.close()
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # the client has left
        finally:
            for task in (sending, measuring):
                task.cancel()

    def _described(self) -> dict[str, Any]:
        return {"id": self.id, "model": self.service.names[0], **self.config.model_dump(mode="json")}

    # ---------------------------------------------------------------- what comes in

    async def _take(self) -> None:
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1000))
            try:
                if message.get("text") is not None:
                    if await self._told(message["text"]):
                        return
                else:
                    # Pictures are decoded and speech is found here, in order, off the loop that serves the others.
                    await self._off_loop(partial(self._stream, message.get("bytes") or b""))
            except (Refusal, NanoEmoXError) as error:
                self._say({"type": "error", **body_of(refusal_of(error))})

    async def _told(self, text: str) -> bool:
        """Obey a message of control; return whether it ends the stream."""
        try:
            told = json.loads(text[:MAX_JSON_CHARACTERS])
            kind = told["type"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Refusal(400, 'a message of control is JSON with a "type"') from None
        if kind == "session.end":
            return True
        if kind != "session.update":
            raise Refusal(400, "the types are session.update and session.end")
        try:
            given = told.get("session")
            config = LiveConfig.model_validate(self.config.model_dump() | (given if isinstance(given, dict) else {}))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            raise misfit({**first, "loc": ("session", *first["loc"])}, LiveConfig.model_fields) from None
        await self._configure(config)
        self._say({"type": "session.updated", "session": self._described()})
        return False

    async def _off_loop(self, action: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self.service.streams, action)

    def _stream(self, data: bytes) -> None:
        for event in self._rolling.see(data) if is_jpeg(data) else self._rolling.hear(data):
            self._loop.call_soon_threadsafe(self._happened, event)

    def _happened(self, event: Speech | Due) -> None:
        if isinstance(event, Speech):
            self._say(spoken(event))
            return
        self._backlog.add(event)
        self._changed.set()

    # ---------------------------------------------------------------- what goes out

    async def _measure(self) -> None:
        while not (self._ended and not self._backlog):
            if not self._backlog:
                self._changed.clear()
                await self._changed.wait()
                continue
            due = self._backlog.take()
            try:
                await self._answer(due)
            except Exception as error:  # one stretch that cannot be read ends no stream
                self._say({"type": "error", **body_of(refusal_of(error))})

    async def _answer(self, due: Due) -> None:
        service, config, memory = self.service, self.config, self._memory
        clips = await service.in_decoder(lambda: look(service.engine, due, config, memory))
        answers = [await service.batcher.run(self._measures, clip) for clip in clips]
        self._say(result(due, answers, self._smoother, self._backlog.dropped + self._unsent))
        if config.reply and due.trigger == "speech_ended" and clips:
            self._say(replied(due, await service.batcher.run(reply(service.engine), clips[0])))

    def _say(self, message: dict[str, Any]) -> None:
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
