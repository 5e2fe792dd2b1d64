"""Feature cache: the frozen encoders run once per file, training reads their outputs.

The key of an entry is the content of the file (SHA-256), or of a file and its sidecar files; the folder of
the cache is the fingerprint of everything else that features depend on: the encoders' configuration with taps, their
weights, sampling of frames and windows, the stored precision and the version of this preprocessing. Entries lie in
safetensors shards that are written atomically, so a killed run can be resumed. A file that cannot be
read is listed, never replaced by another.

Letters: ``T`` frames, ``W`` speech windows, ``E`` experts, ``D``/``C`` width of a feature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from nanoemox.data.features.decoding import Source
from nanoemox.data.features.fill import CacheOptions, Filler, Filling
from nanoemox.data.features.shards import Shards
from nanoemox.data.manifest import Sample
from nanoemox.model.branches import BRANCHES, present, sidecars
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.types import MediaError, RecipeError

__all__ = ["CacheOptions", "FeatureCache", "entry_bytes", "fingerprint"]
PREPROCESSING_VERSION: Final = 2
"""Version of the preprocessing: raise it when decoding, face detection or windowing change their output."""


def fingerprint(model: NanoEmoXForConditionalGeneration, processor: NanoEmoXProcessor, dtype: torch.dtype) -> str:
    """Return a fingerprint of what determines features besides the file: 16 hexadecimal digits."""
    described: dict[str, Any] = {"version": PREPROCESSING_VERSION, "dtype": str(dtype)}
    weights = hashlib.sha256()
    for name, branch in BRANCHES.items():
        encoder = model.encoder_of(name)
        if encoder is None:
            continue
        section = getattr(model.config, name).to_dict()
        described[name] = {field: section.get(field) for field in branch.cached_by}
        # Named only where they are not the default: caches of versions without these fields stay valid.
        described[name] |= {k: section[k] for k, usual in branch.cached_by_later.items() if section[k] != usual}
        for key, tensor in sorted(encoder.state_dict().items()):
            weights.update(key.encode())
            weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    described["extractor"] = processor.feature_extractor.to_dict()
    text = json.dumps(described, sort_keys=True, default=str) + weights.hexdigest()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def entry_bytes(config: NanoEmoXConfig, dtype: torch.dtype) -> int:
    """Return the bytes of the features of a clip that has every modality."""
    return sum(branch.numbers_per_clip(config) for branch in present(config).values()) * dtype.itemsize


@dataclass(slots=True)
class FeatureCache:
    """Features of media files, by content.

    Attributes:
        folder: Folder of the shards.
        root: What media paths are relative to.
        shards: The shards themselves.
        config: The model's configuration: which branches are read, from which files.
        keys: Path -> content key, for requested files that could be opened.
        bad: Name of a source -> reason why it cannot be used.
        filling: Statistics of the filling.
    """

    folder: Path
    root: Path
    shards: Shards
    config: NanoEmoXConfig
    keys: dict[str, str] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    filling: Filling = field(default_factory=Filling)

    @classmethod
    def open_or_build(
        cls,
        samples: Iterable[Sample],
        model: NanoEmoXForConditionalGeneration,
        processor: NanoEmoXProcessor,
        folder: Path,
        options: CacheOptions | None = None,
    ) -> FeatureCache:
        """Open the cache of these encoders and add the missing files of the samples.

        Raises:
            RecipeError: The model normalises voices over the batch, so a clip has no features of its own.
            CheckpointError: A shard is damaged; the message says which file to delete.
        """
        options = options or CacheOptions()
        for branch in present(model.config).values():
            if (why := branch.dependence(model.config)) is not None:
                raise RecipeError(f"{why}, or train uncached")
        place = folder / fingerprint(model, processor, options.dtype)
        shards = Shards(place)
        filler = Filler(shards, model, processor, options)
        cache = cls(place, options.root, shards, model.config, filler.keys, filler.bad)
        wanted = (source for sample in samples for source in cache.sources(sample).values())
        filler.run([source for source in dict.fromkeys(wanted) if source.files])
        cache.filling = filler.state
        return cache

    def media(self, sample: Sample) -> dict[str, Tensor]:
        """Return the features of a sample: of each branch those of the file that it is read from.

        Returns:
            Key of a feature -> tensor in the stored precision, for the branches that the sample offers:
            ``vision_last`` [T, D], ``vision_levels`` [E, T, D], ``face_vectors`` [T, C], ``speech_last`` [W, D],
            ``speech_levels`` [E, W, D].

        Raises:
            MediaError: A file of the sample is bad.
            CheckpointError: Its shard is damaged; the message says which file to delete.
        """
        sources = self.sources(sample)
        entries = {source: self._entry(source) for source in dict.fromkeys(sources.values())}
        return {
            key: entries[source][key]
            for name, source in sources.items()
            for key in BRANCHES[name].features
            if key in entries[source]
        }

    def usable(self, sample: Sample) -> bool:
        """Return whether every file of the sample could be read."""
        return not any(name in self.bad for source in self.sources(sample).values() for name in source.names)

    def sources(self, sample: Sample) -> dict[str, Source]:
        """Return the source of each branch: ``media`` and its sidecar files, or ``audio`` instead."""
        beside = sidecars(self.config, sample.paths, self.root)
        whole = Source(sample.media, tuple(beside.items()))
        sound = Source(sample.audio) if sample.audio else whole
        return {name: sound if of.file == "audio" else whole for name, of in present(self.config).items()}

    def _entry(self, source: Source) -> Mapping[str, Tensor]:
        if not source.files:
            return {}
        for name in source.names:
            if name in self.bad:
                raise MediaError(f"{name}: {self.bad[name]}")
        return self.shards.read(source.key(self.keys))
