"""Measurements of one speaker during a conversation; the part that all framework adapters share.

Audio, images and words are queued from the event loop without blocking it. A worker thread detects speech, runs the
model and posts measurements back to the loop. The stream is kept for at most two rolling windows and is never logged.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from nanoemox.faces.detectors import DetectionCache
from nanoemox.inference.engine import Engine
from nanoemox.serving.measuring import Smoother, clips_of, measurement_work, result_message
from nanoemox.serving.rolling import MAX_AUDIO_BYTES, Backlog, Due, LiveConfig, Rolling, Speech, Trigger
from nanoemox.tasks import TASKS

_log = logging.getLogger("nanoemox.serving")

DEFAULTS: Final = LiveConfig(hear=False, min_silence_s=0.3)
"""Default settings; the words come from the framework's STT."""
WAIT_S: Final = 0.3
"""Default time that the end of a turn waits for its measurement."""
END_WAIT_S: Final = 2.0
"""Time that the end of a conversation waits for the last measurement."""
NOT_ENOUGH: Final = "There is not enough evidence to say how the speaker feels."
CAUTION: Final = "This is a model's guess: let it guide your tone, and do not tell the speaker how they feel."
MAX_PIXELS: Final = 2**24
_MAX_INBOX: Final = 3_000  # one minute of 20 ms chunks
_RUNNER_UP: Final = 0.2  # probability from which the second label is mentioned


class Measured(BaseModel):
    """Measurement of one task.

    Attributes:
        label: The most probable label.
        smoothed: Label -> probability, averaged over recent measurements; for an utterance, equal to ``raw``.
        raw: Label -> probability of this measurement alone.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    smoothed: dict[str, float]
    raw: dict[str, float]


class SpeakerContext(BaseModel):
    """A measurement of the speaker; implements the ``SpeakerContext`` protocol of LiveKit Agents.

    Attributes:
        state: ``not_enough_evidence`` if there was no voice, face or text, or nothing has been measured yet.
        trigger: ``interval``, or ``speech_ended`` for an utterance; None if nothing has been measured yet.
        start_s: Start of the measured window, in seconds of the stream.
        end_s: Its end.
        modalities: The modalities that the model used.
        tasks: Task key -> measurement.
    """

    model_config = ConfigDict(frozen=True)

    state: Literal["measured", "not_enough_evidence"] = "not_enough_evidence"
    trigger: Trigger | None = None
    start_s: float = 0.0
    end_s: float = 0.0
    modalities: tuple[str, ...] = ()
    tasks: dict[str, Measured] = Field(default_factory=dict)

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> SpeakerContext:
        """Convert a ``measurement.result`` of ``/v1/live``; of several faces, the largest is used."""
        seen = {key: message[key] for key in ("state", "trigger", "start_s", "end_s")}
        first: Mapping[str, Any] = next(iter(message["people"]), {"modalities": (), "tasks": {}})
        return cls.model_validate(seen | {key: first[key] for key in ("modalities", "tasks")})

    def to_instructions(self) -> str:
        """Return text for a prompt: "The speaker sounds sad (0.71); sentiment: negative (0.80)."."""
        if self.state != "measured":
            return NOT_ENOUGH
        (key, first), *others = self.tasks.items()
        text = f"{first.label} ({first.smoothed[first.label]:.2f})"
        rest = [(p, label) for label, p in first.smoothed.items() if label != first.label]
        if rest and max(rest)[0] >= _RUNNER_UP:
            text += f", maybe {max(rest)[1]} ({max(rest)[0]:.2f})"
        head = self._verb() if TASKS[key].level == 1 else f"may have this {TASKS[key].answer_name}:"
        tail = [f"{TASKS[k].answer_name}: {m.label} ({m.smoothed[m.label]:.2f})" for k, m in others]
        return f"{'; '.join([f'The speaker {head} {text}', *tail])}. {CAUTION}"

    def _verb(self) -> str:
        seen = {"vision", "face"} & set(self.modalities)
        if "speech" in self.modalities:
            return "looks and sounds" if seen else "sounds"
        return "looks" if seen else "seems"


class Speaker:
    """Measures one person's stream. Create and call it on a running event loop.

    Args:
        engine: The engine; may be shared.
        config: What is measured, and how often.

    Attributes:
        context: The latest measurement.
    """

    def __init__(self, engine: Engine, config: LiveConfig = DEFAULTS) -> None:
        self._engine, self._config = engine, config
        self._loop = asyncio.get_running_loop()
        self.context = SpeakerContext()
        self._utterance: SpeakerContext | None = None
        self._measured: asyncio.Queue[SpeakerContext | None] = asyncio.Queue()
        self._inbox: deque[Callable[[Rolling], Sequence[Speech | Due]]] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._backlog, self._words, self._clock_s = Backlog(), list[str](), 0.0
        self._smoother, self._cache = Smoother(config.half_life_s), DetectionCache()
        self._measure = measurement_work(engine, config)
        self._thread = threading.Thread(target=self._run, name="nanoemox-speaker", daemon=True)
        self._thread.start()

    # ---------------------------------------------------------------- called on the event loop

    def hear(self, sound: bytes) -> None:
        """Add audio of any length: s16le, 16 kHz, mono."""
        for at in range(0, len(sound), MAX_AUDIO_BYTES):
            piece = sound[at : at + MAX_AUDIO_BYTES]
            self._put(lambda rolling, piece=piece: rolling.hear(piece))  # type: ignore[misc]

    def show(self, frame: npt.NDArray[np.uint8]) -> None:
        """Add an image, uint8[H, W, 3], RGB."""
        self._put(lambda rolling: rolling.show(frame))

    def said(self, words: str) -> None:
        """Add the transcript of the utterance, which is then measured again with its words."""
        if words.strip():
            self._put(lambda rolling: self._with_words(rolling, words.strip()))

    def interrupt(self) -> None:
        """Discard pending measurements: they belong to a turn that is over."""
        self._put(self._forget)

    async def turn(self, wait_s: float = WAIT_S) -> SpeakerContext:
        """Return the measurement of the turn that has just ended: its last utterance, else the latest one.

        Args:
            wait_s: Longest time to wait for pending measurements.

        Returns:
            A measurement no older than one window; ``not_enough_evidence`` if there is none.
        """
        await self.settle(wait_s)
        known = self._utterance or self.context
        return known if self._clock_s - known.end_s <= self._config.window_s else SpeakerContext()

    @property
    def alive(self) -> bool:
        """Whether the worker thread runs."""
        return self._thread.is_alive()

    @property
    def pending(self) -> int:
        """Number of inputs that have not been processed."""
        return len(self._inbox)

    async def settle(self, wait_s: float) -> bool:
        """Wait at most ``wait_s`` until all input has been processed; return whether it has."""
        waiter = self._loop.create_future()
        with self._changed:
            if self._closed:
                return True
            self._waiters.append(waiter)
            self._changed.notify()
        with suppress(TimeoutError):
            await asyncio.wait_for(waiter, wait_s)
            return True
        return False

    async def readings(self) -> AsyncIterator[SpeakerContext]:
        """Yield measurements until the speaker is closed; for a single consumer."""
        while (context := await self._measured.get()) is not None:
            yield context

    def close(self) -> None:
        """Discard the stream; a measurement in progress is not reported."""
        with self._changed:
            self._closed = True
            self._inbox.clear()
            self._changed.notify()

    async def aclose(self) -> None:
        """Close and wait until the worker thread has ended."""
        self.close()
        await asyncio.to_thread(self._thread.join)

    def _put(self, action: Callable[[Rolling], Sequence[Speech | Due]]) -> None:
        with self._changed:
            if not self._closed and len(self._inbox) < _MAX_INBOX:
                self._inbox.append(action)
                self._changed.notify()

    def _began(self) -> None:
        self._utterance = None

    def _tell(self, context: SpeakerContext) -> None:
        self.context = context
        if context.trigger == "speech_ended":
            self._utterance = context
        self._measured.put_nowait(context)

    # ---------------------------------------------------------------- on the worker thread

    def _run(self) -> None:
        try:
            rolling = Rolling(self._config, self._engine.processor.config.vision.num_frames, MAX_PIXELS)
            while self._has_work():
                try:
                    self._work(rolling)
                except Exception as error:  # one failed measurement does not end the stream
                    _log.warning("a measurement failed: %s", type(error).__name__)  # the message may quote the stream
        except Exception as error:
            _log.error("the speaker cannot be measured: %s", type(error).__name__)
        finally:
            self.close()
            self._backlog.clear()
            with self._changed:
                self._release()
            self._on_loop(self._measured.put_nowait, None)

    def _has_work(self) -> bool:
        """Wait for input or pending windows and release waiters when idle; return False once closed."""
        with self._changed:
            while not (self._inbox or self._backlog or self._closed):
                self._release()
                self._changed.wait()
            return not self._closed

    def _release(self) -> None:
        for waiter in self._waiters:
            self._on_loop(_settle, waiter)
        self._waiters.clear()

    def _work(self, rolling: Rolling) -> None:
        """Process one input; without input, measure the oldest pending window."""
        if not self._inbox:
            self._read(self._backlog.take())
            return
        for event in self._inbox.popleft()(rolling):
            if isinstance(event, Due):
                self._backlog.add(self._worded(event))
            elif event.kind == "start":
                self._words.clear()
                self._on_loop(self._began)
        self._clock_s = rolling.clock_s

    def _with_words(self, rolling: Rolling, words: str) -> list[Speech | Due]:
        self._words.append(words)
        return [rolling.utterance()]

    def _worded(self, due: Due) -> Due:
        """Add the words transcribed so far to the measurement of an utterance."""
        if due.trigger != "speech_ended" or not self._words:
            return due
        return replace(due, clip=replace(due.clip, subtitle=" ".join(self._words)))

    def _forget(self, rolling: Rolling) -> list[Speech | Due]:
        self._backlog.clear()
        self._words.clear()
        return []

    def _read(self, due: Due) -> None:
        people = [self._measure.alone(clip) for clip in clips_of(self._engine, due, self._config, self._cache)[:1]]
        context = SpeakerContext.of(result_message(due, people, self._smoother))
        if not self._closed:
            self._on_loop(self._tell, context)

    def _on_loop(self, action: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(action, *arguments)


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def mono(sound: bytes, channels: int) -> bytes:
    """Mix interleaved s16le audio down to one channel."""
    if channels == 1:
        return sound
    mixed = np.frombuffer(sound, "<i2").reshape(-1, channels).mean(1)
    return bytes(mixed.round().astype("<i2").tobytes())
