"""Uploaded files, in memory only: deleted after an hour, at shutdown, or when newer ones need the space."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from nanoemox.serving.errors import ApiError


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One uploaded file."""

    data: bytes = field(repr=False)
    name: str
    purpose: str
    id: str = field(default_factory=lambda: f"file-{secrets.token_hex(16)}")
    created_s: float = field(default_factory=time.time)

    def to_dict(self, lifetime_s: float) -> dict[str, Any]:
        """Return the file object of OpenAI's API."""
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
    """Files by id; the oldest is deleted first.

    Args:
        max_bytes: Limit of all files together; 0 turns uploads off.
        lifetime_s: Lifetime of a file.
    """

    def __init__(self, max_bytes: int, lifetime_s: float) -> None:
        self.max_bytes, self.lifetime_s = max_bytes, lifetime_s
        self._files: OrderedDict[str, StoredFile] = OrderedDict()

    def add(self, data: bytes, name: str, purpose: str) -> StoredFile:
        """Store a file."""
        if not self.max_bytes:
            raise ApiError(400, "this server stores no files, since it runs in several processes: send the clip itself")
        if not data:
            raise ApiError(400, "the file is empty", param="file")
        if len(data) > self.max_bytes:
            raise ApiError(413, f"the file is larger than {self.max_bytes} bytes")
        file = StoredFile(data, name[:255], purpose)
        self._files[file.id] = file
        self._expire()
        return file

    def get(self, key: str) -> StoredFile:
        """Return a file; ApiError (404) if there is none."""
        self._expire()
        if key not in self._files:
            raise ApiError(404, "no such file: it was never uploaded, was deleted or has expired", param="file")
        return self._files[key]

    def delete(self, key: str) -> None:
        """Delete a file."""
        self.get(key)
        del self._files[key]

    def all(self) -> list[StoredFile]:
        """List the files, newest first."""
        self._expire()
        return list(reversed(self._files.values()))

    def _expire(self) -> None:
        limit = time.time() - self.lifetime_s
        total = sum(len(f.data) for f in self._files.values())
        for key, file in list(self._files.items()):
            if file.created_s > limit and total <= self.max_bytes:
                break
            total -= len(file.data)
            del self._files[key]
