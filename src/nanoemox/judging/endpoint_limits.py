"""Limits on responses: no redirects, no compression, and a body of bounded size and duration."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, NoReturn

MAX_BODY_BYTES: Final = 16 * 2**20


class BodyError(Exception):
    """A response that is rejected unread."""


def client_of(timeout_s: float) -> Any:
    """Return the HTTP client for ``openai.OpenAI``; proxy settings of the environment apply.

    Args:
        timeout_s: Longest duration of one body, from its headers to its end, in seconds.
    """
    import openai

    return openai.DefaultHttpxClient(
        follow_redirects=False,  # a redirect would send the conversation, and possibly the key, elsewhere
        headers={"Accept-Encoding": "identity"},
        event_hooks={"response": [_guard(timeout_s)]},
    )


def _guard(timeout_s: float) -> Callable[[Any], None]:
    """Return a response hook for httpx (or httpx2), called before the body is read."""

    def guard(response: Any) -> None:
        if 300 <= response.status_code < 400:
            place = response.headers.get("location", "")[:200]
            _refuse(response, f"the server redirects to {place!r}: name that address instead, if you trust it")
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            _refuse(response, f"the answer is compressed ({encoding[:40]!r}), which was not asked for")
        response.iter_raw = partial(_limited, response.iter_raw, time.monotonic(), timeout_s)

    return guard


def _limited(
    pieces: Callable[..., Iterator[bytes]], begin_s: float, timeout_s: float, chunk_size: int | None = None
) -> Iterator[bytes]:
    size = 0
    for piece in pieces(chunk_size):
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise BodyError(f"the answer is longer than {MAX_BODY_BYTES // 2**20} MiB")
        if time.monotonic() - begin_s > timeout_s:
            raise BodyError(f"the answer has not ended after {timeout_s:g} s")
        yield piece


def _refuse(response: Any, why: str) -> NoReturn:
    response.close()
    raise BodyError(why)


def retry_after_s(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which is a number or a date."""
    if value is None:
        return None
    with suppress(ValueError):
        seconds = float(value)
        return max(0.0, seconds) if seconds < float("inf") else None
    with suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
