"""What the server takes at most, and the outermost layer that holds it: size, time, host, token.

The layer is plain ASGI, so that a body is counted while it arrives and nothing after it waits for more than it may.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from nanoemox.listening import known_host, netloc_of
from nanoemox.media.decode import MediaOptions
from nanoemox.serving.errors import Refusal, problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""What answers without a token."""
MAX_INPUTS: Final = 16
"""Media in one request."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server.

    Attributes:
        body_bytes: Largest request.
        all_bodies_bytes: All requests at work together; uploaded files count apart, see ``files_bytes``.
        body_s: Longest time that a request may take to arrive.
        request_s: Longest time from then to the answer.
        queue: Requests at work or waiting; one more is told to come back.
        batch: Clips that run through the model together.
        duration_s: Longest clip.
        pixels: Largest picture.
        decode_s: Longest time to decode one medium.
        decode_mb: Memory of the process that decodes it.
        decoders: Media decoded at a time.
        files_bytes: Uploaded files kept in memory together.
        file_s: How long an uploaded file is kept.
        sessions: Live streams at a time.
    """

    body_bytes: int = 32 * 2**20
    all_bodies_bytes: int = 512 * 2**20
    body_s: float = 60.0
    request_s: float = 300.0
    queue: int = 64
    batch: int = 16
    duration_s: float = 600.0
    pixels: int = 4096 * 4096
    decode_s: float = 60.0
    decode_mb: int = 2048
    decoders: int = 2
    files_bytes: int = 256 * 2**20
    file_s: float = 3600.0
    sessions: int = 32

    def media(self, num_frames: int, sampling: Any, span_s: tuple[float, float] | None = None) -> MediaOptions:
        """How one medium is decoded."""
        return MediaOptions(
            num_frames=num_frames,
            frame_sampling=sampling,
            start_s=span_s[0] if span_s else 0.0,
            end_s=span_s[1] if span_s else None,
            max_duration_s=self.duration_s,
            max_bytes=self.body_bytes,
            max_pixels=self.pixels,
            time_limit_s=self.decode_s,
            memory_limit_mb=self.decode_mb,
        )


class Guard:
    """Refuse what may not come in, before anything is parsed.

    Args:
        app: The application.
        limits: Its bounds.
        host: What clients may call this machine besides its addresses and ``localhost``: a page whose name an attacker
            points at this machine is none of these.
        token: What clients must send as ``Authorization: Bearer``; None asks for nothing.
    """

    def __init__(self, app: App, limits: Limits, host: str, token: str | None) -> None:
        self.app, self.limits, self.host, self.token = app, limits, host, token
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if refusal is not None:
                await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)[:120]})
                return
            await self.app(scope, receive, send)
            return
        if refusal is not None:
            await problem(refusal)(scope, receive, send)
            return
        await self._bounded(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> Refusal | None:
        called = headers.get("host", "")
        if not known_host(called, self.host):
            return Refusal(421, "call this server by its IP address, by localhost, or by the name given with --host")
        origin = headers.get("origin")
        if origin is not None and netloc_of(origin) != called.lower():
            return Refusal(403, "pages of other sites may not use this server")
        if self.token is not None and scope["path"] not in OPEN_PATHS:
            given = headers.get("authorization", "").removeprefix("Bearer ").strip()
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                return Refusal(401, "this server needs its token: Authorization: Bearer TOKEN", code="invalid_api_key")
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > self.limits.body_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the request is larger than {self.limits.body_bytes} bytes: cut the clip or scale it down")

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on while counting what arrives."""
        taken, begun, done = 0, False, False
        deadline = asyncio.get_running_loop().time() + self.limits.body_s

        async def counted() -> Message:
            nonlocal taken, done
            if done:
                return await receive()  # nothing but the client's leaving
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise Refusal(408, f"the request did not arrive within {self.limits.body_s:g} s") from None
            done = not message.get("more_body", False)
            size = len(message.get("body", b""))
            taken, self._held = taken + size, self._held + size
            if taken > self.limits.body_bytes:
                raise self._too_large()
            if self._held > self.limits.all_bodies_bytes:
                raise Refusal(429, "too many large requests at once: come back in a second", retry_after_s=1)
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except Refusal as refusal:
            if begun:
                raise
            await problem(refusal)(scope, receive, send)
        finally:
            self._held -= taken
