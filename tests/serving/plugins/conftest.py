"""Half a second of silence, the speech of the sample clip, and silence again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nanoemox.inference.engine import Engine
from nanoemox.media.load import load_clip
from tests.tiny import tiny_model, tiny_processor

SAMPLE = Path(__file__).parents[3] / "src/nanoemox/assets/sample.mp4"
RATE_HZ = 16_000


@pytest.fixture(scope="session")
def reader() -> Engine:
    engine = Engine(tiny_model(), tiny_processor(), "tiny")
    engine.processor.config.trained_branches = ["vision", "speech", "face", "fusion"]
    return engine


@pytest.fixture(scope="session")
def spoken() -> np.ndarray:
    """int16[S], 16 kHz."""
    clip = load_clip(SAMPLE)
    assert clip.waveform is not None
    quiet = np.zeros(RATE_HZ, np.float32)
    sound = np.concatenate([quiet[: RATE_HZ // 2], clip.waveform, quiet])
    return (np.clip(sound, -1, 1) * 32767).astype("<i2")


def chunks(sound: np.ndarray, rate_hz: int = RATE_HZ, seconds: float = 0.1) -> list[bytes]:
    step = round(rate_hz * seconds)
    return [sound[i : i + step].tobytes() for i in range(0, len(sound), step)]


def at_rate(sound: np.ndarray, times: int, channels: int) -> np.ndarray:
    """The same sound at a multiple of the rate, int16[S, channels], by repeating samples."""
    return np.repeat(np.repeat(sound, times)[:, None], channels, axis=1)
