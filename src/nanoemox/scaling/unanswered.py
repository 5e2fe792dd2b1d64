"""Response to a client whose replica is gone: retry, as OpenAI's clients do by themselves.

Runs in the processes of Ray Serve that listen, which would answer 500 with words of their own.
"""

from __future__ import annotations

from typing import Final

from starlette.middleware import Middleware

from nanoemox.serving.errors import ApiError, error_response
from nanoemox.serving.limits import App, Message, Receive, Scope, Send

PROXY_VARIABLES: Final = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "nanoemox.scaling.unanswered:middlewares"}
"""Environment of Ray's processes that makes Ray Serve use this; a cluster that was not started by us needs it too."""
_OURS: Final = b"application/json"


class Unanswered:
    """Answer 503 where no replica did, with a body that clients read and the time to come back.

    Args:
        app: Ray Serve's proxy.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = replaced = False

        async def noted(message: Message) -> None:
            nonlocal begun, replaced
            if message["type"] == "http.response.start":
                # Ray Serve reports in plain text that there is no replica or that the queue is full.
                replaced = message["status"] in (408, 429, 503) and not _is_ours(message)
                begun = not replaced
            if begun:
                await send(message)

        await self.app(scope, receive, noted)
        if not begun:
            error = ApiError(503, "the process that had this request is gone: ask again", retry_after_s=1)
            await error_response(error)(scope, receive, send)


def _is_ours(message: Message) -> bool:
    return any(k.lower() == b"content-type" and v.startswith(_OURS) for k, v in message.get("headers", ()))


def middlewares() -> list[Middleware]:
    """Return what Ray Serve puts around its proxy."""
    return [Middleware(Unanswered)]
