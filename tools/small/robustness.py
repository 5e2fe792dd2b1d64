"""Accuracy of a model on degraded recordings and with missing modalities.

    python -m tools.small.robustness --data-root ROOT --out robustness.json --limit 120 small mini

Voices are those of RAVDESS actors 17-20, which no training heard; photographs those of people held out; composed clips
join the two with the actor's own plain sentence. Intervals resample speakers or people.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from nanoemox.data.manifest import Sample
from nanoemox.inference.engine import Engine
from nanoemox.types import Clip
from tools.small.evaluate import draw, group_of, held_out
from tools.small.scores import clustered

Change = Callable[[Clip], Clip]
HALF = 2
"""Downscaling factor of frames."""


def with_noise(snr_db: float) -> Change:
    """Add white noise at a signal-to-noise ratio."""

    def change(clip: Clip) -> Clip:
        sound = np.asarray(clip.waveform, np.float64)
        noise = np.random.default_rng(len(sound)).standard_normal(len(sound))
        noise *= np.sqrt(np.mean(sound**2) / np.mean(noise**2) / 10 ** (snr_db / 10))
        return replace(clip, waveform=np.clip(sound + noise, -1, 1).astype(np.float32))

    return change


def telephone(clip: Clip) -> Clip:
    """Limit the audio to the band of an 8 kHz telephone line."""
    sound = resample_poly(np.asarray(clip.waveform, np.float64), 1, 2)
    return replace(clip, waveform=np.clip(resample_poly(sound, 2, 1), -1, 1).astype(np.float32))


def without(*fields: str) -> Change:
    """Remove fields of the clip."""
    return lambda clip: replace(clip, **dict.fromkeys(fields))


CONDITIONS: dict[str, dict[str, Change]] = {
    "ravdess": {
        "voice alone": without("subtitle"), "noise at 10 dB": with_noise(10), "noise at 0 dB": with_noise(0),
        "8 kHz": telephone,
    },
    "facial_expressions": {"photograph": without(), "half the size": without()},
    "composed": {
        "voice, photograph, words": without(), "no voice": without("waveform"),
        "no photograph": without("frames", "frame_times_s", "face"), "no words": without("subtitle"),
    },
}  # fmt: skip


def read(engine: Engine, sample: Sample, data_root: Path, *, smaller: bool) -> Clip:
    """Load a sample's video and audio as one clip; ``smaller`` halves the frames before face detection."""
    clip = Clip(sample.id, subtitle=sample.subtitle)
    for path in (p for p in (sample.media, sample.audio) if p):
        found = engine.load(data_root / path, subtitle="")
        if found.frames is not None:
            if smaller:
                found = replace(found, frames=halve(found.frames), face=None)  # the engine looks for it
            clip = replace(clip, frames=found.frames, frame_times_s=found.frame_times_s, face=found.face)
        if found.waveform is not None:
            clip = replace(clip, waveform=found.waveform, duration_s=found.duration_s)
    return clip


def halve(frames: np.ndarray) -> np.ndarray:
    """Average each two by two pixels: uint8[T, H, W, 3] to uint8[T, H // 2, W // 2, 3]."""
    t, h, w, c = frames.shape
    even = frames[:, : h // HALF * HALF, : w // HALF * HALF].reshape(t, h // HALF, HALF, w // HALF, HALF, c)
    return even.mean((2, 4)).round().astype(np.uint8)


def measure(engine: Engine, samples: Sequence[Sample], clips: Sequence[Clip]) -> dict[str, float]:
    """Return the accuracy with its interval; an empty clip counts as wrong."""
    labels = samples[0].labels.candidates  # type: ignore[union-attr]
    hits = np.zeros(len(samples))
    shown = [i for i, c in enumerate(clips) if c.modalities]
    for i, found in zip(shown, engine.answer_many([clips[i] for i in shown], ("mer",), labels=labels), strict=True):
        hits[i] = found.tasks["mer"].label == samples[i].labels.label  # type: ignore[union-attr]
    return clustered(hits, [group_of(s) for s in samples])


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=10_000, help="at most so many samples of a corpus")
    args = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for model in args.models:
        engine = Engine.from_pretrained(model)
        for corpus, conditions in CONDITIONS.items():
            samples = draw(held_out(args.data_root, corpus, "mer")[0], args.limit)
            clips: dict[bool, list[Clip]] = {}
            for name, change in conditions.items():
                smaller = name == "half the size"
                if smaller not in clips:
                    clips[smaller] = [read(engine, s, args.data_root, smaller=smaller) for s in samples]
                row = measure(engine, samples, [change(c) for c in clips[smaller]])
                found.setdefault(f"{corpus}: {name}", {})[engine.name] = row
                print(engine.name, f"{corpus}: {name}", {k: round(v, 3) for k, v in row.items()}, flush=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
