"""Speed of filling the cache by ``nanoemox features``, by number of decoding processes, and one clip at a time.

    python benchmarks/features.py [--model DIR] [--clips 24] [--workers 0,1,2] [--json FILE]

The clips are copies of one file that differ in a trailing byte, so each is decoded and encoded. The alternative
decodes and encodes one clip after another. The bound is the slower of decoding on all cores and encoding a decoded
batch.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

import torch

from measure import SAMPLE, engine, machine, options, report, seconds_of
from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.data.manifest import ClosedLabels, Sample
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import LoadOptions

BATCH = 16


def decode(loaded: Engine, path: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = loaded.processor.media(loaded.load(path, options=LoadOptions(hear=False)))
    return tensors


@torch.no_grad()
def encode(loaded: Engine, media: dict[str, torch.Tensor]) -> None:
    loaded.model.encode({k: v.to(loaded.model.device) for k, v in media.items()})


def one_by_one(loaded: Engine, paths: list[Path]) -> None:
    for path in paths:
        encode(loaded, {k: v[None] for k, v in decode(loaded, path).items()})


def fill_rate(loaded: Engine, paths: list[Path], workers: int) -> float:
    """Return the clips per second of filling the cache, including the start of its processes."""
    labels = ClosedLabels(label="happy", candidates=("happy", "sad"))
    samples = [Sample(id=p.stem, corpus="bench", split="train", task="mer", labels=labels, media=str(p)) for p in paths]
    with tempfile.TemporaryDirectory() as folder:
        wanted = CacheOptions(dtype=torch.float16, batch_size=BATCH, workers=workers)
        fill = partial(FeatureCache.open_or_build, samples, loaded.model, loaded.processor, Path(folder), wanted)
        return len(paths) / seconds_of(fill)


def main() -> None:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--clip", type=Path, default=SAMPLE)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--workers", default="0,1,2", help="numbers of decoding processes; 0 is two threads")
    parser.set_defaults(dtype="float32")  # as the encoders of nanoemox features compute
    args = parser.parse_args()
    loaded = engine(args)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}{args.clip.suffix}" for i in range(args.clips)]
        for i, path in enumerate(paths):
            path.write_bytes(args.clip.read_bytes() + bytes([i % 256, i // 256]))
        ready = [decode(loaded, path) for path in paths[:BATCH]]
        batch = {k: torch.stack([media[k] for media in ready]) for k in ready[0]}
        encode(loaded, batch)
        alone = args.clips / seconds_of(lambda: one_by_one(loaded, paths))
        encoders = len(ready) / seconds_of(lambda: encode(loaded, batch))
        reader = args.clips / seconds_of(lambda: [decode(loaded, path) for path in paths])
        floor = min(encoders, reader * len(os.sched_getaffinity(0)))
        rows: dict[str, list[float | None]] = {
            f"clips/s, {w} worker(s)": [fill_rate(loaded, paths, int(w)), alone, floor] for w in args.workers.split(",")
        }
    report(
        machine(loaded), ["ours", "one by one", "bound"], rows, args.json,
        encoders_clips_s=encoders, decoding_clips_s_a_core=reader,
        bound_by="encoders" if floor == encoders else "decoding",
    )  # fmt: skip


if __name__ == "__main__":
    main()
