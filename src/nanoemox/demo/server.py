"""The server of the page: loopback only, with a content security policy that allows no other host."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

# Read when gradio is imported; turns its telemetry off.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from nanoemox.demo.backend import DemoBackend
from nanoemox.demo.page import build, css, theme
from nanoemox.inference.engine import Engine
from nanoemox.listening import listening_at
from nanoemox.serving.limits import Limits
from nanoemox.serving.local_files import MAX_FILE_BYTES

POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Gradio needs inline scripts; the page can connect to this server only."""
SHUTDOWN_S: Final = 5
"""Longest wait for open requests at shutdown: a browser keeps one open as long as it shows the page."""


def create_app(engine: Engine, limits: Limits | None = None) -> FastAPI:
    """Return the application of the page."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    # Against DNS rebinding.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    gr.mount_gradio_app(
        app,
        build(DemoBackend(engine, limits)),
        path="/",
        server_name="127.0.0.1",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        max_file_size=MAX_FILE_BYTES,
        theme=theme(),
        css=css(),
    )
    return app


def serve_demo(engine: Engine, port: int, on_ready: Callable[[str], None], limits: Limits | None = None) -> None:
    """Serve the page on loopback until Ctrl-C or SIGTERM; uploads and recordings are deleted then.

    Args:
        engine: The engine.
        port: Port; 0 takes a free one.
        on_ready: Called with the address once the server listens.
        limits: Limits of a clip.

    Raises:
        NanoEmoXError: The port cannot be bound.
    """
    with listening_at(port) as (listening, address), tempfile.TemporaryDirectory(prefix="nanoemox-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        app = create_app(engine, limits)
        on_ready(address)
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=SHUTDOWN_S
            )
        )
        # uvicorn raises the signal again when it is done: the process must not end before the folder is deleted.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if hasattr(signal, "SIGHUP"):  # the terminal was closed
            signal.signal(signal.SIGHUP, server.handle_exit)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
