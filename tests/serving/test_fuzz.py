"""Schema-based and nearly valid requests: no response is a 5xx."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from nanoemox.inference.engine import Engine
from nanoemox.serving.app import create_app
from nanoemox.serving.limits import Limits
from nanoemox.serving.service import Service
from tests.serving.bodies import FORMS, JSON, requests

schemathesis = pytest.importorskip("schemathesis")
FEW, MANY = 15, int(os.environ.get("NANOEMOX_FUZZ_CASES", "2000"))
"""Cases of each kind for each route; a route that takes nothing has one."""
TAKERS = sorted({*JSON, *FORMS})


@pytest.fixture(scope="module")
def app(engine: Engine) -> Iterator[Any]:
    """The application, which each of schemathesis' many clients would end with its own session."""
    served = create_app(Service(engine, Limits(duration_s=5, decode_s=600, decode_mb=1024, request_s=7200)))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await served(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    yield app
    served.state.service.close()


def run(name: str, cases: int, made: st.SearchStrategy[Any], call: Callable[[Any], Any]) -> Counter[int]:
    """Send cases; returns how often each status came."""
    seen: Counter[int] = Counter()

    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(made)
    def send(case: Any) -> None:
        response = call(case)
        seen[response.status_code] += 1
        assert response.status_code < 500, response.text

    send()
    print(name, dict(sorted(seen.items())), flush=True)  # shown by pytest -s
    return seen


def by_schema(app: Any, cases: int) -> dict[str, Counter[int]]:
    """Send what schemathesis makes of the schema, right and wrong."""
    from schemathesis import GenerationMode

    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": "localhost"})
    out: dict[str, Counter[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        right, wrong = (
            operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        )
        name = f"{operation.method} {operation.path}"
        out[name] = run(name, cases, right | wrong, lambda case: case.call(headers={"host": "localhost"}))
    return out


def nearly_right(app: Any, path: str, cases: int) -> Counter[int]:
    """Send bodies that are right but for a few places."""
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    return run(path, cases, requests(path), lambda case: client.post(path, **case))


def test_few_cases(app: Any) -> None:
    seen = by_schema(app, FEW)
    assert {f"post {path}" for path in TAKERS} <= set(seen)
    for path in TAKERS:
        assert sum(seen[f"post {path}"].values()) >= FEW


@pytest.mark.parametrize("path", TAKERS)
def test_few_nearly_valid_cases(app: Any, path: str) -> None:
    seen = nearly_right(app, path, FEW)
    assert sum(seen.values()) >= FEW
    assert seen[200]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_cases(app: Any) -> None:
    seen = by_schema(app, MANY)
    for path in TAKERS:
        assert sum(seen[f"post {path}"].values()) >= MANY


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("path", TAKERS)
def test_many_nearly_valid_cases(app: Any, path: str) -> None:
    seen = nearly_right(app, path, MANY)
    assert sum(seen.values()) >= MANY
    assert seen[200] >= 0.02 * MANY
