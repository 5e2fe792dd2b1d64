"""Augmented copies of the training voices: other rooms, microphones and telephone lines.

    python -m tools.small.voices --data-root ROOT --copies 1

ROOT is what ``tools.small.data`` wrote. Each training utterance of RAVDESS gets copies under ``ROOT/augmented`` and in
the manifests of ``ravdess`` and ``composed``: cut closer to the speech, faster or slower (and so higher or lower), in a
room, with noise, quieter, over a line of 8 kHz, through a codec of 8 bits. Validation stays as it is.

The adapter of the voice is first aligned with the first half of the actors alone. Phase 3 then hears the other half
(manifest ``voices``, and the training part of ``composed``), so that the language model learns how far such tokens can
be trusted: of actors that the adapter knows it is right 98 times in 100, of others 70.
"""

from __future__ import annotations

import argparse
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve, resample_poly

from nanoemox.data.manifest import Sample, read_manifest, write_manifest
from nanoemox.data.mixture import seeded
from nanoemox.types import SAMPLE_RATE_HZ
from tools.mini.data import read_waveform

FOLDER = Path("augmented/ravdess")
QUIET_DB = 35
FIRST_HALF = tuple(f"actor-{n:02d}" for n in range(1, 9))
"""Training actors for aligning the adapter."""


def trim(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Trim silence, leaving up to 0.4 s around what is louder than the background."""
    frame = SAMPLE_RATE_HZ // 50
    levels = np.array([np.mean(sound[i : i + frame] ** 2) for i in range(0, len(sound), frame)])
    loud = np.flatnonzero(10 * np.log10(levels + 1e-10) > 10 * np.log10(levels.max() + 1e-10) - QUIET_DB)
    before, after = rng.uniform(0, 0.4, 2) * SAMPLE_RATE_HZ
    return sound[max(0, int(loud[0] * frame - before)) : int((loud[-1] + 1) * frame + after)]


def rerecorded(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return float32[S'] in -1..1, a simulated other recording of the same voice."""
    sound = trim(sound, rng)
    if rng.random() < 0.7:
        sound = resample_poly(sound, 100, round(100 * rng.uniform(0.87, 1.15)))
    if rng.random() < 0.5:
        length = int(rng.uniform(0.1, 0.5) * SAMPLE_RATE_HZ)
        room = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
        room[0] = rng.uniform(4, 15)
        sound = fftconvolve(sound, room / np.abs(room[0]))[: len(sound)]
    if rng.random() < 0.4:
        sound = resample_poly(resample_poly(sound, 1, 2), 2, 1)[: len(sound)]
    if rng.random() < 0.7:
        noise = rng.standard_normal(len(sound))
        if rng.random() < 0.6:  # darker than white, as most rooms are
            spectrum = np.fft.rfft(noise)
            noise = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(len(spectrum))), len(sound))
        noise *= np.sqrt(np.mean(sound**2) / np.mean(noise**2)) * 10 ** (-rng.uniform(5, 28) / 20)
        sound = sound + noise
    sound = sound / np.abs(sound).max() * 10 ** (-rng.uniform(0, 20) / 20)
    if rng.random() < 0.3:
        packed = np.sign(sound) * np.log1p(255 * np.abs(sound)) / np.log(256)
        packed = np.round(packed * 127) / 127
        sound = np.sign(packed) * (256 ** np.abs(packed) - 1) / 255
    return sound.astype(np.float32)


def write_wave(path: Path, sound: np.ndarray) -> None:
    """Write 16 bits a sample, mono."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def with_copies(samples: list[Sample], copies: int, field: str) -> Iterator[Sample]:
    """Yield each sample, followed by its copies if it is a training sample with a voice."""
    for sample in samples:
        yield sample
        source = getattr(sample, field)
        if sample.split == "train" and source is not None and "ravdess_speech" in source:
            for number in range(copies):
                copy = str(FOLDER / f"{Path(source).stem}~{number}.wav")
                yield sample.model_copy(update={"id": f"{sample.id}~{number}", field: copy})


def main() -> None:
    """Write copies and manifests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=1)
    args = parser.parse_args()
    manifests = args.data_root / "manifests"
    read = {name: read_manifest(manifests / f"{name}.jsonl") for name in ("ravdess", "composed")}
    if any("~" in s.id for s in read["ravdess"]):
        raise SystemExit(f"{manifests} holds copies already: write it anew by tools.small.data")
    voices = {s.media for s in read["ravdess"] if s.split == "train" and s.media and "ravdess_speech" in s.media}
    for path in sorted(voices):
        sound = read_waveform(args.data_root / path)
        for number in range(args.copies):
            copy = args.data_root / FOLDER / f"{Path(path).stem}~{number}.wav"
            if not copy.is_file():
                write_wave(copy, rerecorded(sound, seeded(7, "voice", copy.name)))
    heard = list(with_copies(read["ravdess"], args.copies, "media"))
    write_manifest(heard, manifests / "ravdess.jsonl")
    unknown = [s.model_copy(update={"corpus": "voices"}) for s in heard if s.speaker not in FIRST_HALF]
    write_manifest(unknown, manifests / "voices.jsonl")
    composed = [s for s in read["composed"] if s.split != "train" or s.speaker not in FIRST_HALF]
    write_manifest(with_copies(composed, args.copies, "audio"), manifests / "composed.jsonl")
    print(f"{len(voices)} voices, {args.copies} copies each")


if __name__ == "__main__":
    main()
