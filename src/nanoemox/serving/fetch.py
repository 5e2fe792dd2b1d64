"""Fetch media from allowed hosts only, safe against server-side request forgery.

Off unless ``--allow-media-host`` names a host. A name is resolved once, and the connection goes to the checked
address, so DNS rebinding has no effect. Private and local addresses are refused even for an allowed host. Each
redirect is checked like a new request.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

from nanoemox.serving.errors import ApiError

MAX_REDIRECTS: Final = 3
TIMEOUT_S: Final = 10.0
"""Longest wait for a connection, and for each part of a response."""
WHOLE_S: Final = 60.0
"""Longest time for a whole file, redirects included: a host that drips bytes must not hold a place in the queue."""
_CHUNK: Final = 1 << 16


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    return found.is_global and not found.is_multicast


def fetch(
    url: str,
    hosts: Collection[str],
    max_bytes: int,
    allowed: Callable[[str], bool] = is_public,
    whole_s: float = WHOLE_S,
) -> bytes:
    """Download a URL.

    Args:
        url: http or https.
        hosts: Allowed host names.
        max_bytes: Size limit.
        allowed: Whether an address may be connected to.
        whole_s: Time limit in seconds for all of it.

    Raises:
        ApiError: The host is not allowed, or its response is invalid, too large or too slow.
    """
    until = time.monotonic() + whole_s
    for _ in range(MAX_REDIRECTS + 1):
        parts = _checked(url, hosts)
        try:
            with closing(_connect(parts, allowed)) as connection, _cut_off(connection, until):
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "nanoemox"})
                response = connection.getresponse()
                where = response.getheader("Location")
                if response.status in (301, 302, 303, 307, 308) and where:
                    url = urljoin(url, where)
                    continue
                data = _body(response, max_bytes)
            if time.monotonic() >= until:
                raise TimeoutError  # a response of unknown length looks complete where it was cut off
            return data
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _bad_url("the media host did not send a valid response") from error
    raise _bad_url(f"the media host redirected more than {MAX_REDIRECTS} times")


def _bad_url(sentence: str) -> ApiError:
    return ApiError(400, sentence, code="invalid_url")


def _checked(url: str, hosts: Collection[str]) -> SplitResult:
    if not hosts:
        raise _bad_url("this server does not fetch URLs: send the media itself, as a data URI or a file")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad_url("the URL cannot be read") from None
    if parts.scheme not in ("http", "https") or parts.username is not None or port not in (None, 80, 443, *_odd(hosts)):
        raise _bad_url("only plain http and https URLs are fetched")
    if _name(parts) not in {h.lower() for h in hosts}:
        raise _bad_url("this server does not fetch from that host: send the media itself, as a data URI or a file")
    return parts


def _name(parts: SplitResult) -> str:
    """Return the host as in ``--allow-media-host``: with its port unless that is 80 or 443."""
    host = (parts.hostname or "").rstrip(".").lower()
    return host if parts.port in (None, 80, 443) else f"{host}:{parts.port}"


def _odd(hosts: Collection[str]) -> set[int]:
    """Return the ports of allowed hosts that have one."""
    return {int(port) for _, colon, port in (h.rpartition(":") for h in hosts) if colon and port.isdigit()}


def _connect(parts: SplitResult, allowed: Callable[[str], bool]) -> http.client.HTTPConnection:
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = {info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    if not found or not all(allowed(str(address)) for address in found):
        raise _bad_url("that host is in a private network: send the media itself, as a data URI or a file")
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    plain = socket.create_connection((str(min(found)), port), timeout=TIMEOUT_S)
    secure = parts.scheme == "https"
    connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain
    return connection


@contextmanager
def _cut_off(connection: http.client.HTTPConnection, until: float) -> Iterator[None]:
    """Shut a connection down at a time: its own limit starts anew with every byte."""
    plain: socket.socket = connection.sock  # the connection forgets it once a response begins that has no length

    def shut_down() -> None:
        with suppress(OSError):  # the host was faster
            # Of the class, since the method of a TLS socket would let a reader go on without TLS.
            socket.socket.shutdown(plain, socket.SHUT_RDWR)

    timer = threading.Timer(until - time.monotonic(), shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _body(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    if response.status != 200:
        raise _bad_url(f"the media host answered {response.status}")
    if response.getheader("Content-Encoding", "identity") != "identity":
        raise _bad_url("the media host compressed its answer")
    data = bytearray()
    while chunk := response.read(_CHUNK):
        data += chunk
        if len(data) > max_bytes:
            raise ApiError(413, f"the file of the media host is larger than {max_bytes} bytes")
    return bytes(data)
