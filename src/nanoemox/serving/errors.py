"""Error bodies as OpenAI's clients read them. A message says what is wrong and never holds what a client sent."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from nanoemox.types import NanoEmoXError

_log = logging.getLogger("nanoemox.serving")
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refusal(Exception):  # noqa: N818 (it is an answer, not a fault)
    """An answer other than 200.

    Args:
        status: HTTP status.
        message: A sentence for the client.
        code: Short word for programs.
        param: The field that is meant.
        retry_after_s: When to come back.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after_s = status, code, param, retry_after_s


def body_of(refusal: Refusal) -> dict[str, Any]:
    """Return the JSON object of an error."""
    kind = _TYPES.get(refusal.status, "server_error" if refusal.status >= 500 else "invalid_request_error")
    return {"error": {"message": str(refusal), "type": kind, "param": refusal.param, "code": refusal.code}}


def problem(refusal: Refusal) -> Response:
    """Return the response of an error."""
    response = json_response(body_of(refusal), refusal.status)
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    if refusal.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def json_response(value: object, status: int = 200) -> Response:
    """Return JSON in ASCII, which holds any string, half characters included."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json", headers={"Cache-Control": "no-store"})


def refusal_of(error: BaseException) -> Refusal:
    """Turn whatever went wrong into an answer; what is not a user's mistake is logged without its message."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, NanoEmoXError):
        return Refusal(400, str(error)[:2000], code="invalid_value")
    if isinstance(error, TimeoutError):
        return Refusal(
            504, "the answer took too long and was given up: shorten the clip, or come back when it is quieter"
        )
    # A message may hold a client's words; where it happened does not.
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-6:]]
    _log.error("%s at %s", type(error).__name__, " < ".join(reversed(places)))
    return Refusal(500, "the server failed; its log says where", code="internal_error")


def misfit(first: Mapping[str, Any], fields: Iterable[str] = ()) -> Refusal:
    """Say what is wrong with the fields of a request.

    Args:
        first: The first error that pydantic names.
        fields: Those that there are, for whoever misspelt one.
    """
    where = ".".join(str(part)[:100] for part in first["loc"])
    # Pydantic's messages name types and bounds, not values, except for one kind.
    said = {"json_invalid": "not valid JSON", "extra_forbidden": "no such field"}.get(first["type"], first["msg"])
    known = f"; there are {', '.join(fields)}" if fields and first["type"] == "extra_forbidden" else ""
    return Refusal(400, f"{where or 'body'}: {said}{known}", param=where or None, code="invalid_value")


def add_handlers(app: FastAPI) -> None:
    """Answer every error of an application in this form."""

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return problem(misfit(first | {"loc": first["loc"][1:]}))

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> Response:
        return problem(Refusal(error.status_code, str(error.detail)))

    async def other(request: Request, error: Exception) -> Response:
        return problem(refusal_of(error))

    for kind in (Refusal, NanoEmoXError, TimeoutError):
        app.add_exception_handler(kind, other)
