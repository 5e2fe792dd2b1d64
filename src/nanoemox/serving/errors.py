"""Error responses in OpenAI's format. A message names the problem and never quotes the request."""

from __future__ import annotations

import json
import logging
import re
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
_MEMBER: Final = re.compile(r"str|Message|Call|list\[.*")
"""Members of a union, which pydantic puts between the fields of a location."""
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An error response.

    Args:
        status: HTTP status.
        message: What is wrong, for the client.
        code: Machine-readable code.
        param: The field at fault.
        retry_after_s: Value of ``Retry-After``, seconds.
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


def error_body(error: ApiError) -> dict[str, Any]:
    """Return the JSON body of an error."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}


def error_response(error: ApiError) -> Response:
    """Return the response of an error."""
    response = json_response(error_body(error), error.status)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def json_response(value: object, status: int = 200) -> Response:
    """Return an ASCII JSON response, which can hold any string, even one with lone surrogates."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json", headers={"Cache-Control": "no-store"})


def to_api_error(error: BaseException) -> ApiError:
    """Convert an exception to an error response; what is no user's mistake is logged without its message."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, NanoEmoXError):
        return ApiError(400, str(error)[:2000], code="invalid_value")
    if isinstance(error, TimeoutError):
        return ApiError(504, "the request timed out: shorten the clip, or retry when the server is less busy")
    # The message may quote the request; file names and lines do not.
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-6:]]
    _log.error("%s at %s", type(error).__name__, " < ".join(reversed(places)))
    return ApiError(500, "the server failed; its log says where", code="internal_error")


def invalid_field(first: Mapping[str, Any], fields: Iterable[str] = ()) -> ApiError:
    """Return the error of an invalid field.

    Args:
        first: An error of pydantic.
        fields: Known fields, listed if the field is unknown.
    """
    where = ".".join(str(part)[:100] for part in first["loc"] if not _MEMBER.fullmatch(str(part)))
    # Pydantic's messages name types and bounds; only these quote the input, or the names of our classes.
    reasons = {
        "json_invalid": "not valid JSON",
        "extra_forbidden": "no such field",
        "union_tag_invalid": f"no such type; the types are {first.get('ctx', {}).get('expected_tags')}",
        "union_tag_not_found": "needs a type",
    }
    reason = reasons.get(first["type"], first["msg"])
    known = f"; the fields are {', '.join(fields)}" if fields and first["type"] == "extra_forbidden" else ""
    return ApiError(400, f"{where or 'body'}: {reason}{known}", param=where or None, code="invalid_value")


def add_handlers(app: FastAPI) -> None:
    """Make an application answer every error in this format."""

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> Response:
        # Every member of a union reports an error; the one that fits best gets furthest.
        deepest = max(error.errors(), key=lambda found: len(found["loc"]))
        return error_response(invalid_field(deepest | {"loc": deepest["loc"][1:]}))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return error_response(ApiError(error.status_code, str(error.detail)))

    async def any_error(request: Request, error: Exception) -> Response:
        return error_response(to_api_error(error))

    for kind in (ApiError, NanoEmoXError, TimeoutError):
        app.add_exception_handler(kind, any_error)
