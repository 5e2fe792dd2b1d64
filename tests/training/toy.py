"""A tiny data root: noise images, hums, sentences, and a manifest of all tasks."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from nanoemox.data.manifest import Sample, write_manifest
from tests.tiny import save_tiny, tiny_config

CANDIDATES = ["happy", "sad", "angry"]


def write_wav(path: Path, pitch_hz: float, seconds: float = 1.0) -> None:
    t = np.arange(int(16_000 * seconds)) / 16_000
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((8000 * np.sin(2 * np.pi * pitch_hz * t)).astype("<i2").tobytes())


def toy_samples(count: int = 6) -> list[Sample]:
    rows = []
    for i in range(count):
        label = CANDIDATES[i % 3]
        split = "validation" if i >= count - 2 else "train"
        base = {"corpus": "composed", "split": split, "media": f"p{i}.png", "audio": f"v{i}.wav", "subtitle": "Hm."}
        closed = {"label": label, "candidates": CANDIDATES}
        parts = {"speech": "Loud.", "face": "Smiles.", "text": "Plain."}
        rows += [
            {**base, "id": f"c{i}", "task": "mer", "labels": closed},
            {**base, "id": f"c{i}", "task": "eri", "labels": {"text": "T.", "parts": parts, "conclusion": "So."}},
            {"corpus": "said", "split": split, "id": f"t{i}", "task": "mir", "labels": closed, "subtitle": f"word {i}"},
            {
                "corpus": "said", "split": split, "id": f"t{i}", "task": "erg", "subtitle": f"I failed {i} times",
                "labels": {
                    "think": {"scenario": "s", "emotion": "sad", "cause": "c", "goal": "g"},
                    "reply": "Oh no.",
                },
            },
        ]  # fmt: skip
    return [Sample.model_validate(r) for r in rows]


def toy_root(folder: Path, count: int = 6) -> Path:
    rng = np.random.default_rng(0)
    samples = toy_samples(count)
    for i in range(count):
        cv2.imwrite(str(folder / f"p{i}.png"), rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        write_wav(folder / f"v{i}.wav", 100 + 40 * i)
    for corpus in ("composed", "said"):
        write_manifest([s for s in samples if s.corpus == corpus], folder / "manifests" / f"{corpus}.jsonl")
    return folder


def steady_root(folder: Path) -> dict[str, Any]:
    """Make data and a base model without dropout; return the fields of ``RECIPE`` without it either."""
    (folder / "data").mkdir()
    toy_root(folder / "data")
    calm = {branch: {"dropout": 0.0} for branch in ("vision", "speech", "face", "fusion")}
    save_tiny(folder / "base", tiny_config(**calm))
    fields: dict[str, Any] = yaml.safe_load(RECIPE)
    fields["phases"]["second"]["lora"]["dropout"] = 0.0
    return fields


RECIPE = """
name: toy
seed: 3
log_every: 1
validation_samples: 4
phases:
  first:
    trainable: [speech_adapter, vision_adapter, fusion]
    mixture: {composed/mer: 3, composed/eri: 1}
    modality_dropout: {vision: 0.3, speech: 0.3, text: 0.5}
    lr: 1.0e-3
    steps: 2
    micro_batch: 2
  second:
    from: [first]
    trainable: [speech_adapter, fusion, lora]
    lora: {r: 4, alpha: 8, dropout: 0.5}
    mixture: {composed/mer: 1, said/mir: 1, said/erg: 1}
    modality_dropout: {speech: 0.3, text: 0.5}
    think_share: 0.5
    lr: 1.0e-3
    steps: 4
    micro_batch: 2
    accumulation: 2
    save_every: 2
"""


def toy_place(folder: Path) -> Path:
    """Write data root, base model and recipe for a training run into a folder."""
    (folder / "data").mkdir()
    toy_root(folder / "data")
    save_tiny(folder / "base")
    (folder / "toy.yaml").write_text(RECIPE)
    return folder
