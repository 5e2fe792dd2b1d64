"""Limits of the server, and the outermost middleware, which checks size, time, host and token.

It is plain ASGI, so that a body is counted while it arrives.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from nanoemox.listening import known_host, netloc_of
from nanoemox.media.decode import MediaOptions
from nanoemox.serving.errors import ApiError, error_response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no token."""
MAX_INPUTS: Final = 16
"""Limit of media in one request."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one server.

    Attributes:
        body_bytes: Largest request.
        all_bodies_bytes: All running requests together, without uploaded files (``files_bytes``).
        body_s: Longest time for a request to arrive.
        request_s: Longest time from then to the response.
        queue: Requests running or waiting; further ones get 429.
        batch: Largest batch of clips.
        duration_s: Longest clip.
        pixels: Largest image.
        decode_s: Longest time to decode one file.
        decode_mb: Memory limit of a decoding process.
        decoders: Files decoded at a time.
        files_bytes: Uploaded files together.
        file_s: Lifetime of an uploaded file.
        sessions: Concurrent live streams.
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
        """Return the options for decoding one file."""
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
    """Reject requests that exceed a limit or lack the token, before anything is parsed.

    Args:
        app: The application.
        limits: Its limits.
        host: Host name accepted besides IP addresses and ``localhost``, against DNS rebinding.
        token: Token of ``Authorization: Bearer``; None for none.
    """

    def __init__(self, app: App, limits: Limits, host: str, token: str | None) -> None:
        self.app, self.limits, self.host, self.token = app, limits, host, token
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        error = self._rejection(scope, headers)
        if scope["type"] == "websocket":
            if error is not None:
                await send({"type": "websocket.close", "code": 1008, "reason": str(error)[:120]})
                return
            await self.app(scope, receive, send)
            return
        if error is not None:
            await error_response(error)(scope, receive, send)
            return
        await self._bounded(scope, receive, send)

    def _rejection(self, scope: Scope, headers: dict[str, str]) -> ApiError | None:
        host = headers.get("host", "")
        if not known_host(host, self.host):
            return ApiError(421, "call this server by its IP address, by localhost, or by the name given with --host")
        origin = headers.get("origin")
        if origin is not None and netloc_of(origin) != host.lower():
            return ApiError(403, "pages of other sites may not use this server")
        if self.token is not None and scope["path"] not in OPEN_PATHS:
            given = headers.get("authorization", "").removeprefix("Bearer ").strip()
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                return ApiError(401, "this server needs its token: Authorization: Bearer TOKEN", code="invalid_api_key")
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > self.limits.body_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> ApiError:
        return ApiError(
            413, f"the request is larger than {self.limits.body_bytes} bytes: cut the clip or scale it down"
        )

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting its bytes as they arrive."""
        taken, begun, done = 0, False, False
        deadline = asyncio.get_running_loop().time() + self.limits.body_s

        async def counted() -> Message:
            nonlocal taken, done
            if done:
                return await receive()  # only a disconnect can follow
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise ApiError(408, f"the request did not arrive within {self.limits.body_s:g} s") from None
            done = not message.get("more_body", False)
            size = len(message.get("body", b""))
            taken, self._held = taken + size, self._held + size
            if taken > self.limits.body_bytes:
                raise self._too_large()
            if self._held > self.limits.all_bodies_bytes:
                raise ApiError(429, "too many large requests at once: retry in a second", retry_after_s=1)
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except ApiError as error:
            if begun:
                raise
            await error_response(error)(scope, receive, send)
        finally:
            self._held -= taken
