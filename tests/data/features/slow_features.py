"""Fill a cache slowly, one shard per two clips, for the SIGKILL test."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.data.manifest import read_manifest
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor


def main() -> None:
    root, model, out = map(Path, sys.argv[1:])
    options = CacheOptions(
        root=root, batch_size=2, shard_size=2, workers=1, progress=lambda _: time.sleep(0.05), dtype=torch.float32
    )
    loaded = NanoEmoXForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    samples = read_manifest(root / "manifests" / "composed.jsonl")
    FeatureCache.open_or_build(samples, loaded, NanoEmoXProcessor.from_pretrained(model), out, options)


if __name__ == "__main__":
    main()
