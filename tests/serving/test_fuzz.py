"""schemathesis sends what the published schema allows and what it forbids: no answer is a 5xx."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from nanoemox.inference.engine import Engine
from nanoemox.serving.app import create_app
from nanoemox.serving.limits import Limits
from nanoemox.serving.service import Service

schemathesis = pytest.importorskip("schemathesis")
FEW, MANY = 15, int(os.environ.get("NANOEMOX_FUZZ_CASES", "2000"))
"""Cases for each route; ten routes."""


@pytest.fixture(scope="module")
def app(engine: Engine) -> Iterator[Any]:
    """The application, which each of schemathesis' many clients would end with its own session."""
    served = create_app(Service(engine, Limits(duration_s=5, decode_s=20, decode_mb=1024)))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await served(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    yield app
    served.state.service.close()


def fuzz(app: Any, cases: int) -> dict[str, int]:
    """Send cases to every route; returns how often each status came."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": "localhost"})
    seen: dict[str, int] = {}
    for operation in schema.get_all_operations():
        operation = operation.ok()

        @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @_given(operation)
        def send(case: Any) -> None:
            response = case.call(headers={"host": "localhost"})
            seen[str(response.status_code)] = seen.get(str(response.status_code), 0) + 1
            assert response.status_code < 500, (case.method, case.path, response.text)

        send()
    return seen


def _given(operation: Any) -> Any:
    from hypothesis import given
    from schemathesis import GenerationMode

    both = operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | operation.as_strategy(
        generation_mode=GenerationMode.NEGATIVE
    )
    return given(case=both)


def test_few_cases(app: Any) -> None:
    seen = fuzz(app, FEW)
    assert sum(seen.values()) >= 10 * FEW // 2
    assert "200" in seen


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_cases(app: Any) -> None:
    seen = fuzz(app, MANY)
    print(seen)
    assert sum(seen.values()) >= MANY
