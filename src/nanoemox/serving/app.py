"""The application and how it is served: loopback unless a token guards it, no content in logs, nothing kept."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client import generate_latest
from starlette.responses import PlainTextResponse, Response

from nanoemox.listening import listening_at
from nanoemox.serving import affect, chat, decisions, live
from nanoemox.serving.errors import Refusal, add_handlers, problem, refusal_of
from nanoemox.serving.limits import App, Guard, Message, Receive, Scope, Send
from nanoemox.serving.service import Service
from nanoemox.types import NanoEmoXError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SHUTDOWN_S = 30
"""How long a server that is told to end waits for what is at work."""


def create_app(service: Service, host: str = "127.0.0.1", token: str | None = None) -> FastAPI:
    """Return the application.

    Args:
        service: What answers; it is closed with the application.
        host: What clients may call this machine besides its addresses and ``localhost``.
        token: What clients must send; None asks for nothing.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="nanoemox", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    add_handlers(app)
    for module in (decisions, chat, affect, live):
        app.include_router(module.routes)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the server lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        """Say whether it can answer."""
        if not service.batcher.alive:
            return problem(Refusal(503, "the model's thread has ended: restart the server", retry_after_s=5))
        return PlainTextResponse("ready\n")

    @app.get("/metrics")
    async def metrics() -> Response:
        """Show counters for Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type="text/plain; version=0.0.4")

    app.add_middleware(_Watch, service=service)
    app.add_middleware(Guard, limits=service.limits, host=host, token=token)
    return app


class _Watch:
    """Count and time answers, and give every failure a body."""

    def __init__(self, app: App, service: Service) -> None:
        self.app, self.metrics = app, service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Refusal:
            raise  # the guard's own
        except Exception as error:
            if status:
                raise
            await problem(refusal_of(error))(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - begin)


def check_reach(host: str, token: str | None) -> None:
    """Refuse an address that others can reach where nothing is asked of them."""
    if host not in LOOPBACK and token is None:
        raise NanoEmoXError(f"--host {host} can be reached from other machines: set --token, or serve at 127.0.0.1")


def serve(service: Service, host: str, port: int, token: str | None, tell: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or a signal to end; what is at work is finished first.

    Args:
        service: What answers.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        token: What clients must send.
        tell: Called with the address once it can be used.

    Raises:
        NanoEmoXError: An address that cannot be listened at, or that others can reach, without a token.
    """
    check_reach(host, token)
    with listening_at(port, host) as (listening, address):
        tell(address)
        uvicorn.Server(_config(create_app(service, host, token))).run(sockets=[listening])


def _config(app: FastAPI) -> Any:
    # No access log: paths hold the ids of clients' files.
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=64 * 1024,
        ws_max_size=1 << 20,
        ws_ping_timeout=60,  # a busy machine is no reason to end a stream
    )
