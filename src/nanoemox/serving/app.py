"""The application and its server: loopback unless a token is required, no content in logs or on disk."""

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
from nanoemox.serving.errors import ApiError, add_handlers, error_response, to_api_error
from nanoemox.serving.limits import App, Guard, Message, Receive, Scope, Send
from nanoemox.serving.service import Service
from nanoemox.types import NanoEmoXError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SHUTDOWN_S = 30
"""Longest wait for running requests at shutdown."""


def create_app(service: Service, host: str = "127.0.0.1", token: str | None = None) -> FastAPI:
    """Return the application.

    Args:
        service: The service; closed at shutdown.
        host: Host name accepted besides IP addresses and ``localhost``.
        token: Bearer token that clients must send; None for none.
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

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Liveness probe."""
        return {"status": "ok"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz")
    async def readyz() -> Response:
        """Readiness probe."""
        if not service.batcher.alive:
            return error_response(ApiError(503, "the model's thread has ended: restart the server", retry_after_s=5))
        return PlainTextResponse("ready\n")

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(service.metrics.registry), media_type="text/plain; version=0.0.4")

    app.add_middleware(_MetricsMiddleware, service=service)
    app.add_middleware(Guard, limits=service.limits, host=host, token=token)
    return app


class _MetricsMiddleware:
    """Count and time responses, and give every failure an error body."""

    def __init__(self, app: App, service: Service) -> None:
        self.app, self.metrics = app, service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except ApiError:
            raise  # the guard answers it
        except Exception as error:
            if status:
                raise
            await error_response(to_api_error(error))(scope, receive, observed)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - begin)


def check_reach(host: str, token: str | None) -> None:
    """Refuse an address that other machines can reach unless a token is set."""
    if host not in LOOPBACK and token is None:
        raise NanoEmoXError(f"--host {host} is reachable from other machines: set --token, or serve at 127.0.0.1")


def serve(service: Service, host: str, port: int, token: str | None, on_ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; running requests are finished first.

    Args:
        service: The service.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        token: Bearer token that clients must send; None for none.
        on_ready: Called with the address once the server listens.

    Raises:
        NanoEmoXError: The address cannot be bound, or other machines can reach it and no token is set.
    """
    check_reach(host, token)
    with listening_at(port, host) as (listening, address):
        on_ready(address)
        uvicorn.Server(_config(create_app(service, host, token))).run(sockets=[listening])


def _config(app: FastAPI) -> Any:
    # No access log: paths contain file ids.
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=64 * 1024,
        ws_max_size=1 << 20,
        ws_ping_timeout=60,  # a busy machine must not end a stream
    )
