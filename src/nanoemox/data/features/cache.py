"""Feature cache: the frozen encoders run once per file, training reads what they saw.

Key of an entry is the content of the file (SHA-256), or of a file and of the face vectors that go with it; folder of
the cache is the fingerprint of everything else that features depend on: the encoders' configuration with taps, their
weights, sampling of frames and windows, the stored precision and the version of this preprocessing. Entries lie in
safetensors shards that are written whole or not at all, so a killed run goes on where it stopped. A file that cannot be
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
from torch import Tensor, nn

from nanoemox.data.features.fill import CacheOptions, Filler, Filling, Source
from nanoemox.data.features.shards import Shards
from nanoemox.data.manifest import Sample
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.types import MediaError, RecipeError

__all__ = ["CacheOptions", "FeatureCache", "entry_bytes", "fingerprint"]
PREPROCESSING_VERSION: Final = 2
"""Raised by hand whenever decoding, face finding or windowing gives other numbers."""
VISION_KEYS: Final = ("vision_last", "vision_levels", "face_vectors")
SPEECH_KEYS: Final = ("speech_last", "speech_levels")
_SECTIONS: Final = {
    "vision": ("encoder", "last", "taps", "frame_tokens", "fit", "image_mean", "image_std", "num_frames"),
    "speech": (
        "encoder",
        "last_states",
        "taps",
        "grid",
        "normalise",
        "remove_mean",
        "pooling",
        "num_windows",
        "window_s",
    ),
    "face": ("kind", "encoder", "fuse_size", "raw_stages", "vector_size", "crop", "normalise", "image_size"),
}
_LATER: Final[dict[str, dict[str, Any]]] = {
    "vision": {"frame_sampling": "middle"},
    "face": {"vector_columns": ["landmarks", "au_intensity", "au_presence"]},
}
"""Fields that came later, with their defaults."""


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
        # Named only where they are not the default: caches of versions without these fields stay valid.
        described[branch] |= {k: section[k] for k, usual in _LATER.get(branch, {}).items() if section[k] != usual}
        for name, tensor in sorted(encoder.state_dict().items()):
            weights.update(name.encode())
            weights.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    described["extractor"] = processor.feature_extractor.to_dict()
    text = json.dumps(described, sort_keys=True, default=str) + weights.hexdigest()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def entry_bytes(config: NanoEmoXConfig, dtype: torch.dtype) -> int:
    """Return the bytes of a talking clip's features: ``1 + E`` levels of each picture and window, and the faces."""
    sections: tuple[Any, Any, Any] = (config.vision, config.speech, config.face)
    vision, speech, face = sections
    numbers = {
        "vision": vision.num_frames * vision.tokens_per_frame * (1 + len(vision.taps)) * vision.feature_size,
        "speech": speech.num_windows * (1 + len(speech.taps)) * speech.feature_size,
        "face": vision.num_frames * face.feature_size,
    }
    return sum(count for branch, count in numbers.items() if branch in config.branches) * dtype.itemsize


@dataclass(slots=True)
class FeatureCache:
    """Features of media files, by content.

    Attributes:
        folder: Where the shards lie.
        root: What media paths are relative to.
        shards: The shards themselves.
        vectors: Whether the model reads face vectors that others computed.
        keys: Path -> content key, for files that were asked for and could be opened.
        bad: Name of a source -> why it cannot be used.
        filling: What it took to have them all.
    """

    folder: Path
    root: Path
    shards: Shards
    vectors: bool = False
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
        """Open the cache of these encoders and add what the samples' files lack in it.

        Raises:
            RecipeError: The model normalises voices over the batch, so a clip has no features of its own.
            CheckpointError: A shard is damaged; the message says which file to delete.
        """
        options = options or CacheOptions()
        speech: Any = model.config.speech
        if model.speech_encoder is not None and speech.normalise == "batch":
            raise RecipeError(
                "speech.normalise=batch makes features depend on neighbours: use clip or window, or train uncached"
            )
        place = folder / fingerprint(model, processor, options.dtype)
        shards = Shards(place)
        filler = Filler(shards, model, processor, options)
        vectors = bool(model.config.reads_face_vectors)
        wanted = (source for s in samples for source in _sources(s, vectors=vectors))
        filler.run([source for source in dict.fromkeys(wanted) if source.files])
        return cls(place, options.root, shards, vectors, filler.keys, filler.bad, filler.state)

    def media(self, sample: Sample) -> dict[str, Tensor]:
        """Return the features of a sample: picture and face of ``media``, voice of ``audio`` or else of ``media``.

        The face is that of ``face_vectors`` where the model reads such.

        Returns:
            Those of ``vision_last`` [T, D], ``vision_levels`` [E, T, D], ``face_vectors`` [T, C], ``speech_last``
            [W, D], ``speech_levels`` [E, W, D] that there are, in the stored precision.

        Raises:
            MediaError: A file of the sample is bad.
            CheckpointError: Its shard is damaged; the message says which file to delete.
        """
        seen, heard = (self._entry(source) for source in _sources(sample, vectors=self.vectors))
        return {k: seen[k] for k in VISION_KEYS if k in seen} | {k: heard[k] for k in SPEECH_KEYS if k in heard}

    def usable(self, sample: Sample) -> bool:
        """Say whether every file of the sample could be read."""
        return not any(name in self.bad for source in _sources(sample, vectors=self.vectors) for name in source.names)

    def _entry(self, source: Source) -> Mapping[str, Tensor]:
        if not source.files:
            return {}
        for name in source.names:
            if name in self.bad:
                raise MediaError(f"{name}: {self.bad[name]}")
        return self.shards.read(source.key(self.keys))


def _sources(sample: Sample, *, vectors: bool) -> tuple[Source, Source]:
    """Return what picture and face are read from, and what the voice is."""
    seen = Source(sample.media, sample.face_vectors if vectors else None)
    return seen, Source(sample.audio) if sample.audio else seen
