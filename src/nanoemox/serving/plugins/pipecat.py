"""Pipecat: a processor that tells the language model how the speaker sounds.

It belongs between the user aggregator and the LLM service, where audio, images, user turns and contexts all pass:
``[transport.input(), stt, aggregators.user(), SpeakerProcessor(engine), llm, ...]``.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from nanoemox.inference.engine import Engine
from nanoemox.serving.plugins.speaker import DEFAULTS, END_WAIT_S, WAIT_S, Speaker, SpeakerContext, mono
from nanoemox.serving.rolling import LiveConfig
from nanoemox.types import SAMPLE_RATE_HZ, NanoEmoXError

try:
    from pipecat.audio.resamplers.soxr_stream_resampler import SOXRStreamAudioResampler
    from pipecat.frames.frames import (
        CancelFrame,
        EndFrame,
        Frame,
        InputAudioRawFrame,
        InputImageRawFrame,
        InterruptionFrame,
        LLMContextFrame,
        LLMContextUserTurnFrame,
        SystemFrame,
    )
    from pipecat.processors.aggregators.llm_context import LLMContext, LLMSpecificMessage
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup
except ImportError as error:
    raise NanoEmoXError(f"Pipecat needs {error.name}: pip install 'nanoemox[pipecat]'") from error

_log = logging.getLogger("nanoemox.serving")
_FORMAT: Final = "RGB"


@dataclass
class SpeakerContextFrame(SystemFrame):
    """A measurement of the speaker, pushed downstream.

    Attributes:
        context: The measurement.
    """

    context: SpeakerContext


class SpeakerProcessor(FrameProcessor):
    """Measures the user's voice, face and words, and inserts the result before each user turn of the context.

    All frames pass unchanged. Only an ``LLMContextFrame`` waits, up to ``wait_s``, for the measurement of its turn,
    and an ``EndFrame``, up to two seconds, for the last measurement.

    Args:
        engine: The engine; may be shared.
        config: What is measured, and how often.
        wait_s: Longest time that a context waits; 0 uses the latest measurement.
        user_id: The participant to measure; None treats all frames as one person.
        **kwargs: Passed to ``FrameProcessor``.

    Attributes:
        speaker: The measurements of the stream; None before ``setup``.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        config: LiveConfig = DEFAULTS,
        wait_s: float = WAIT_S,
        user_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._engine, self._config, self._wait_s, self._user_id = engine, config, wait_s, user_id
        self.speaker: Speaker | None = None
        self._telling: asyncio.Task[None] | None = None
        self._resampler, self._rate_hz = SOXRStreamAudioResampler(clear_after_secs=None), 0
        self._noted: object = None
        self._warned = False

    @property
    def context(self) -> SpeakerContext:
        """The latest measurement."""
        return SpeakerContext() if self.speaker is None else self.speaker.context

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Start the worker thread."""
        await super().setup(setup)
        self.speaker = Speaker(self._engine, self._config)
        self._telling = self.create_task(self._tell(self.speaker))

    async def cleanup(self) -> None:
        """Stop the worker thread and discard the stream."""
        if self.speaker is not None:
            await self.speaker.aclose()
        if self._telling is not None:
            await self.cancel_task(self._telling)
            self._telling = None
        await super().cleanup()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Use a frame and pass it on."""
        await super().process_frame(frame, direction)
        if self.speaker is not None and direction == FrameDirection.DOWNSTREAM:
            await self._look(frame, self.speaker)
        await self.push_frame(frame, direction)

    async def _look(self, frame: Frame, speaker: Speaker) -> None:
        if isinstance(frame, InputAudioRawFrame | InputImageRawFrame):
            if self._user_id in (None, getattr(frame, "user_id", None)):
                await (self._hear if isinstance(frame, InputAudioRawFrame) else self._see)(frame, speaker)
        elif isinstance(frame, LLMContextUserTurnFrame):
            speaker.said(frame.text)
        elif isinstance(frame, LLMContextFrame):
            await self._note(frame.context, speaker)
        elif isinstance(frame, InterruptionFrame):
            speaker.interrupt()
        elif isinstance(frame, EndFrame):
            await self._end(speaker)
        elif isinstance(frame, CancelFrame):
            speaker.close()

    async def _hear(self, frame: InputAudioRawFrame, speaker: Speaker) -> None:
        if frame.sample_rate != self._rate_hz:
            self._resampler, self._rate_hz = SOXRStreamAudioResampler(clear_after_secs=None), frame.sample_rate
        sound = mono(frame.audio, frame.num_channels)
        speaker.hear(await self._resampler.resample(sound, frame.sample_rate, SAMPLE_RATE_HZ))

    async def _see(self, frame: InputImageRawFrame, speaker: Speaker) -> None:
        if frame.format == _FORMAT:
            width, height = frame.size
            speaker.show(np.frombuffer(frame.image, np.uint8).reshape(height, width, 3))
        elif not self._warned:
            self._warned = True
            _log.warning("images in the format %s are ignored: send %s", frame.format, _FORMAT)

    async def _note(self, context: LLMContext, speaker: Speaker) -> None:
        """Insert the measurement before the user turn that ends a context, once per turn."""
        messages = context.get_messages()
        turn = messages[-1] if messages else None
        if turn is None or isinstance(turn, LLMSpecificMessage) or turn["role"] != "user" or turn is self._noted:
            return
        note = {"role": "developer", "content": (await speaker.turn(self._wait_s)).to_instructions()}
        self._noted = turn
        # The list is Pipecat's own, and may have changed during the wait.
        now = context.get_messages()
        at = next((i for i, message in enumerate(now) if message is turn), None)
        if at is not None:
            context.set_messages([*now[:at], note, *now[at:]])

    async def _end(self, speaker: Speaker) -> None:
        await speaker.settle(END_WAIT_S)
        speaker.close()
        if self._telling is not None:
            await self._telling

    async def _tell(self, speaker: Speaker) -> None:
        async for context in speaker.readings():
            await self.push_frame(SpeakerContextFrame(context))
