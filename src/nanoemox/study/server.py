"""Web server of a blind human study: routes and request checks.

Only requests of the page itself are answered: the host must be an IP address, ``localhost`` or the served name (which
defeats DNS rebinding), and state-changing requests must be same-origin JSON. No response names a run.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from nanoemox.listening import known_host, listening_at, netloc_of
from nanoemox.study.store import RatingStore, UnknownError
from nanoemox.types import NanoEmoXError

MAX_BODY_BYTES: Final = 4096
BODY_TIMEOUT_S: Final = 10.0
HEADER_TIMEOUT_S: Final = 10.0
"""Time limit for the headers of a request."""
_PAGE: Final = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class JoinBody(_Body):
    """A rater joins or returns."""

    name: str


class RatingBody(_Body):
    """One score; null deletes it."""

    rater: str
    reply: str
    criterion: str
    score: int | None


class ImpatientProtocol(H11Protocol):
    """The server's protocol, which closes a connection that does not finish the head of its next request."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """Begin to wait for the next one."""
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(HEADER_TIMEOUT_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()

    def _give_up(self) -> None:
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


def serve_study(study: Path, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve a study until Ctrl-C.

    Args:
        study: Its file.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        on_ready: Called with the page's address once it can be opened.

    Raises:
        NanoEmoXError: No such study, or an address that cannot be bound.
    """
    with closing(RatingStore(study)) as store, listening_at(port, host) as (listening, address):
        on_ready(address)
        # The log would hold the raters' names.
        config = uvicorn.Config(
            create_app(store, host), log_level="warning", access_log=False, server_header=False, http=ImpatientProtocol
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def create_app(store: RatingStore, host: str = "127.0.0.1") -> FastAPI:
    """Return the application of one study; ``host`` is what raters may call the machine besides its addresses."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.store = store
    app.include_router(_ROUTES)

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = _refusal(request, host)
        if refused is None and request.method not in ("GET", "HEAD"):
            refused = await _slowness(request)
        response = await answer(request) if refused is None else _problem(*refused)
        response.headers.update(_HEADERS)
        return response

    @app.exception_handler(NanoEmoXError)
    async def user_error(request: Request, error: NanoEmoXError) -> Response:
        return _problem(404 if isinstance(error, UnknownError) else 422, str(error))

    @app.exception_handler(sqlite3.Error)
    async def database_error(request: Request, error: sqlite3.Error) -> Response:
        return _problem(507, f"not saved ({error}): tell whoever runs the study, then rate this reply again")

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> Response:
        fields = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
        return _problem(422, f"the request does not fit: {fields}")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        return _problem(error.status_code, error.detail)

    return app


def _store(request: Request) -> RatingStore:
    store: RatingStore = request.app.state.store
    return store


_ROUTES: Final = APIRouter()
_Store = Annotated[RatingStore, Depends(_store)]


@_ROUTES.get("/")
@_ROUTES.get("/page.css")
@_ROUTES.get("/page.js")
def _page(request: Request) -> Response:
    name, kind = _PAGE[request.url.path]
    return Response((files("nanoemox") / "study" / "page" / name).read_bytes(), media_type=kind)


@_ROUTES.get("/api/criteria")
def _criteria(store: _Store) -> dict[str, Any]:
    return {"scale": store.scale, "criteria": [asdict(criterion) for criterion in store.criteria]}


@_ROUTES.post("/api/raters")
def _join(body: JoinBody, store: _Store) -> dict[str, Any]:
    name = store.join(body.name)
    return {"rater": name, **asdict(store.progress(name))}


@_ROUTES.get("/api/replies/{position}")
def _show(position: int, rater: str, store: _Store) -> dict[str, Any]:
    return asdict(store.show(rater, position))


@_ROUTES.post("/api/scores")
def _rate(body: RatingBody, store: _Store) -> dict[str, Any]:
    return asdict(store.rate(body.rater, body.reply, body.criterion, body.score))


def _refusal(request: Request, host: str) -> tuple[int, str] | None:
    """Return why a request is refused, or None."""
    called = request.headers.get("host", "")
    if not known_host(called, host):
        return 421, "open this page by the address that nanoemox rate printed, or by the IP address of this machine"
    if request.method in ("GET", "HEAD"):
        return None
    if netloc_of(request.headers.get("origin", "")) != called.lower():
        return 403, "only the rating page itself may send ratings"
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return 415, "send application/json"
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()) or "transfer-encoding" in request.headers:
        return 411, "send the length of the body"  # a body in chunks has none that holds
    too_long = len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES
    return (413, f"a body has at most {MAX_BODY_BYTES} bytes") if too_long else None


async def _slowness(request: Request) -> tuple[int, str] | None:
    """Read the body, whose length is bounded, and return why it is given up, or None."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            await request.body()
    except (TimeoutError, ClientDisconnect):
        return 408, f"the body did not arrive within {BODY_TIMEOUT_S:g} s"
    return None


def _problem(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)
