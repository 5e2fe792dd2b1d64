"""The client of OpenAI-compatible servers against a faulty server."""

from __future__ import annotations

import gzip
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from nanoemox.judging.endpoint import Address, CallOptions, Endpoint, EndpointError, parse_address
from nanoemox.types import NanoEmoXError
from tests.judging.fake_endpoint import FakeEndpoint, Says, in_turn, serve

pytest.importorskip("openai")
ASK = [{"role": "user", "content": "how are you?"}]
KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@contextmanager
def client(
    tmp_path: Path, reply: Callable[[dict[str, Any]], Says], **options: Any
) -> Iterator[tuple[Endpoint, FakeEndpoint, list[float]]]:
    waits: list[float] = []
    with serve(reply) as fake:
        endpoint = Endpoint(parse_address(f"{fake.address}#m"), tmp_path, CallOptions(**options), sleep=waits.append)
        try:
            yield endpoint, fake, waits
        finally:
            endpoint.close()


def test_lone_surrogates_become_question_marks(tmp_path: Path) -> None:
    with client(tmp_path, lambda _: Says("so \ud83d")) as (endpoint, _, _):
        assert [endpoint.complete(ASK, 50).text for _ in range(2)] == ["so ?"] * 2


def test_requests_are_deterministic_and_cached(tmp_path: Path) -> None:
    with client(tmp_path, in_turn(Says("good"))) as (endpoint, fake, _):
        first = endpoint.complete(ASK, 50)
        assert (first.text, first.finish, first.served_by) == ("good", "stop", "fake-1")
        assert endpoint.complete(ASK, 50) == first
        assert len(fake.requests) == 1
        assert fake.requests[0] == {
            "model": "m", "messages": ASK, "temperature": 0, "seed": 0, "max_tokens": 50,
        }  # fmt: skip
        endpoint.complete(ASK, 51)
        endpoint.complete([{"role": "user", "content": "and you?"}], 50)
        assert len(fake.requests) == 3
        usage = endpoint.usage
        assert (usage.calls, usage.cached, usage.failed, usage.retries) == (4, 1, 0, 0)
        assert (usage.prompt_tokens, usage.completion_tokens) == (21, 9)
        assert fake.keys[0] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "mischief",
    [
        Says(status=429),
        Says(status=500),
        Says(status=503, body="<html>Bad gateway</html>", headers={"content-type": "text/html"}),
        Says(body="garbage"),
        Says(body="<html>hello</html>", headers={"content-type": "text/html"}),
        Says(body='{"choices": []}'),
        Says(body="[1, 2]"),
        Says(body='{"choices": [{"message": {"content": null}}]}'),
        Says("  "),
        Says("a long answer", cut=True),
    ],
)
def test_transient_errors_are_retried_and_not_cached(tmp_path: Path, mischief: Says) -> None:
    with client(tmp_path, in_turn(mischief, mischief, Says("at last"))) as (endpoint, fake, waits):
        assert endpoint.complete(ASK, 9).text == "at last"
        assert len(fake.requests) == 3
        assert endpoint.usage.retries == 2
        assert 0.5 <= waits[0] <= 1 <= waits[1] <= 2
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1


def test_timeouts_are_retried(tmp_path: Path) -> None:
    with client(tmp_path, in_turn(Says(hang=True), Says("awake")), timeout_s=0.3) as (endpoint, _, waits):
        assert endpoint.complete(ASK, 9).text == "awake"
        assert len(waits) == 1


def test_attempts_are_bounded_and_failures_counted(tmp_path: Path) -> None:
    with client(tmp_path, in_turn(Says("overloaded", status=500)), attempts=3) as (endpoint, fake, waits):
        with pytest.raises(EndpointError, match=r"status 500.*tried 3 times"):
            endpoint.complete(ASK, 9)
        assert (len(fake.requests), len(waits)) == (3, 2)
        assert (endpoint.usage.failed, endpoint.usage.calls) == (1, 1)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_retry_after_is_respected(tmp_path: Path) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    busy = [Says(status=429, headers={"retry-after": value}) for value in ("17", date, "soon", "-4")]
    with client(tmp_path, in_turn(*busy, Says("ok"))) as (endpoint, _, waits):
        assert endpoint.complete(ASK, 9).text == "ok"
    assert waits[0] == 17
    assert 20 < waits[1] <= 40
    assert 2 <= waits[2] <= 4
    with client(tmp_path / "b", in_turn(Says(status=429, headers={"retry-after": "3600"}))) as (endpoint, fake, waits):
        with pytest.raises(EndpointError, match="asks to wait 3600 s, more than 60"):
            endpoint.complete(ASK, 9)
        assert (len(fake.requests), waits) == (1, [])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_invalid_key_or_model_stops_at_once(tmp_path: Path, status: int) -> None:
    with client(tmp_path, in_turn(Says(f"bad key {KEY}", status=status))) as (endpoint, fake, _):
        with pytest.raises(NanoEmoXError, match="OPENAI_API_KEY") as told:
            endpoint.complete(ASK, 9)
        assert not isinstance(told.value, EndpointError)
        assert KEY not in str(told.value)
        assert len(fake.requests) == 1


def test_rejected_request_fails_alone(tmp_path: Path) -> None:
    with (
        client(tmp_path, in_turn(Says("too long", status=400))) as (endpoint, fake, _),
        pytest.raises(EndpointError, match=r"status 400.*too long"),
    ):
        endpoint.complete(ASK, 9)
    assert len(fake.requests) == 1


def test_api_key_is_never_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with client(tmp_path, in_turn(Says(f"{KEY}?", status=500), Says("ok"))) as (endpoint, *_):
        endpoint.complete(ASK, 9)
    assert all(KEY not in p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert f"Bearer {KEY}" not in caplog.text


def test_api_key_is_redacted_from_cached_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with client(tmp_path, in_turn(Says(f"your key is {KEY}"), Says(body=f"<b>{KEY}")), attempts=1) as (endpoint, *_):
        assert endpoint.complete(ASK, 9).text == "your key is ***"
        with pytest.raises(EndpointError) as told:
            endpoint.complete(ASK, 10)
    assert KEY not in str(told.value)
    assert all(KEY not in p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert KEY not in caplog.text


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_refused(tmp_path: Path, status: int) -> None:
    with serve(lambda _: Says("stolen")) as other:
        place = other.address.removeprefix("openai:") + "/chat/completions"
        with (
            client(tmp_path, lambda _: Says(status=status, headers={"location": place})) as (endpoint, fake, _),
            pytest.raises(EndpointError, match=f"the server redirects to '{place}': name that address"),
        ):
            endpoint.complete(ASK, 9)
        assert (len(fake.requests), other.requests) == (1, [])


def test_endless_body_is_aborted(tmp_path: Path) -> None:
    with client(tmp_path, lambda _: Says(endless=True)) as (endpoint, fake, _):
        with pytest.raises(EndpointError, match="the answer is longer than 16 MiB"):
            endpoint.complete(ASK, 9)
        assert len(fake.requests) == 1


def test_slow_body_is_aborted(tmp_path: Path) -> None:
    with client(tmp_path, lambda _: Says(drip_s=0.05), timeout_s=0.5) as (endpoint, *_):
        begin = time.monotonic()
        with pytest.raises(EndpointError, match=r"the answer has not ended after 0.5 s"):
            endpoint.complete(ASK, 9)
        assert time.monotonic() - begin < 5


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br, gzip"])
def test_compressed_bodies_are_refused_unread(tmp_path: Path, encoding: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    with (
        client(tmp_path, lambda _: Says(body=bomb, headers={"content-encoding": encoding})) as (endpoint, *_),
        pytest.raises(EndpointError, match=f"the answer is compressed .'{encoding}'.*not asked for"),
    ):
        endpoint.complete(ASK, 9)


def test_corrupt_cache_is_replaced(tmp_path: Path) -> None:
    with client(tmp_path, in_turn(Says("ok"))) as (endpoint, fake, _):
        endpoint.complete(ASK, 9)
        (file,) = tmp_path.rglob("*.json")
        for text in ('{"text": "o', "[]", '{"text": "x"}'):
            file.write_text(text)
            assert endpoint.complete(ASK, 9).text == "ok"
        assert len(fake.requests) == 4
        assert json.loads(file.read_text())["text"] == "ok"


def test_addresses() -> None:
    assert parse_address("openai:http://h:1/v1/#a/b#c") == Address("http://h:1/v1", "a/b#c")
    assert str(parse_address("openai:https://h/v1#n")) == "openai:https://h/v1#n"
    for text in ("http://h/v1#n", "openai:http://h/v1", "openai:ftp://h#n", "openai:#n", "openai:http://[h/v1#n", ""):
        with pytest.raises(NanoEmoXError, match="is no endpoint"):
            parse_address(text)
    with pytest.raises(NanoEmoXError, match="no password") as told:
        parse_address("openai:http://me:secret@h/v1#n")
    assert "secret" not in str(told.value)


def test_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(NanoEmoXError, match=r"pip install 'nanoemox\[eval\]'"):
        Endpoint(Address("http://127.0.0.1:1/v1", "m"), tmp_path)
