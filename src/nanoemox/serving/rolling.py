"""Rolling windows over a live stream of audio and images.

All times are stream times: seconds of received audio, or without audio the number of images over their rate. No clock
is read, so the same messages give the same measurements at any speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nanoemox.serving.pictures import jpeg_pixels, jpeg_size, letterbox, shrink
from nanoemox.serving.voice import SpeechDetector
from nanoemox.tasks import TASKS
from nanoemox.tasks.mer import MER
from nanoemox.tasks.msa import MSA
from nanoemox.types import SAMPLE_RATE_HZ, Clip, MediaError

MAX_AUDIO_BYTES: Final = SAMPLE_RATE_HZ * 2 * 2
"""Two seconds in one message; about 100 ms is usual."""
MIN_VOICE_S: Final = 0.3
"""Least speech in a window; below it the window has no audio."""
MIN_UTTERANCE_S: Final = 0.5
MAX_WAITING: Final = 4
"""Limit of waiting windows of one stream."""

Trigger = Literal["interval", "speech_ended"]


class LiveConfig(BaseModel):
    """What a session measures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interval_s: float = Field(default=2.0, ge=0.5, le=30)
    window_s: float = Field(default=6.0, ge=1, le=30)
    tasks: tuple[str, ...] = Field(default=(MER.key, MSA.key), min_length=1)
    labels: dict[str, list[str]] = Field(default_factory=dict)
    faces: Literal["largest", "all"] = "largest"
    half_life_s: float = Field(default=4.0, ge=0, le=600)
    reply: bool = False
    hear: bool = True
    fps: float = Field(default=2.0, gt=0, le=30)
    min_silence_s: float = Field(default=0.5, ge=0.1, le=5)

    @field_validator("tasks")
    @classmethod
    def _closed(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        closed = [key for key, task in TASKS.items() if task.closed]
        if any(task not in closed for task in tasks):
            raise ValueError(f"a stream measures {', '.join(closed)}; for replies set reply: true")
        return tuple(dict.fromkeys(tasks))

    @model_validator(mode="after")
    def _fits(self) -> LiveConfig:
        if self.window_s < self.interval_s:
            raise ValueError("window_s must be at least interval_s, or parts of the stream are skipped")
        return self


@dataclass(frozen=True, slots=True)
class Speech:
    """Start or end of speech."""

    kind: Literal["start", "end"]
    at_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """A window of the stream to measure.

    Attributes:
        trigger: What triggered it.
        start_s: Start in the stream, seconds.
        end_s: End in the stream, seconds.
        clip: Its audio (None without speech) and images.
    """

    trigger: Trigger
    start_s: float
    end_s: float
    clip: Clip


class Rolling:
    """The last seconds of a stream.

    Args:
        config: What is measured, and how often.
        num_frames: T, images per window.
        max_pixels: Largest image.
    """

    def __init__(self, config: LiveConfig, num_frames: int, max_pixels: int) -> None:
        self.config, self.num_frames, self.max_pixels = config, num_frames, max_pixels
        self._detector = SpeechDetector(config.min_silence_s)
        self._sound = np.zeros(0, np.float32)
        self._samples = self._pictures = 0
        self._frames: deque[tuple[float, npt.NDArray[np.uint8]]] = deque()
        self._spoken: deque[tuple[float, float]] = deque()
        self._speaking_s: float | None = None
        self._next_s = config.interval_s

    @property
    def clock_s(self) -> float:
        """Seconds of the stream so far."""
        return max(self._samples / SAMPLE_RATE_HZ, self._pictures / self.config.fps if not self._samples else 0.0)

    def hear(self, data: bytes) -> list[Speech | Due]:
        """Add audio, s16le at 16 kHz, mono.

        Raises:
            MediaError: An odd number of bytes, or too many at once.
        """
        if len(data) % 2 or len(data) > MAX_AUDIO_BYTES:
            raise MediaError(f"{len(data)} bytes of audio: send s16le, at most {MAX_AUDIO_BYTES} bytes in a message")
        sound = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
        self._samples += len(sound)
        keep = round(2 * self.config.window_s * SAMPLE_RATE_HZ)
        self._sound = np.concatenate([self._sound, sound])[-keep:]
        out: list[Speech | Due] = []
        for kind, at_s in self._detector.hear(sound):
            out += self._turned(kind, at_s)
        return out + self._due()

    def see(self, data: bytes) -> list[Speech | Due]:
        """Add a JPEG; surplus images are not decoded.

        Raises:
            MediaError: It is no JPEG, or too large.
        """
        return self._seen(*jpeg_size(data), lambda: jpeg_pixels(data))

    def show(self, frame: npt.NDArray[np.uint8]) -> list[Speech | Due]:
        """Add a decoded image, uint8[H, W, 3], RGB; otherwise like :meth:`see`."""
        return self._seen(frame.shape[1], frame.shape[0], lambda: frame)

    def _seen(self, width: int, height: int, pixels: Callable[[], npt.NDArray[np.uint8]]) -> list[Speech | Due]:
        if width * height > self.max_pixels:
            raise MediaError(f"an image of {width}x{height} pixels, limit {self.max_pixels}: scale it down")
        self._pictures += 1
        at_s = self.clock_s
        # One image per time slot of the stream, so that overlapping windows share images.
        slot_s = self.config.window_s / self.num_frames
        if not self._frames or at_s // slot_s > self._frames[-1][0] // slot_s:
            self._frames.append((at_s, shrink(pixels())))
        while self._frames and self._frames[0][0] < at_s - 2 * self.config.window_s:
            self._frames.popleft()
        return self._due()

    def finish(self) -> list[Speech | Due]:
        """End the stream: return the end of an utterance that still runs, as if silence followed it."""
        return [] if self._speaking_s is None else self._turned("end", self.clock_s)

    def utterance(self) -> Due:
        """Return the current utterance up to now, else the last one, else the last window."""
        now = self.clock_s
        spoken = self._spoken[-1] if self._spoken else (0.0, now)
        start_s, end_s = spoken if self._speaking_s is None else (self._speaking_s, now)
        return self._stretch("speech_ended", max(start_s, end_s - self.config.window_s), end_s)

    def _turned(self, kind: str, at_s: float) -> list[Speech | Due]:
        if kind == "start":
            self._speaking_s = at_s
            return [Speech("start", at_s)]
        start_s, self._speaking_s = self._speaking_s or 0.0, None
        self._spoken.append((start_s, at_s))
        while self._spoken[0][1] < self.clock_s - 4 * self.config.window_s:
            self._spoken.popleft()
        start_s = max(start_s, at_s - self.config.window_s)
        ended: list[Speech | Due] = [Speech("end", at_s)]
        return ended + ([self._stretch("speech_ended", start_s, at_s)] if at_s - start_s >= MIN_UTTERANCE_S else [])

    def _due(self) -> list[Speech | Due]:
        """Return the window that is due, if any; after a long message only the last."""
        now = self.clock_s
        if now < self._next_s:
            return []
        self._next_s += self.config.interval_s * (1 + int((now - self._next_s) / self.config.interval_s))
        return [self._stretch("interval", max(0.0, now - self.config.window_s), now)]

    def _stretch(self, trigger: Trigger, start_s: float, end_s: float) -> Due:
        first = self._samples - len(self._sound)
        begin, end = (max(0, round(at_s * SAMPLE_RATE_HZ) - first) for at_s in (start_s, end_s))
        sound = self._sound[begin:end]
        picked = [(t - start_s, frame) for t, frame in self._frames if start_s <= t <= end_s][-self.num_frames :]
        frames = times = None
        if picked:
            size = picked[-1][1].shape[:2]
            frames = np.concatenate([letterbox(frame[None], size) for _, frame in picked])
            times = np.array([t for t, _ in picked])
        clip = Clip(
            "live",
            frames,
            times,
            sound.copy() if len(sound) and self._voiced_s(start_s, end_s) >= MIN_VOICE_S else None,
            end_s - start_s,
            self.config.fps,
        )
        return Due(trigger, round(start_s, 3), round(end_s, 3), clip)

    def _voiced_s(self, start_s: float, end_s: float) -> float:
        open_ones = [] if self._speaking_s is None else [(self._speaking_s, end_s)]
        return sum(max(0.0, min(b, end_s) - max(a, start_s)) for a, b in (*self._spoken, *open_ones))


class Backlog:
    """Windows waiting for the model; if it cannot keep up, newer ones replace older ones.

    Attributes:
        dropped: Number of windows discarded so far.
    """

    def __init__(self) -> None:
        self._waiting: deque[Due] = deque()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, due: Due) -> None:
        """Add a window; of those triggered by the interval, only the newest is kept."""
        if due.trigger == "interval":
            self._keep(lambda old: old.trigger != "interval")
        self._waiting.append(due)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def take(self) -> Due:
        """Remove and return the oldest.

        Raises:
            IndexError: There is none.
        """
        return self._waiting.popleft()

    def clear(self) -> None:
        """Discard all."""
        self._keep(lambda old: False)

    def _keep(self, wanted: Callable[[Due], bool]) -> None:
        kept = deque(due for due in self._waiting if wanted(due))
        self.dropped += len(self._waiting) - len(kept)
        self._waiting = kept
