"""Tensors by key in safetensors shards: written atomically, verified when first read.

A shard is written under another name, flushed to the disk and renamed, so a process that is killed leaves what was
there. Its header holds a checksum of every entry (CRC-32 of its tensors' names, types, shapes and bytes), compared when
the entry is first read; its name is made of the keys that it holds, compared when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import zlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nanoemox.model.tensor_files import save_tensors
from nanoemox.types import CheckpointError

_PARTIAL: Final = re.compile(r"\.[0-9a-f]{16}\.(?P<pid>\d+)@(?P<host>.+)\.partial")
_CHECKSUMS: Final = "checksums"
_OLD_CHECKSUMS: Final = "crc32"  # of the bytes alone, in shards of earlier versions
_NAMED_BY_KEYS: Final = re.compile(r"[0-9a-f]{16}")


class Shards:
    """A folder of shards.

    Args:
        folder: Made if it is not there; shards in it are opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handles: dict[Path, Any] = {}
        self._where: dict[str, Path] = {}
        self._names: dict[str, list[str]] = {}
        self._checksums: dict[str, int] = {}
        self._checked: set[str] = set()
        self._old: set[Path] = set()
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        self.scan()

    def __contains__(self, key: str) -> bool:
        """Say whether there is an entry."""
        return key in self._where

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._where)

    def scan(self) -> None:
        """Open new shards.

        Raises:
            CheckpointError: A shard is not whole.
        """
        for shard in sorted(self.folder.glob("*.safetensors")):
            if shard in self._handles:
                continue
            try:
                handle = safe_open(str(shard), framework="pt")
                names, metadata = list(handle.keys()), handle.metadata() or {}
                checksums = json.loads(metadata.get(_CHECKSUMS, metadata.get(_OLD_CHECKSUMS, "{}")))
            except (SafetensorError, OSError, ValueError) as error:
                if shard.exists() and not os.access(shard, os.R_OK):
                    raise CheckpointError(f"{shard} belongs to another user: ask for permission to read it") from error
                raise _damaged(shard, str(error)) from error
            keys = {name.partition("/")[0] for name in names}
            if _NAMED_BY_KEYS.fullmatch(shard.stem) and (shard.stem != _shard_name(keys) or keys != checksums.keys()):
                raise _damaged(shard, "its keys are not those that it was written with")
            self._handles[shard] = handle
            if _CHECKSUMS not in metadata:
                self._old.add(shard)
            for name in names:
                key, _, tensor = name.partition("/")
                if self._where.setdefault(key, shard) == shard:
                    self._names.setdefault(key, []).append(tensor)
                    if key in checksums:
                        self._checksums[key] = checksums[key]

    def read(self, key: str) -> dict[str, Tensor]:
        """Return the tensors of an entry.

        Raises:
            KeyError: There is no such entry.
            CheckpointError: The shard has changed since it was written.
        """
        shard = self._where[key]
        entry = {name: self._handles[shard].get_tensor(f"{key}/{name}") for name in self._names[key]}
        if key not in self._checked:
            found = checksum(entry, described=shard not in self._old)
            if key in self._checksums and found != self._checksums[key]:
                raise _damaged(shard, f"checksum of {key[:16]}... differs")
            self._checked.add(key)
        return entry

    def write(self, entries: Mapping[str, Mapping[str, Tensor]]) -> int:
        """Write a shard and return the bytes of its tensors."""
        tensors = {f"{key}/{name}": tensor for key, parts in entries.items() for name, tensor in parts.items()}
        if not tensors:
            return 0
        name = _shard_name({key for key, parts in entries.items() if parts})
        partial = self.folder / f".{name}.{os.getpid()}@{platform.node()}.partial"
        checksums = {key: checksum(parts) for key, parts in entries.items() if parts}
        try:
            partial.mkdir(exist_ok=True)  # a folder, since the library writes files of names of its own beside it
            save_tensors(tensors, partial / "shard", {_CHECKSUMS: json.dumps(checksums)})
            with (partial / "shard").open("rb") as file:
                os.fsync(file.fileno())
            (partial / "shard").replace(self.folder / f"{name}.safetensors")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self.scan()
        return sum(t.nbytes for t in tensors.values())


def _shard_name(keys: AbstractSet[str]) -> str:
    return hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()[:16]


def checksum(entry: Mapping[str, Tensor], *, described: bool = True) -> int:
    """Return the CRC-32 of the tensors in the order of their names: name, type and shape if ``described``, bytes."""
    value = 0
    for name, tensor in sorted(entry.items()):
        if described:
            value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.contiguous().view(torch.uint8).numpy(), value)
    return value


def _damaged(shard: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{shard} is damaged ({why}): delete this file; its clips will be encoded anew")


def _sweep(folder: Path) -> None:
    """Remove the partial files of processes of this machine that have ended."""
    for path in folder.glob(".*.partial"):
        found = _PARTIAL.fullmatch(path.name)
        if found and found["host"] == platform.node() and not _lives(int(found["pid"])):
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):  # a file of an earlier version, or of a cache that may only be read
                path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    if os.name != "posix":  # there, signal 0 is no question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
