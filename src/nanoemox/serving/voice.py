"""Voice activity detection in a stream, by silero-vad."""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from nanoemox.types import SAMPLE_RATE_HZ

STEP: Final = 512
"""Samples per step of the detector, 32 ms."""


class SpeechDetector:
    """Finds starts and ends of speech in streamed audio.

    Args:
        min_silence_s: Pause that ends an utterance.
    """

    def __init__(self, min_silence_s: float) -> None:
        threads = torch.get_num_threads()
        from silero_vad import VADIterator, load_silero_vad

        torch.set_num_threads(threads)  # importing silero_vad sets one thread for the whole process
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)  # of torch.jit, its file format
            model = load_silero_vad()
        self._iterator: Any = VADIterator(
            model,
            sampling_rate=SAMPLE_RATE_HZ,
            min_silence_duration_ms=round(1000 * min_silence_s),
        )
        self._rest = np.zeros(0, np.float32)

    def hear(self, sound: npt.NDArray[np.float32]) -> list[tuple[str, float]]:
        """Add float32[S]; return the events in it: ``start`` or ``end``, and seconds of the stream."""
        self._rest = np.concatenate([self._rest, sound])
        found = []
        while len(self._rest) >= STEP:
            step, self._rest = self._rest[:STEP], self._rest[STEP:]
            for kind, sample in (self._iterator(torch.from_numpy(step.copy())) or {}).items():
                found.append((kind, max(0, int(sample)) / SAMPLE_RATE_HZ))
        return found
