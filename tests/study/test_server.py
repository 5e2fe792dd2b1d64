"""The study server: blindness, saving, rejected requests."""

from __future__ import annotations

import json
import queue
import re
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
import uvicorn
from fastapi.testclient import TestClient

from nanoemox.study import server as rating_server
from nanoemox.study.plan import plan_study
from nanoemox.study.server import MAX_BODY_BYTES, ImpatientProtocol, create_app, serve_study
from nanoemox.study.store import RatingStore, create_study
from nanoemox.types import NanoEmoXError
from tests.study.rated_runs import TALK, reply_row, two_runs, write_run

HOST = "127.0.0.1:8765"
ORIGIN = {"Origin": f"http://{HOST}"}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.sqlite"
    create_study(path, plan_study(two_runs(tmp_path), 200, 0))
    return path


@pytest.fixture
def client(study: Path) -> Iterator[TestClient]:
    with (
        closing(RatingStore(study)) as store,
        TestClient(create_app(store), f"http://{HOST}", headers=ORIGIN) as client,
    ):
        yield client


def score(client: TestClient, position: int, criterion: str, value: Any, rater: str = "ann") -> Any:
    reply = client.get(f"/api/replies/{position}", params={"rater": rater}).json()["key"]
    body = {"rater": rater, "reply": reply, "criterion": criterion, "score": value}
    return client.post("/api/scores", json=body)


def test_rating_workflow(client: TestClient) -> None:
    criteria = client.get("/api/criteria").json()
    assert criteria["scale"] == [1, 5]
    joined = client.post("/api/raters", json={"name": " ann "}).json()
    assert joined == {"rater": "ann", "total": 12, "done": 0, "next": 0}
    for criterion in criteria["criteria"]:
        answer = score(client, 0, criterion["name"], 4).json()
    assert answer == {"total": 12, "done": 1, "next": 1}
    shown = client.get("/api/replies/0?rater=ann").json()
    assert shown["scores"] == {"empathy": 4, "insight": 4, "safety": 4}
    assert shown["dialogue"] == TALK
    assert shown["place"] == [1, 2]
    assert score(client, 0, "safety", None).json()["done"] == 0
    assert client.post("/api/raters", json={"name": "bob"}).json()["done"] == 0


def test_run_names_are_not_disclosed(client: TestClient) -> None:
    client.post("/api/raters", json={"name": "ann"})
    seen = [client.get(path) for path in ("/", "/page.js", "/page.css", "/api/criteria", "/openapi.json", "/docs")]
    seen += [client.get(f"/api/replies/{i}?rater=ann") for i in range(13)]
    seen += [score(client, i, "empathy", 3) for i in range(12)]
    for response in seen:
        told = response.text + str(response.headers)
        assert not any(word in told for word in ("alpha", "omega", "avamerg", '"c0"', "study.sqlite"))


def test_scores_are_written_immediately(client: TestClient, study: Path) -> None:
    client.post("/api/raters", json={"name": "ann"})
    for i, criterion in enumerate(("empathy", "insight", "safety"), 1):
        score(client, 5, criterion, i)
        with closing(RatingStore(study)) as other:
            assert [(r.criterion, r.score) for r in other.ratings()][-1] == (criterion, i)


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    attack = "</script><img src=x onerror=alert(1)>\u2028{{7*7}}' OR 1=1; DROP TABLE rating;--"
    run = write_run(tmp_path / "x", [reply_row("a", attack, [{"role": attack, "text": attack}])])
    create_study(tmp_path / "s", plan_study([run], 1, 0))
    with closing(RatingStore(tmp_path / "s")) as store, TestClient(create_app(store), f"http://{HOST}") as client:
        joined = client.post("/api/raters", json={"name": attack[:30]}, headers=ORIGIN).json()
        assert joined["rater"] == attack[:30]
        response = client.get("/api/replies/0", params={"rater": attack[:30]})
    assert response.headers["content-type"] == "application/json"
    assert response.json()["text"] == attack
    assert response.json()["dialogue"] == [{"role": attack, "text": attack}]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[::1", "localhost."]
)
@pytest.mark.parametrize("path", ["/", "/api/criteria", "/api/raters"])
def test_other_hosts_are_refused(client: TestClient, host: str, path: str) -> None:
    response = client.get(path, headers={"Host": host})
    assert response.status_code == 421
    assert "IP address" in response.json()["error"]


@pytest.mark.parametrize("host", [HOST, "localhost:9", "LOCALHOST", "[::1]:8765", "192.168.0.7:8765"])
def test_own_hosts_are_served(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200
    own = {"Host": host, "Origin": f"http://{host}"}
    assert client.post("/api/raters", json={"name": "a"}, headers=own).status_code == 200


def test_configured_host_name_is_accepted(study: Path) -> None:
    with closing(RatingStore(study)) as store, TestClient(create_app(store, "Lab.local"), "http://lab.local") as client:
        assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    "origin",
    [None, "null", "http://evil.example", f"http://{HOST}.evil.example", "http://127.0.0.1:1", f"file://{HOST}", "http://["],
)  # fmt: skip
def test_other_sites_cannot_write(client: TestClient, study: Path, origin: str | None) -> None:
    client.headers.pop("Origin")
    headers = {} if origin is None else {"Origin": origin}
    assert client.post("/api/raters", json={"name": "x"}, headers=headers).status_code == 403
    with closing(RatingStore(study)) as store:
        assert store.raters() == ()


def test_invalid_bodies_are_refused(client: TestClient, study: Path) -> None:
    def post(content: Any, kind: str = "application/json", path: str = "/api/raters") -> int:
        return client.post(path, content=content, headers={"Content-Type": kind}).status_code

    body = json.dumps({"name": "x"})
    assert post(body, "text/plain") == 415
    assert post(body, "application/x-www-form-urlencoded") == 415
    assert post(iter([body.encode()])) == 411
    assert post(body + " " * MAX_BODY_BYTES) == 413
    for headers, status in (
        ({"Content-Length": "0" * 20 + "99999"}, 413),
        ({"Content-Length": "9", "Transfer-Encoding": "chunked"}, 411),
        ({"Content-Length": "-1"}, 411),
        ({"Content-Length": "²".encode("latin-1")}, 411),
    ):
        headers = {**headers, "Content-Type": "application/json"}
        assert client.post("/api/raters", content=body, headers=headers).status_code == status
    for wrong in ("", "{", "[]", "3", '{"name": 3}', '{"name": null}', '{"name": "x", "more": 1}', "[" * 4000, b"\xff"):
        assert post(wrong) in (400, 422)
    assert post('{"name": "a\\ud800"}') == 422
    client.post("/api/raters", json={"name": "ann"})
    for value in (0, 6, "3", 3.5, True, [3]):
        assert score(client, 0, "empathy", value).status_code == 422
    assert score(client, 0, "charm", 3).status_code == 404
    assert client.get("/api/replies/0?rater=nobody").status_code == 404
    assert client.get("/api/replies/x?rater=ann").status_code == 422
    assert client.get("/api/replies/99999999999999999999?rater=ann").status_code == 404
    for method in ("put", "delete", "patch", "options"):
        assert client.request(method, "/api/raters", json={"name": "x"}).status_code == 405
    with closing(RatingStore(study)) as store:
        assert store.raters() == ("ann",)
        assert store.ratings() == []


def test_every_response_has_security_headers(client: TestClient) -> None:
    for response in (client.get("/"), client.get("/none"), client.post("/api/raters", headers={"Origin": "null"})):
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in response.headers


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_page_loads_nothing_external(client: TestClient) -> None:
    folder = files("nanoemox") / "study" / "page"
    parser = Tags()
    parser.feed(client.get("/").text)
    links = {a[k] for _, a in parser.found for k in ("src", "href", "action") if k in a}
    assert links == {"data:,", "/page.css", "/page.js"}
    assert all(client.get(link).status_code == 200 for link in links if link.startswith("/"))
    for tag, attributes in parser.found:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    for name in ("page.html", "page.css", "page.js"):
        text = (folder / name).read_text("utf-8")
        assert "http" not in text
        assert "innerHTML" not in text


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_have_sufficient_contrast() -> None:
    text = (files("nanoemox") / "study" / "page" / "page.css").read_text("utf-8")
    schemes = re.findall(r":root \{([^}]*)\}", text)
    assert len(schemes) == 2
    pairs = [(ink, ground) for ink in ("ink", "soft", "mark") for ground in ("paper", "shade")]
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        for ink, ground, least in [
            *((*p, 4.5) for p in pairs),
            ("on-mark", "mark", 4.5),
            ("bad", "paper", 4.5),
            ("line", "paper", 3),
        ]:
            light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= least, (ink, ground)


def test_keys_are_specific_to_a_rater(client: TestClient, study: Path) -> None:
    for name in ("ann", "bob"):
        client.post("/api/raters", json={"name": name})
    key = client.get("/api/replies/0?rater=ann").json()["key"]
    for guess in (key, key[:-1], "1", "0" * 24, "' OR 1=1 --", ""):
        body = {"rater": "bob", "reply": guess, "criterion": "empathy", "score": 1}
        assert client.post("/api/scores", json=body).status_code == 404
    for path in (
        "/api/replies/-1?rater=ann",
        "/api/replies/99999999999999999999?rater=ann",
        "/api/replies/0?rater=eve",
    ):
        assert client.get(path).status_code == 404
    with closing(RatingStore(study)) as store:
        assert store.ratings() == []


def test_slow_clients_do_not_block_others(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred connections that never end their header, and one whose body never comes."""
    monkeypatch.setattr(rating_server, "BODY_TIMEOUT_S", 0.5)
    with closing(RatingStore(study)) as store:
        config = uvicorn.Config(create_app(store), port=0, log_level="error", access_log=False)
        server = uvicorn.Server(config)
        listening = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        address = listening.getsockname()
        slow = [socket.create_connection(address, timeout=20) for _ in range(101)]
        try:
            for one in slow[:-1]:
                one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow:")
            host = f"127.0.0.1:{address[1]}"
            head = f"POST /api/raters HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
            slow[-1].sendall(f"{head}Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{{".encode())
            with socket.create_connection(address, timeout=20) as quick:
                quick.sendall(f"GET /api/criteria HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert quick.recv(4096).startswith(b"HTTP/1.1 200")
            assert slow[-1].recv(4096).startswith(b"HTTP/1.1 408")
        finally:
            for one in slow:
                one.close()
            server.should_exit = True
            thread.join(20)


def test_a_port_in_use(study: Path) -> None:
    def stop(address: str) -> None:
        port = int(address.rsplit(":", 1)[1])
        with pytest.raises(NanoEmoXError, match=f"cannot listen on 127.0.0.1:{port} .*--port"):
            serve_study(study, "127.0.0.1", port, lambda _: None)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        serve_study(study, "127.0.0.1", 0, stop)
    with pytest.raises(NanoEmoXError, match="--host"):
        serve_study(study, "no such host", 0, stop)


class HastyProtocol(ImpatientProtocol):
    """Waits as long as the first request takes, but hardly for a second."""

    def on_response_complete(self) -> None:
        rating_server.HEADER_TIMEOUT_S = 0.05
        super().on_response_complete()


@pytest.mark.parametrize("whole", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("part", [b"", b"GET / HTTP/1.1\r\nHost: a", b"GET / HTTP/1.1\r\nX: " + b"x" * 9000])
def test_a_connection_that_never_finishes_a_head_is_closed(
    study: Path, monkeypatch: pytest.MonkeyPatch, part: bytes, whole: bool
) -> None:
    servers: list[uvicorn.Server] = []

    class Server(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            servers.append(self)

    monkeypatch.setattr(uvicorn, "Server", Server)
    monkeypatch.setattr(rating_server, "ImpatientProtocol", HastyProtocol)
    monkeypatch.setattr(rating_server, "HEADER_TIMEOUT_S", 600 if whole else 0.05)
    ready: queue.Queue[str] = queue.Queue()
    thread = threading.Thread(target=serve_study, args=(study, "127.0.0.1", 0, ready.put), daemon=True)
    thread.start()
    port = int(ready.get(timeout=60).rsplit(":", 1)[1])
    head = f"GET /page.css HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall((head if whole else b"") + part)
        got = b""
        while piece := connection.recv(65536):  # ends when the server closes
            got += piece
    servers[0].should_exit = True
    thread.join(60)
    assert got.startswith(b"HTTP/1.1 200") == whole
    assert not thread.is_alive()


def test_full_disk_is_reported_and_loses_nothing(
    study: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kw: opened.append(connect(*args, **kw)) or opened[-1])
    client = request.getfixturevalue("client")
    db = opened[0]
    client.post("/api/raters", json={"name": "ann"})
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    kept = ["ann"]
    for i in range(2000):
        answer = client.post("/api/raters", json={"name": f"{'n' * 60}{i}"})
        if answer.status_code != 200:
            break
        kept.append(answer.json()["rater"])
    assert answer.status_code == 507
    assert "full" in answer.json()["error"]
    db.execute("PRAGMA max_page_count = 100000")
    assert score(client, 0, "empathy", 3).status_code == 200
    with closing(RatingStore(study)) as again:
        assert all(again.progress(name).total == 12 for name in kept)
        assert [rating.score for rating in again.ratings()] == [3]
