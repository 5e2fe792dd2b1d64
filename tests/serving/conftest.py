"""A tiny model behind a real server on loopback, and small media to send it."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest
import uvicorn

from nanoemox.inference.engine import Engine
from nanoemox.serving.app import create_app
from nanoemox.serving.limits import Limits
from nanoemox.serving.service import Service
from tests.tiny import tiny_model, tiny_processor


@pytest.fixture(scope="package")
def engine() -> Engine:
    engine = Engine(tiny_model(), tiny_processor(), "tiny")
    engine.processor.config.trained_branches = ["vision", "speech", "face", "fusion"]
    return engine


@contextmanager
def running(service: Service, token: str | None = None) -> Iterator[str]:
    """Serve on a free port of loopback; yields the address."""
    app = create_app(service, token=token)
    config = uvicorn.Config(app, port=0, log_level="warning", access_log=False, ws_ping_interval=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()


class _Hold:
    """Work that keeps the model's thread busy until its gate opens."""

    def __init__(self) -> None:
        self.begun, self.gate = threading.Event(), threading.Event()

    def run(self, items: Sequence[Any]) -> Sequence[Any]:
        self.begun.set()
        assert self.gate.wait(60)
        return items


@contextmanager
def busy_model(service: Service) -> Iterator[threading.Event]:
    """Keep the model's thread busy until the event is set."""
    hold = _Hold()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(asyncio.run, service.batcher.run(hold, None))
        try:
            assert hold.begun.wait(60)
            yield hold.gate
        finally:
            hold.gate.set()
            done.result(60)


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def metric(url: str, name: str) -> float:
    """Read a metric without labels."""
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


@pytest.fixture(scope="package")
def service(engine: Engine) -> Service:
    return Service(engine, Limits(body_bytes=2 * 2**20))


@pytest.fixture(scope="package")
def address(service: Service) -> Iterator[str]:
    with running(service) as url:
        yield url


def wav(seconds: float = 1.0, seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).normal(0, 3000, int(16_000 * seconds)).astype(np.int16)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(noise.tobytes())
    return out.getvalue()


def picture(seed: int = 0, width: int = 64, height: int = 48) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".png", pixels)[1])


def video(seed: int = 0, seconds: int = 2) -> bytes:
    rng, out = np.random.default_rng(seed), io.BytesIO()
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for _ in range(4 * seconds):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
