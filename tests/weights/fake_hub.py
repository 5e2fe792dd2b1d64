"""A hub on loopback: model cards, redirects, ranges, and faults."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".pt", ".pth")
"""Kept as the hub keeps large files: by SHA-256, on another host."""


@dataclass
class FakeRepository:
    """Files of one commit; ``revisions`` are the names that lead to it."""

    files: dict[str, bytes]
    commit: str
    revisions: tuple[str, ...] = ("main",)
    licence: str | None = "mit"


@dataclass
class FakeHub:
    """What is served, what goes wrong, and what was asked.

    Attributes:
        repositories: ``owner/name`` -> its files.
        statuses: Path -> statuses that are answered first, one a request; ``api`` for the cards.
        cuts: Path -> number of bytes after which the connection breaks, one a request.
        served: Path -> bytes that are sent in place of the true ones.
        claims: Path -> what the card says of a file in place of the truth.
        asked: ``GET path`` -> Range headers, in order.
        authorised: Whether the second host ever saw an Authorization header.
    """

    repositories: dict[str, FakeRepository]
    url: str = ""
    statuses: dict[str, list[int]] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    ranges: bool = True
    answer_commit: str | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    authorised: bool = False

    def gets(self, path: str) -> list[str | None]:
        """Range headers of the requests that fetched a file."""
        return [r for p, r in self.asked if p == path]


def _sibling(hub: FakeHub, name: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    out: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
    if name.endswith(LARGE):
        out["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 134}
    return out | hub.claims.get(name, {})


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
                self._card(match[1], match[2])
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self._resolve(*match.groups())
            elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
                hub.authorised |= "Authorization" in self.headers
                self._content(match[2], hub.repositories[match[1]].files[match[2]])
            else:
                self._plain(404, {})

        def _fault(self, path: str) -> bool:
            if not hub.statuses.get(path):
                return False
            self._plain(hub.statuses[path].pop(0), {"Retry-After": "0"})
            return True

        def _found(self, repo: str, revision: str) -> FakeRepository | None:
            there = hub.repositories.get(repo)
            if there is None:
                self._plain(404, {"X-Error-Code": "RepoNotFound"})
            elif revision not in (*there.revisions, there.commit):
                self._plain(404, {"X-Error-Code": "RevisionNotFound"})
            else:
                return there
            return None

        def _card(self, repo: str, revision: str) -> None:
            there = None if self._fault("api") else self._found(repo, revision)
            if there is None:
                return
            card = {"license": there.licence} if there.licence else {}
            siblings = [_sibling(hub, n, c) for n, c in there.files.items()]
            body = {"id": repo, "sha": hub.answer_commit or there.commit, "siblings": siblings, "cardData": card}
            self._plain(200, {}, json.dumps(body).encode())

        def _resolve(self, repo: str, revision: str, path: str) -> None:
            there = self._found(repo, revision)
            if there is None or self._fault(path):
                return
            if path not in there.files:
                self._plain(404, {"X-Error-Code": "EntryNotFound"})
            elif path.endswith(LARGE):
                host = hub.url.replace("127.0.0.1", "localhost")
                self._plain(302, {"Location": f"{host}/cdn/{repo}/{path}"})
            else:
                self._content(path, there.files[path])

        def _content(self, path: str, content: bytes) -> None:
            content = hub.served.get(path, content)
            wanted = self.headers.get("Range")
            hub.asked.append((path, wanted))
            start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted and hub.ranges else 0
            if start >= len(content) and start:
                self._plain(416, {})
                return
            body = content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if hub.cuts.get(path):
                self.wfile.write(body[: hub.cuts[path].pop(0)])
                self.wfile.flush()
                self.close_connection = True
            else:
                self.wfile.write(body)

        def _plain(self, status: int, headers: dict[str, str], body: bytes = b"{}") -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve on a free port of loopback; the second host is the same one by its other name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
