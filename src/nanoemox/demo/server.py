"""How the page is served: on loopback, to this machine's browser alone, with a policy that keeps everything here."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

# Read when gradio is imported: without it, it tells its makers that it runs.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from nanoemox.demo.asking import Asking
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
"""Gradio needs inline scripts; no address but this server's can be reached from the page."""
SHUTDOWN_S: Final = 5
"""How long the page's open requests are waited for: a browser holds one as long as it shows the page."""


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

    # A name that an attacker points at this machine is none of these.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    gr.mount_gradio_app(
        app,
        build(Asking(engine, limits)),
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


def serve_demo(engine: Engine, port: int, tell: Callable[[str], None], limits: Limits | None = None) -> None:
    """Serve the page on loopback until Ctrl-C or a signal to end; what was recorded or chosen is deleted then.

    Args:
        engine: What answers.
        port: Port; 0 takes a free one.
        tell: Called with the address once it can be opened.
        limits: Bounds of a clip.

    Raises:
        NanoEmoXError: The port cannot be listened at.
    """
    with listening_at(port) as (listening, address), tempfile.TemporaryDirectory(prefix="nanoemox-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        app = create_app(engine, limits)
        tell(address)
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=SHUTDOWN_S
            )
        )
        # uvicorn raises a signal once more when it is done: the process must not end before the folder is gone.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if hasattr(signal, "SIGHUP"):  # the terminal was closed
            signal.signal(signal.SIGHUP, server.handle_exit)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
