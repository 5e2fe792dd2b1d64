"""Filling a feature cache: processes decode, the frozen encoders follow in batches, shards are written.

Every file is identified by its content (SHA-256), with that of its sidecar files, so a
copy is never encoded twice. The index ``files-*.jsonl`` remembers the content of a file as long as its size and time of
change stay the same. Several ranks share the work: each hashes its part, all then see the same index, and each takes
its part of the contents that are missing. Several runs may fill one cache at the same time: shards are written whole,
lines are appended whole, and ranks tell each other the rest without files.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from nanoemox.data.features.decoding import Arrays, Source, decode, prepare
from nanoemox.data.features.shards import Shards
from nanoemox.data.files import full_disk_named, read_lines, write_json
from nanoemox.data.opening import content_key
from nanoemox.data.workers import Workers
from nanoemox.model.branches import BRANCHES
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor

logger = logging.getLogger(__name__)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Share:
    """The share of the work of this process.

    Attributes:
        rank: Number of the process.
        world: Number of processes.
        gather: Returns the lists that all processes have passed it, once all have called it.
    """

    rank: int = 0
    world: int = 1
    gather: Callable[[list[Any]], list[Any]] = lambda mine: mine


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Options of a cache.

    Attributes:
        root: What media paths are relative to.
        dtype: Stored precision; float16 halves the disk, float32 is exact.
        batch_size: Files encoded at once.
        shard_size: Files per shard, hence at most lost when killed.
        workers: Decoding processes; 0 for two threads.
        share: Share of this process.
        progress: Called after every batch.
    """

    root: Path = Path()
    dtype: torch.dtype = torch.float32
    batch_size: int = 16
    shard_size: int = 256
    workers: int = 0
    share: Share = field(default_factory=Share)
    progress: Callable[[Filling], None] | None = None


@dataclass(slots=True)
class Filling:
    """Progress of the filling.

    Attributes:
        files: Requested files of all ranks.
        present: Contents that were cached before.
        missing: Contents that this rank must encode.
        encoded: Number of those that are done.
        bad: Number of those that cannot be used.
        num_bytes: Bytes of the features written, one shard behind the clips.
        decode_wait_s: Time that the encoders waited for decoded clips.
        encode_s: Time that they worked.
        write_s: Time that shards took.
    """

    files: int = 0
    present: int = 0
    missing: int = 0
    encoded: int = 0
    bad: int = 0
    num_bytes: int = 0
    decode_wait_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0

    @property
    def clips_per_s(self) -> float:
        """Clips processed per second so far."""
        spent = self.decode_wait_s + self.encode_s + self.write_s
        return (self.encoded + self.bad) / spent if spent else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left at this rate."""
        rate = self.clips_per_s
        return (self.missing - self.encoded - self.bad) / rate if rate else None

    @property
    def bound(self) -> Literal["decode", "encode"]:
        """The bottleneck, ``decode`` (use more processes) or ``encode`` (a larger batch or a faster device)."""
        return "decode" if self.decode_wait_s > self.encode_s else "encode"

    @property
    def bytes_per_clip(self) -> int:
        """Mean size of the written entries."""
        return self.num_bytes // self.encoded if self.encoded else 0


class Filler:
    """Adds missing files to a cache.

    Attributes:
        keys: Requested path -> content key.
        bad: Requested path or source -> reason why it cannot be used.
        state: Progress.
    """

    def __init__(
        self, shards: Shards, model: NanoEmoXForConditionalGeneration, processor: NanoEmoXProcessor,
        options: CacheOptions,
    ) -> None:  # fmt: skip
        self.shards, self.model, self.processor, self.options = shards, model, processor, options
        self.keys: dict[str, str] = {}
        self.bad: dict[str, str] = {}
        self.state = Filling()

    def run(self, sources: Sequence[Source]) -> None:
        """Fill; on return the share of every rank is complete.

        Raises:
            RecipeError: The disk is full.
        """
        with full_disk_named(self.shards.folder):
            self._fill(sources)

    def _fill(self, sources: Sequence[Source]) -> None:
        share = self.options.share
        files = list(dict.fromkeys(file for source in sources for file in source.files))
        self._find_keys(files)
        entries: dict[str, list[Source]] = {}
        for source in sources:
            if self.keys.keys() >= set(source.files):
                entries.setdefault(source.key(self.keys), []).append(source)
        # As the first rank sees them: another run may be writing here, and ranks that look later see more.
        missing = share.gather([key for key in entries if key not in self.shards] if share.rank == 0 else [])
        mine = [key for key in missing[share.rank :: share.world] if key in entries]
        self.state.files, self.state.present, self.state.missing = len(files), len(entries) - len(missing), len(mine)
        for key, why in self._encode_all({key: entries[key][0] for key in mine}):
            self.bad |= dict.fromkeys((source.name for source in entries[key]), why)
        self._share_bad()
        self.shards.scan()

    # ---------------------------------------------------------------- contents

    def _find_keys(self, files: Sequence[str]) -> None:
        """Hash this rank's part of the files, where the index does not know them; then read what all found."""
        folder, share = self.shards.folder, self.options.share
        known = _known(folder)
        own = folder / f"files-{share.rank}.jsonl"
        part = [self._path(file) for file in files[share.rank :: share.world]]
        rows = (row for _, row in Workers(_identify, dict, (known,)).run(part) if row is not None)
        first = next(rows, None)
        if first is not None:  # a cache that knows all files may be read-only
            # A line is written at once, so that those of two runs side by side do not mix.
            with own.open("a", encoding="utf-8", buffering=1) as index:
                index.write("\n")  # a killed run may have left half a line
                for row in chain([first], rows):
                    index.write(json.dumps(row) + "\n")
        share.gather([])  # all have written
        known = _known(folder)
        for file in files:
            path = self._path(file)
            try:
                stat = os.stat(path)
                self.keys[file] = known[path, stat.st_size, stat.st_mtime_ns]
            except OSError as error:
                self.bad[file] = f"cannot be opened: {error.strerror}"
            except KeyError:
                self.bad[file] = "cannot be opened: not readable, or it changes while it is read"

    def _path(self, file: str) -> str:
        return os.path.abspath(self.options.root / file)

    # ---------------------------------------------------------------- features

    def _encode_all(self, missing: Mapping[str, Source]) -> Iterator[tuple[str, str]]:
        """Encode and write; yield the keys that cannot be used and why."""
        if not missing:
            return
        state, options = self.state, self.options
        by_source = {of.relocated(self._path): key for key, of in missing.items()}
        workers = Workers(decode, prepare, (self.processor,), options.workers)
        fresh: dict[str, dict[str, Tensor]] = {}
        for batch in self._timed(workers.run(by_source)):
            good = [(by_source[source], media) for source, media in batch if not isinstance(media, str)]
            refused = {by_source[source]: media for source, media in batch if isinstance(media, str)}
            started = time.perf_counter()
            encoded = encode_clips(good, self.model, options.dtype)
            state.encode_s += time.perf_counter() - started
            refused |= {key: why for key, parts in encoded.items() if (why := _unusable(parts)) is not None}
            fresh |= {key: parts for key, parts in encoded.items() if key not in refused}
            state.encoded += len(batch) - len(refused)
            state.bad += len(refused)
            yield from refused.items()
            if len(fresh) >= options.shard_size or state.encoded + state.bad == state.missing:
                started = time.perf_counter()
                state.num_bytes += self.shards.write(fresh)
                state.write_s += time.perf_counter() - started
                fresh = {}
                logger.info("features: %d of %d files", state.encoded + state.bad, state.missing)
            if options.progress is not None:
                options.progress(state)

    def _timed(self, decoded: Iterable[Item]) -> Iterator[list[Item]]:
        """Yield batches; note how long they were waited for."""
        batches = _batched(decoded, self.options.batch_size)
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.state.decode_wait_s += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def _share_bad(self) -> None:
        """Share the unusable files among the ranks, and write the list next to the shards."""
        for bad in self.options.share.gather([self.bad]):
            self.bad |= bad
        listed = self.shards.folder / "bad.json"
        if self.options.share.rank == 0 and self.bad != _listed(listed):
            write_json(listed, self.bad)


def _listed(path: Path) -> dict[str, str]:
    """Read the list of unusable files; empty if there is none, or none that can be read."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


_Known = dict[tuple[str, int, int], str]


def _known(folder: Path) -> _Known:
    """Read the index: path, size and time of change -> content key."""
    rows = read_lines(sorted(folder.glob("files-*.jsonl")))
    return {(r["path"], r["size"], r["mtime_ns"]): r["key"] for r in rows if isinstance(r, dict) and len(r) == 4}


def _identify(known: _Known, path: str, careful: bool) -> dict[str, Any] | None:
    """Return the index' row of a file; None where it has one already or cannot be read."""
    try:
        stat = os.stat(path)
        if (path, stat.st_size, stat.st_mtime_ns) in known:
            return None
        key = content_key(Path(path))
    except OSError:
        return None
    return {"path": path, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "key": key}


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cut into lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


# -------------------------------------------------------------------- on the device


@torch.inference_mode()
def encode_clips(
    items: Sequence[tuple[str, Arrays]], model: NanoEmoXForConditionalGeneration, dtype: torch.dtype
) -> dict[str, dict[str, Tensor]]:
    """Encode the branches that files have, each branch in one batch."""
    out: dict[str, dict[str, Tensor]] = {key: {} for key, _ in items}
    for name in (branch.raw for branch in BRANCHES.values()):
        have = [(key, media[name]) for key, media in items if name in media]
        if not have:
            continue
        stacked = torch.from_numpy(np.stack([array for _, array in have])).to(model.device)
        features = model.encode({name: stacked})
        for feature, values in features.items():
            for (key, _), value in zip(have, values.to("cpu", dtype), strict=True):
                out[key][feature] = value.clone(memory_format=torch.contiguous_format)
    return out


def _unusable(parts: Mapping[str, Tensor]) -> str | None:
    """Say what is wrong with features, if anything: one bad number would spoil a step of training."""
    for name, tensor in parts.items():
        if not torch.isfinite(tensor).all():
            return f"its {name} do not fit {tensor.dtype} or are no numbers: try --dtype float32"
    return None
