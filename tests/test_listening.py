"""Requests in progress at shutdown."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import httpx
import pytest

from nanoemox.listening import listening_at

uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'nanoemox[serve]'")


def test_cancelled_requests_are_not_logged_at_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    begun = threading.Event()

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        if scope["type"] != "http":
            return
        begun.set()
        if scope["path"] == "/fault":
            raise ValueError("a fault")
        await asyncio.Event().wait()

    def ask(url: str) -> None:
        with pytest.raises(httpx.HTTPError):
            httpx.get(url, timeout=60).raise_for_status()

    with listening_at(0) as (listening, address), caplog.at_level(logging.ERROR):
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=0)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        ask(f"{address}/fault")
        begun.clear()
        client = threading.Thread(target=ask, args=(address,))
        client.start()
        assert begun.wait(60)
        server.should_exit = True
        for one in (thread, client):
            one.join(60)
            assert not one.is_alive()
    told = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert told == [ValueError]
