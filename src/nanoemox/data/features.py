"""Feature cache: the frozen encoders run once per file, training reads what they saw.

Key of an entry is the content of the file (SHA-256); folder of the cache is the fingerprint of everything else that
features depend on: the encoders' configuration with taps, their weights, sampling of frames and windows, the stored
precision and the version of this preprocessing. Entries lie in safetensors shards that are written whole or not at
all, so a killed run goes on where it stopped. A file that cannot be read is listed, never replaced by another.

Letters: ``T`` frames, ``W`` speech windows, ``E`` experts, ``D``/``C`` width of a feature.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nanoemox.data.manifest import Sample
from nanoemox.faces import with_face
from nanoemox.media import load_clip
from nanoemox.model.modeling import Media, NanoEmoXForConditionalGeneration
from nanoemox.processing import NanoEmoXProcessor
from nanoemox.types import MediaError, RecipeError

PREPROCESSING_VERSION: Final = 1
"""Raised by hand whenever decoding, face finding or windowing gives other numbers."""
VISION_KEYS: Final = ("vision_last", "vision_levels", "face_vectors")
SPEECH_KEYS: Final = ("speech_last", "speech_levels")
_SECTIONS: Final = {
    "vision": ("encoder", "last", "taps", "frame_tokens", "fit", "image_mean", "image_std", "num_frames"),
    "speech": ("encoder", "last_states", "taps", "grid", "normalise", "remove_mean", "num_windows", "window_s"),
    "face": ("kind", "encoder", "fuse_size", "raw_stages", "vector_size", "crop", "normalise", "image_size"),
}
logger = logging.getLogger(__name__)


def content_key(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(model: NanoEmoXForConditionalGeneration, processor: NanoEmoXProcessor, dtype: torch.dtype) -> str:
    """Return what, beside the file, decides its features: 16 hexadecimal digits."""
    described: dict[str, Any] = {"version": PREPROCESSING_VERSION, "dtype": str(dtype)}
    weights = hashlib.sha256()
    for branch, fields in _SECTIONS.items():
        encoder: nn.Module | None = getattr(model, f"{branch}_encoder")
        if encoder is None:
            continue
        section = getattr(model.config, branch).to_dict()
        described[branch] = {name: section.get(name) for name in fields}
        for name, tensor in sorted(encoder.state_dict().items()):
            weights.update(name.encode())
            weights.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    described["extractor"] = processor.feature_extractor.to_dict()
    text = json.dumps(described, sort_keys=True, default=str) + weights.hexdigest()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(slots=True)
class FeatureCache:
    """Features of media files, by content.

    Attributes:
        folder: Where the shards lie.
        root: What media paths are relative to.
        keys: Media path -> content key, for files that were asked for and could be read.
        bad: Media path -> why it cannot be used.
    """

    folder: Path
    root: Path
    keys: dict[str, str] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    _entries: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def open_or_build(
        cls,
        samples: Iterable[Sample],
        model: NanoEmoXForConditionalGeneration,
        processor: NanoEmoXProcessor,
        folder: Path,
        options: CacheOptions | None = None,
    ) -> FeatureCache:
        """Open the cache of these encoders and add what the samples' files lack in it.

        Raises:
            RecipeError: The model normalises voices over the batch, so a clip has no features of its own.
        """
        options = options or CacheOptions()
        speech: Any = model.config.speech
        if model.speech_encoder is not None and speech.normalise == "batch":
            raise RecipeError(
                "speech.normalise=batch makes features depend on neighbours: use clip or window, or train uncached"
            )
        cache = cls(folder / fingerprint(model, processor, options.dtype), options.root)
        cache.folder.mkdir(parents=True, exist_ok=True)
        cache._read_shards()
        cache._build(_files(samples), model, processor, options)
        return cache

    def media(self, sample: Sample) -> dict[str, Tensor]:
        """Return the features of a sample: picture and face of ``media``, voice of ``audio`` or else of ``media``.

        Returns:
            Those of ``vision_last`` [T, D], ``vision_levels`` [E, T, D], ``face_vectors`` [T, C], ``speech_last``
            [W, D], ``speech_levels`` [E, W, D] that there are, in the stored precision.

        Raises:
            MediaError: A file of the sample is bad.
        """
        seen = self._entry(sample.media)
        heard = self._entry(sample.audio) if sample.audio else seen
        return {k: seen[k] for k in VISION_KEYS if k in seen} | {k: heard[k] for k in SPEECH_KEYS if k in heard}

    def usable(self, sample: Sample) -> bool:
        """Say whether every file of the sample could be read."""
        return not any(path in self.bad for path in (sample.media, sample.audio) if path)

    def _entry(self, path: str | None) -> Mapping[str, Tensor]:
        if path is None:
            return {}
        if path in self.bad:
            raise MediaError(f"{path}: {self.bad[path]}")
        return self._entries[self.keys[path]]

    def _read_shards(self) -> None:
        """Map every shard; pages are read when an entry is."""
        for shard in sorted(self.folder.glob("*.safetensors")):
            with safe_open(str(shard), framework="pt") as handle:
                for name in handle.keys():  # noqa: SIM118 (not a dict)
                    key, _, tensor = name.partition("/")
                    self._entries.setdefault(key, {})[tensor] = handle.get_tensor(name)

    def _build(
        self, files: Sequence[str], model: NanoEmoXForConditionalGeneration, processor: NanoEmoXProcessor,
        options: CacheOptions,
    ) -> None:  # fmt: skip
        missing: dict[str, str] = {}
        for file in files:
            try:
                self.keys[file] = content_key(self.root / file)
            except OSError as error:
                self.bad[file] = f"cannot be opened: {error.strerror}"
                continue
            if self.keys[file] not in self._entries:
                missing.setdefault(self.keys[file], file)
        decoded = _decoded(list(missing.items()), self.root, processor, options.threads)
        done = 0
        for shard in _batched(decoded, options.shard_size):
            fresh: dict[str, dict[str, Tensor]] = {}
            for batch in _batched(shard, options.batch_size):
                fresh |= _encode([(k, m) for k, m, _ in batch if m is not None], model, options.dtype)
                self.bad |= {missing[k]: why for k, _, why in batch if why is not None}
            _write_shard(self.folder, fresh)
            self._entries |= fresh
            done += len(shard)
            logger.info("features: %d of %d files", done, len(missing))
        for file, key in self.keys.items():
            if key not in self._entries and file not in self.bad:
                self.bad[file] = self.bad[missing[key]]  # a byte-for-byte copy of a bad file


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """How a cache is built.

    Attributes:
        root: What media paths are relative to.
        dtype: Stored precision; float16 halves the disk, float32 is exact.
        batch_size: Files encoded at once.
        shard_size: Files per shard, hence at most lost when killed.
        threads: Decoding threads.
    """

    root: Path = Path()
    dtype: torch.dtype = torch.float32
    batch_size: int = 16
    shard_size: int = 256
    threads: int = 2


Item = TypeVar("Item")


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cut into lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _files(samples: Iterable[Sample]) -> list[str]:
    return list(dict.fromkeys(p for s in samples for p in (s.media, s.audio) if p))


_Decoded = tuple[str, dict[str, Tensor] | None, str | None]


def _decoded(
    items: Sequence[tuple[str, str]], root: Path, processor: NanoEmoXProcessor, threads: int
) -> Iterator[_Decoded]:
    """Decode ahead of the encoders, in order, a bounded number of files at a time."""
    vision: Any = processor.config.vision

    def decode(item: tuple[str, str]) -> _Decoded:
        key, file = item
        try:
            clip = with_face(load_clip(root / file, num_frames=vision.num_frames))
        except MediaError as error:
            return key, None, str(error)
        media = processor.media(clip)
        return (key, media, None) if media else (key, None, "holds neither picture nor sound")

    with ThreadPoolExecutor(threads) as pool:
        for group in _batched(items, 4 * threads):
            yield from pool.map(decode, group)


@torch.inference_mode()
def _encode(
    items: Sequence[tuple[str, dict[str, Tensor]]], model: NanoEmoXForConditionalGeneration, dtype: torch.dtype
) -> dict[str, dict[str, Tensor]]:
    """Encode the branches that files have, each branch in one batch."""
    out: dict[str, dict[str, Tensor]] = {key: {} for key, _ in items}
    for name in ("pixel_values", "speech_values", "face_values"):
        have = [(key, media[name]) for key, media in items if name in media]
        if not have:
            continue
        stacked = torch.stack([tensor for _, tensor in have]).to(model.device)
        features = model.encode(Media(**{name: stacked}))
        for feature, values in features.items():
            for (key, _), value in zip(have, values, strict=True):
                out[key][feature] = value.to("cpu", dtype, copy=True).contiguous()
    return out


def _write_shard(folder: Path, entries: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a shard under a name of its own; a reader never meets half of one."""
    tensors = {f"{key}/{name}": tensor for key, parts in entries.items() for name, tensor in parts.items()}
    if not tensors:
        return
    name = hashlib.sha256("".join(sorted(entries)).encode()).hexdigest()[:16]
    partial = folder / f".{name}.{os.getpid()}.partial"
    save_file(tensors, str(partial))
    partial.replace(folder / f"{name}.safetensors")
