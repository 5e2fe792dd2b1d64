"""How a speaker seems to feel, read beside a conversation: what the frameworks' adapters share.

Sound, pictures and words go in from an event loop that is never blocked; a thread of its own finds speech, runs the
model and hands readings back to the loop. Nothing of the stream is kept longer than two rolling windows, and nothing of
it is logged.
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

from nanoemox.inference.engine import Engine
from nanoemox.serving.measuring import Smoother, look, measures, result
from nanoemox.serving.rolling import MAX_AUDIO_BYTES, Backlog, Due, LiveConfig, Rolling, Speech, Trigger
from nanoemox.tasks import TASKS

_log = logging.getLogger("nanoemox.serving")

DEFAULTS: Final = LiveConfig(hear=False, min_silence_s=0.3)
"""What is measured unless you say otherwise; the framework's own recogniser gives the words."""
WAIT_S: Final = 0.3
"""How long the end of a turn waits for its reading, unless you say otherwise."""
END_WAIT_S: Final = 2.0
"""How long the end of a conversation waits for its last reading."""
NOT_ENOUGH: Final = "There is not enough evidence to say how the speaker feels."
CAUTION: Final = "This is a model's guess: let it guide your tone, and do not tell the speaker how they feel."
MAX_PIXELS: Final = 2**24
_MAX_INBOX: Final = 3_000  # a minute of 20 ms chunks
_RUNNER_UP: Final = 0.2  # from this probability on the second label is worth a word


class Measured(BaseModel):
    """One task's reading.

    Attributes:
        label: The most probable label.
        smoothed: Label -> probability, the mean of late readings; of an utterance, the reading itself.
        raw: Label -> probability of this reading alone.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    smoothed: dict[str, float]
    raw: dict[str, float]


class SpeakerContext(BaseModel):
    """How the speaker seems to feel, for a language model. It is a ``SpeakerContext`` of LiveKit Agents.

    Attributes:
        state: ``not_enough_evidence`` where there was no voice, face or word to read, or nothing was read yet.
        trigger: ``interval``, or ``speech_ended`` for a reading of one utterance; None where nothing was read.
        start_s: Where the stretch that was read starts, in seconds of the stream.
        end_s: Where it ends.
        modalities: What the model was given of it.
        tasks: Task key -> reading.
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
        """Make one of a ``measurement.result`` of ``/v1/live``, of the largest face where there are several."""
        seen = {key: message[key] for key in ("state", "trigger", "start_s", "end_s")}
        first: Mapping[str, Any] = next(iter(message["people"]), {"modalities": (), "tasks": {}})
        return cls.model_validate(seen | {key: first[key] for key in ("modalities", "tasks")})

    def to_instructions(self) -> str:
        """Return what a system prompt may hold: "The speaker sounds sad (0.71); sentiment: negative (0.80)."."""
        if self.state != "measured":
            return NOT_ENOUGH
        (key, first), *others = self.tasks.items()
        said = f"{first.label} ({first.smoothed[first.label]:.2f})"
        rest = [(p, label) for label, p in first.smoothed.items() if label != first.label]
        if rest and max(rest)[0] >= _RUNNER_UP:
            said += f", maybe {max(rest)[1]} ({max(rest)[0]:.2f})"
        head = self._verb() if TASKS[key].level == 1 else f"may have this {TASKS[key].answer_name}:"
        tail = [f"{TASKS[k].answer_name}: {m.label} ({m.smoothed[m.label]:.2f})" for k, m in others]
        return f"{'; '.join([f'The speaker {head} {said}', *tail])}. {CAUTION}"

    def _verb(self) -> str:
        seen = {"vision", "face"} & set(self.modalities)
        if "speech" in self.modalities:
            return "looks and sounds" if seen else "sounds"
        return "looks" if seen else "seems"


class Speaker:
    """Reads one person's stream. Made on an event loop; all methods but the thread's own belong to that loop.

    Args:
        engine: The engine; several speakers may share one.
        config: What is measured, and how often.

    Attributes:
        context: The latest reading.
    """

    def __init__(self, engine: Engine, config: LiveConfig = DEFAULTS) -> None:
        self._engine, self._config = engine, config
        self._loop = asyncio.get_running_loop()
        self.context = SpeakerContext()
        self._utterance: SpeakerContext | None = None
        self._told: asyncio.Queue[SpeakerContext | None] = asyncio.Queue()
        self._inbox: deque[Callable[[Rolling], Sequence[Speech | Due]]] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._backlog, self._words, self._clock_s = Backlog(), list[str](), 0.0
        self._smoother, self._asked = Smoother(config.half_life_s), measures(engine, config)
        self._thread = threading.Thread(target=self._run, name="nanoemox-speaker", daemon=True)
        self._thread.start()

    # ---------------------------------------------------------------- from the loop; nothing here waits for the model

    def hear(self, sound: bytes) -> None:
        """Take sound, s16le, 16 kHz, mono, of any length."""
        for at in range(0, len(sound), MAX_AUDIO_BYTES):
            piece = sound[at : at + MAX_AUDIO_BYTES]
            self._put(lambda rolling, piece=piece: rolling.hear(piece))  # type: ignore[misc]

    def show(self, frame: npt.NDArray[np.uint8]) -> None:
        """Take a picture, uint8[H, W, 3], RGB."""
        self._put(lambda rolling: rolling.show(frame))

    def said(self, words: str) -> None:
        """Take what a recogniser heard: the utterance is read once more, with its words."""
        if words.strip():
            self._put(lambda rolling: self._with_words(rolling, words.strip()))

    def interrupt(self) -> None:
        """Give up what waits to be read: it belongs to a turn that is over."""
        self._put(self._forget)

    async def turn(self, wait_s: float = WAIT_S) -> SpeakerContext:
        """Return what is known of the turn that has just ended: its last utterance, else the latest reading.

        Args:
            wait_s: How long to wait for what is not read yet.

        Returns:
            A reading no older than a window; ``not_enough_evidence`` where there is none.
        """
        await self.settle(wait_s)
        known = self._utterance or self.context
        return known if self._clock_s - known.end_s <= self._config.window_s else SpeakerContext()

    async def settle(self, wait_s: float) -> bool:
        """Wait until all that came in is read, and return whether it is."""
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
        """Yield each reading as it comes, until the speaker is closed. For one reader."""
        while (context := await self._told.get()) is not None:
            yield context

    def close(self) -> None:
        """Forget the stream at once; a reading that is at work is not told any more."""
        with self._changed:
            self._closed = True
            self._inbox.clear()
            self._changed.notify()

    async def aclose(self) -> None:
        """Close, and wait until the thread has ended."""
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
        self._told.put_nowait(context)

    # ---------------------------------------------------------------- on the thread

    def _run(self) -> None:
        try:
            rolling = Rolling(self._config, self._engine.processor.config.vision.num_frames, MAX_PIXELS)
            while self._has_work():
                try:
                    self._work(rolling)
                except Exception as error:  # one stretch that cannot be read ends no stream
                    _log.warning("a reading failed: %s", type(error).__name__)  # its message may tell of the stream
        except Exception as error:
            _log.error("no readings of the speaker: %s", type(error).__name__)
        finally:
            self.close()
            self._backlog.clear()
            with self._changed:
                self._release()
            self._on_loop(self._told.put_nowait, None)

    def _has_work(self) -> bool:
        """Wait for work, and tell those who wait for its end; return False once closed."""
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
        """Take what came in; where nothing did, read the oldest stretch that waits."""
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
        """Give the reading of an utterance the words that were heard so far."""
        if due.trigger != "speech_ended" or not self._words:
            return due
        return replace(due, clip=replace(due.clip, subtitle=" ".join(self._words)))

    def _forget(self, rolling: Rolling) -> list[Speech | Due]:
        self._backlog.clear()
        self._words.clear()
        return []

    def _read(self, due: Due) -> None:
        people = [self._asked.alone(clip) for clip in look(self._engine, due, self._config)[:1]]
        context = SpeakerContext.of(result(due, people, self._smoother))
        if not self._closed:
            self._on_loop(self._tell, context)

    def _on_loop(self, action: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody is there to be told
            self._loop.call_soon_threadsafe(action, *arguments)


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def mono(sound: bytes, channels: int) -> bytes:
    """Mix interleaved s16le sound down to one channel."""
    if channels == 1:
        return sound
    mixed = np.frombuffer(sound, "<i2").reshape(-1, channels).mean(1)
    return bytes(mixed.round().astype("<i2").tobytes())
