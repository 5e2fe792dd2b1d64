"""A scriptable chat server on loopback, with faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Says:
    """One answer of the server.

    ``cut``: declares the whole length, sends half and hangs up. ``hang``: sends nothing until the server ends.
    """

    text: str = "fine"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | bytes | None = None
    endless: bool = False
    drip_s: float = 0
    cut: bool = False
    hang: bool = False

    def payload(self) -> bytes:
        if self.body is not None:
            return self.body if isinstance(self.body, bytes) else self.body.encode()
        if self.status != 200:
            return json.dumps({"error": {"message": self.text}}).encode()
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": self.text}}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        return json.dumps(
            {"model": "fake-1", "object": "chat.completion", "choices": [choice], "usage": usage}
        ).encode()


class FakeEndpoint:
    """``reply(request)`` decides; ``requests`` and ``keys`` hold what came."""

    def __init__(self, reply: Callable[[dict[str, Any]], Says]) -> None:
        self.reply = reply
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.over = threading.Event()
        self.lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with fake.lock:
                    fake.requests.append(request)
                    fake.keys.append(self.headers["authorization"])
                    says = fake.reply(request)
                if says.hang:
                    fake.over.wait(30)
                    return
                self._send(says)

            def _send(self, says: Says) -> None:
                payload = says.payload()
                self.send_response(says.status)
                for name, value in {"content-type": "application/json", **says.headers}.items():
                    self.send_header(name, value)
                if says.endless or says.drip_s:
                    self.end_headers()
                    with suppress(OSError):
                        while not fake.over.is_set():
                            self.wfile.write(b" " if says.drip_s else b" " * 65536)
                            fake.over.wait(says.drip_s)
                    return
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload[: len(payload) // 2] if says.cut else payload)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"openai:http://127.0.0.1:{self.server.server_address[1]}/v1"


@contextmanager
def serve(reply: Callable[[dict[str, Any]], Says]) -> Iterator[FakeEndpoint]:
    """Serve until the block ends."""
    fake = FakeEndpoint(reply)
    thread = threading.Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        fake.over.set()
        fake.server.shutdown()
        thread.join()
        fake.server.server_close()


def in_turn(*turns: Says) -> Callable[[dict[str, Any]], Says]:
    """Say one thing after the other, the last for ever."""
    left = list(turns)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]
