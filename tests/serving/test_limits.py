"""Limits, admission, cancellation, privacy, and fetching of media."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import AuthenticationError, OpenAI, RateLimitError

from nanoemox.inference.engine import Engine
from nanoemox.serving.app import serve
from nanoemox.serving.errors import ApiError
from nanoemox.serving.fetch import fetch, is_public
from nanoemox.serving.files import FileStore
from nanoemox.serving.limits import Limits
from nanoemox.serving.service import Service
from nanoemox.types import NanoEmoXError
from tests.serving.conftest import busy_model, metric, picture, running, until, wav

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
AT_WORK = "nanoemox_requests_at_work"


def test_health_and_metrics(address: str) -> None:
    assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{address}/readyz").text == "ready\n"
    httpx.post(f"{address}/v1/chat/completions", json=CHAT, timeout=60)
    shown = httpx.get(f"{address}/metrics").text
    assert 'nanoemox_requests_total{route="/v1/chat/completions",status="200"}' in shown
    assert "nanoemox_batch_size_count" in shown
    assert httpx.get(f"{address}/v1/nothing").json()["error"]["type"] == "not_found_error"
    assert httpx.get(f"{address}/v1/affect").status_code == 405


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/models"])
def test_head_is_answered_without_a_body(address: str, path: str) -> None:
    found = httpx.head(f"{address}{path}")
    assert (found.status_code, found.content) == (200, b"")
    assert "head" not in httpx.get(f"{address}/openapi.json").json()["paths"][path]


def test_foreign_hosts_and_origins_are_refused(address: str) -> None:
    assert httpx.get(f"{address}/healthz", headers={"host": "evil.example"}).status_code == 421
    assert httpx.get(f"{address}/healthz", headers={"host": "localhost:1"}).status_code == 200
    foreign = httpx.post(f"{address}/v1/affect", files={"file": b"a"}, headers={"origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert httpx.get(f"{address}/healthz", headers={"origin": "null"}).status_code == 403


def test_oversized_requests_are_refused(address: str, service: Service) -> None:
    big = b"0" * (service.limits.body_bytes + 1)
    kind = {"content-type": "application/json"}
    assert httpx.post(f"{address}/v1/affect", content=big, headers=kind).status_code == 413

    def chunks() -> Iterator[bytes]:
        yield from (big[i : i + 65536] for i in range(0, len(big), 65536))

    answer = httpx.post(f"{address}/v1/affect", content=chunks(), headers=kind)
    assert answer.status_code == 413
    assert answer.json()["error"]["message"].startswith("the request is larger than 2097152 bytes")


def test_images_and_clips_beyond_the_limits(engine: Engine) -> None:
    service = Service(engine, Limits(pixels=1000, duration_s=2.0, decode_s=30))
    with running(service) as url:
        large = httpx.post(f"{url}/v1/affect", files={"file": ("a.png", picture(), "image/png")}, timeout=60)
        assert large.status_code == 400
        assert "64x48 pixels, limit 1000" in large.json()["error"]["message"]
        long = httpx.post(f"{url}/v1/affect", files={"file": ("a.wav", wav(3.0), "audio/wav")}, timeout=60)
        assert long.status_code == 400
        assert "limit 2 s" in long.json()["error"]["message"]


def test_token(engine: Engine) -> None:
    with running(Service(engine), token="secret") as url:
        assert httpx.get(f"{url}/healthz").status_code == 200
        refused = httpx.get(f"{url}/metrics")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        with pytest.raises(AuthenticationError, match="needs its token"):
            OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0).models.list()
        assert OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0).models.list().data


def test_public_address_requires_a_token(engine: Engine) -> None:
    with pytest.raises(NanoEmoXError, match="set --token"):
        serve(Service(engine), "0.0.0.0", 0, None, print)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(NanoEmoXError, match="cannot listen"):
        serve(Service(engine), "127.0.0.1", taken.getsockname()[1], None, print)


def test_full_queue_gives_429_with_retry_after(engine: Engine) -> None:
    service = Service(engine, Limits(queue=2))
    with running(service) as url, busy_model(service) as gate, ThreadPoolExecutor(2) as pool:
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        first = [pool.submit(client.chat.completions.create, **CHAT) for _ in range(2)]
        until(lambda: metric(url, AT_WORK) == 2)
        with pytest.raises(RateLimitError) as full:
            client.chat.completions.create(**CHAT)
        assert full.value.response.headers["retry-after"] == "1"
        gate.set()
        assert all(f.result(60).choices for f in first)
        # The client that comes back as it is told gets its answer.
        assert client.with_options(max_retries=3).chat.completions.create(**CHAT).choices


def test_slow_response_times_out(engine: Engine) -> None:
    service = Service(engine, Limits(request_s=0.3))
    with running(service) as url, busy_model(service):
        for body in (CHAT, CHAT | {"stream": True}):
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
            assert answer.status_code == 504
            assert "timed out" in answer.json()["error"]["message"]


def test_slow_request_body_times_out(engine: Engine) -> None:
    with running(Service(engine, Limits(body_s=0.3))) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
            head = (
                "POST /v1/affect HTTP/1.1",
                "Host: localhost",
                "Content-Type: application/json",
                "Content-Length: 9",
            )
            wire.sendall("\r\n".join([*head, "", "{"]).encode())
            assert b" 408 " in wire.recv(4096).split(b"\r\n")[0]


def test_disconnected_client_is_cancelled(engine: Engine) -> None:
    service = Service(engine)
    with running(service) as url:
        with busy_model(service):
            for _ in range(3):  # they wait for the model, and leave
                with pytest.raises(httpx.ReadTimeout):
                    httpx.post(f"{url}/v1/decisions", json=DECISION, timeout=0.3)
            until(lambda: metric(url, AT_WORK) == 0)
        assert httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=60).status_code == 200
        assert metric(url, "nanoemox_batch_size_sum") == 2  # what kept it busy, and the last client


DECISION = {"model": "tiny", "input": "Hm.", "questions": [{"type": "predicate", "instructions": "So?"}]}


def test_disconnected_stream_stops_generation(engine: Engine) -> None:
    service = Service(engine)
    with running(service) as url:
        body = CHAT | {"stream": True, "max_tokens": 900, "temperature": 2.0}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
            next(answer.iter_lines())
        until(lambda: metric(url, AT_WORK) == 0)


def test_running_requests_finish_at_shutdown(engine: Engine) -> None:
    service = Service(engine)
    with ThreadPoolExecutor(1) as pool, busy_model(service) as gate:
        with running(service) as url:
            answer = pool.submit(httpx.post, f"{url}/v1/chat/completions", json=CHAT, timeout=60)
            until(lambda: metric(url, AT_WORK) == 1)
            threading.Timer(0.3, gate.set).start()
        assert answer.result(60).status_code == 200
    assert not service.batcher.alive


def test_invalid_form_is_not_logged(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    kind = {"content-type": "multipart/form-data; boundary=x"}
    form = b"--x\r\nContent-Disp\rosition: form-data\r\n\r\nwords\r\n--x--\r\n"
    assert httpx.post(f"{address}/v1/affect", content=form, headers=kind, timeout=60).status_code == 400
    assert caplog.text == ""


def test_internal_error_is_logged_without_content(
    engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(engine)

    def fail(*_: object) -> None:
        raise ValueError("the client said: my secret")

    monkeypatch.setattr("nanoemox.serving.work.decide_clips", fail)
    with caplog.at_level(logging.DEBUG), running(service) as url:
        answer = httpx.post(f"{url}/v1/decisions", json=DECISION, timeout=60)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=60).status_code == 200
    assert "ValueError at " in caplog.text
    assert "secret" not in caplog.text + answer.text


def test_nothing_of_a_clip_is_logged(address: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        httpx.post(f"{address}/v1/affect", json={"text": "my secret", "tasks": ["mer"]}, timeout=60)
        httpx.post(f"{address}/v1/affect", json={"text": "my secret", "tasks": ["my secret"]}, timeout=60)
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    assert not any("secret" in line for line in ours)


def test_uploaded_files_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(100, 60)
    first = store.add(b"a" * 60, "a", "user_data")
    second = store.add(b"b" * 60, "b", "user_data")
    assert store.all() == [second]
    with pytest.raises(ApiError, match="no such file"):
        store.get(first.id)
    with pytest.raises(ApiError, match="larger than 100"):
        store.add(b"c" * 101, "c", "user_data")
    later = time.time() + 61
    monkeypatch.setattr("nanoemox.serving.files.time.time", lambda: later)
    assert store.all() == []


# ---------------------------------------------------------------- fetching


class Host(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        if self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.02)
            return
        body = b"x" * int(self.path[1:])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def media_host() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def anywhere(address: str) -> bool:
    return True


def test_fetch_from_an_allowed_host(media_host: str) -> None:
    assert fetch(f"http://{media_host}/10", {media_host}, 100, anywhere) == b"x" * 10
    assert fetch(f"http://{media_host}/to//10", {media_host}, 100, anywhere) == b"x" * 10
    with pytest.raises(ApiError, match="larger than 100"):
        fetch(f"http://{media_host}/101", {media_host}, 100, anywhere)


def test_a_host_that_drips_bytes_is_cut_off(media_host: str) -> None:
    with pytest.raises(ApiError, match="valid response"):
        fetch(f"http://{media_host}/slow", {media_host}, 10**9, anywhere, whole_s=0.3)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/to/http://example.com/", "does not fetch from that host"),
        ("/to/file:///etc/passwd", "only plain http"),
        ("/to//to//to//to//10", "redirected more than"),
        ("/to/http://user@{host}/10", "only plain http"),
    ],
)
def test_redirects_are_checked_again(media_host: str, path: str, says: str) -> None:
    with pytest.raises(ApiError, match=says):
        fetch(f"http://{media_host}{path.format(host=media_host)}", {media_host}, 100, anywhere)


def test_private_addresses_are_refused_even_for_an_allowed_host(media_host: str) -> None:
    with pytest.raises(ApiError, match="private network"):
        fetch(f"http://{media_host}/10", {media_host}, 100)
    with pytest.raises(ApiError, match="does not fetch URLs"):
        fetch(f"http://{media_host}/10", (), 100, anywhere)
    for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "0.0.0.0"):
        assert not is_public(address)
    for address in ("224.0.0.1", "100.64.0.1", "fc00::1", "2002:7f00:1::"):
        assert not is_public(address)
    assert is_public("8.8.8.8")
    assert is_public("2606:4700::1111")


def test_request_for_a_private_address_is_refused(engine: Engine) -> None:
    with running(Service(engine, media_hosts=frozenset({"localhost"}))) as url:
        for link in ("http://localhost/a.png", "http://127.0.0.1/a.png", f"{url}/healthz", "ftp://localhost/a"):
            part = {"type": "input_image", "image_url": link}
            body = {**DECISION, "input": [{"role": "user", "content": [part]}]}
            answer = httpx.post(f"{url}/v1/decisions", json=body, timeout=60)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_url")


def test_json_response_accepts_lone_surrogates() -> None:
    from nanoemox.serving.errors import json_response

    assert json.loads(bytes(json_response({"a": "\ud800"}).body)) == {"a": "\ud800"}


def test_waiting_items_form_the_next_batch() -> None:
    from nanoemox.serving.batching import Batcher

    seen: list[tuple[str, list[int]]] = []
    all_wait = threading.Event()

    class Work:
        def __init__(self, name: str) -> None:
            self.name = name

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Work) and other.name == self.name

        __hash__ = None  # type: ignore[assignment]

        def run(self, items: Any) -> list[Any]:
            seen.append((self.name, list(items)))
            assert all_wait.wait(10)
            return [KeyError(i) if i == 7 else i * 10 for i in items]

    async def main() -> list[Any]:
        jobs = [asyncio.ensure_future(batcher.run(Work("b"), 0))]
        while not seen:
            await asyncio.sleep(0.01)
        jobs += [asyncio.ensure_future(batcher.run(Work("a" if i % 3 else "b"), i)) for i in range(1, 10)]
        while batcher.depth < 9:
            await asyncio.sleep(0.01)
        jobs[9].cancel()
        await asyncio.sleep(0.01)
        all_wait.set()
        return await asyncio.gather(*jobs, return_exceptions=True)

    batcher = Batcher(4)
    found = asyncio.run(main())
    batcher.close()
    with pytest.raises(ApiError, match="shutting down"):
        asyncio.run(batcher.run(Work("a"), 1))
    assert seen == [("b", [0]), ("a", [1, 2, 4, 5]), ("b", [3, 6]), ("a", [7, 8])]
    assert found[:7] == [0, 10, 20, 30, 40, 50, 60]
    assert isinstance(found[7], KeyError)
    assert found[8] == 80
    assert isinstance(found[9], asyncio.CancelledError)
