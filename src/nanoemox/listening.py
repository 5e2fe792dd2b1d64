"""Local servers: listening sockets, and checks of the headers ``Host`` and ``Origin``."""

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
    """Open a listening socket; yield it and its URL.

    From then on uvicorn does not log requests that are cancelled by a shutdown.

    Args:
        port: Port; 0 takes a free one.
        host: Address; None is loopback, for servers without ``--host``.

    Raises:
        NanoEmoXError: The address cannot be bound.
    """
    address, remedy = ("127.0.0.1", "--port") if host is None else (host, "--port or --host")
    try:
        listener = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise NanoEmoXError(f"cannot listen on {address}:{port} ({error}): choose another {remedy}") from error
    logging.getLogger("uvicorn.error").addFilter(_is_not_cancelled)
    with listener:
        name = f"[{address}]" if ":" in address else address
        yield listener, f"http://{name}:{listener.getsockname()[1]}"


def _is_not_cancelled(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, asyncio.CancelledError)


def known_host(header: str, host: str) -> bool:
    """Whether a ``Host`` header is an IP address, ``localhost`` or ``host``: a defence against DNS rebinding."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name in ("localhost", host.lower())


def netloc_of(origin: str) -> str:
    """Return host and port of an ``Origin`` header in lower case; empty unless it is http or https."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""
