"""Uploaded files, in memory only: forgotten after an hour, at the end, or when others need the room."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from nanoemox.serving.errors import Refusal


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One uploaded file."""

    data: bytes = field(repr=False)
    name: str
    purpose: str
    id: str = field(default_factory=lambda: f"file-{secrets.token_hex(16)}")
    created_s: float = field(default_factory=time.time)

    def to_dict(self, lifetime_s: float) -> dict[str, Any]:
        """Return the file object of OpenAI's clients."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.data),
            "created_at": int(self.created_s),
            "expires_at": int(self.created_s + lifetime_s),
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


class FileStore:
    """Files by id, oldest forgotten first.

    Args:
        max_bytes: All files together; 0 where this server keeps none.
        lifetime_s: How long one is kept.
    """

    def __init__(self, max_bytes: int, lifetime_s: float) -> None:
        self.max_bytes, self.lifetime_s = max_bytes, lifetime_s
        self._files: OrderedDict[str, StoredFile] = OrderedDict()

    def add(self, data: bytes, name: str, purpose: str) -> StoredFile:
        """Keep a file."""
        if not self.max_bytes:
            raise Refusal(400, "this server keeps no files, since it runs in several processes: send the clip itself")
        if not data:
            raise Refusal(400, "the file is empty", param="file")
        if len(data) > self.max_bytes:
            raise Refusal(413, f"the file is larger than {self.max_bytes} bytes")
        file = StoredFile(data, name[:255], purpose)
        self._files[file.id] = file
        self._forget()
        return file

    def get(self, key: str) -> StoredFile:
        """Return a file, or refuse where it is unknown or was forgotten."""
        self._forget()
        if key not in self._files:
            raise Refusal(404, "no such file: it was never uploaded, was deleted, or is forgotten by now", param="file")
        return self._files[key]

    def delete(self, key: str) -> None:
        """Forget a file."""
        self.get(key)
        del self._files[key]

    def all(self) -> list[StoredFile]:
        """List the files, newest first."""
        self._forget()
        return list(reversed(self._files.values()))

    def _forget(self) -> None:
        limit = time.time() - self.lifetime_s
        held = sum(len(f.data) for f in self._files.values())
        for key, file in list(self._files.items()):
            if file.created_s > limit and held <= self.max_bytes:
                break
            held -= len(file.data)
            del self._files[key]
