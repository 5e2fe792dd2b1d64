"""Servers on this machine: where they listen, and which names and pages may call them."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from nanoemox.types import NanoEmoXError


@contextmanager
def listening_at(port: int, host: str | None = None) -> Iterator[tuple[socket.socket, str]]:
    """Listen, and yield the socket and its address as a URL.

    From then on uvicorn's log says nothing of requests that are cut off because the server ends.

    Args:
        port: Port; 0 takes a free one.
        host: Address, where the user may choose one; None is loopback.

    Raises:
        NanoEmoXError: It cannot be listened at.
    """
    at, remedy = ("127.0.0.1", "--port") if host is None else (host, "--port or --host")
    try:
        found = socket.create_server((at, port), family=socket.AF_INET6 if ":" in at else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise NanoEmoXError(f"cannot listen at {at}:{port} ({error}): give another {remedy}") from error
    logging.getLogger("uvicorn.error").addFilter(_is_a_fault)
    with found:
        shown = f"[{at}]" if ":" in at else at
        yield found, f"http://{shown}:{found.getsockname()[1]}"


def _is_a_fault(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, asyncio.CancelledError)


def known_host(called: str, host: str) -> bool:
    """Whether a ``Host`` header is an IP address, ``localhost`` or the name that is served.

    A name that an attacker points at this machine is none of these.
    """
    try:
        name = urlsplit(f"//{called}").hostname or ""
    except ValueError:
        return False
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name in ("localhost", host.lower())


def netloc_of(origin: str) -> str:
    """Return host and port of an ``Origin`` header in lower case; empty for what is no page of the web."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""
