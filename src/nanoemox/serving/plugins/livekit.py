"""LiveKit Agents: an STT wrapper that also measures how the speaker sounds.

Transcripts of the wrapped STT pass through without delay. ``SpeakerSTT.attach``, called from
``Agent.on_user_turn_completed``, gives the measurement of the turn to the language model.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import Any

from nanoemox.inference.engine import Engine
from nanoemox.serving.plugins.speaker import DEFAULTS, END_WAIT_S, WAIT_S, Speaker, SpeakerContext, mono
from nanoemox.serving.rolling import LiveConfig
from nanoemox.types import SAMPLE_RATE_HZ, NanoEmoXError

try:
    from livekit import rtc
    from livekit.agents import APIConnectOptions, llm, utils
    from livekit.agents import stt as agents_stt
    from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
except ImportError as error:
    raise NanoEmoXError(f"LiveKit Agents need {error.name}: pip install 'nanoemox[livekit]'") from error

KEY = "nanoemox"
"""Key of a measurement in ``SpeechData.metadata`` and ``ChatMessage.extra``."""


class SpeakerSTT(agents_stt.STT):
    """Wraps an STT and emits ``speaker_context`` with each measurement. Create one per session.

    Args:
        stt: The STT; it must support streaming.
        engine: The engine; may be shared.
        config: What is measured, and how often.
        wait_s: Longest time that the end of a turn waits for its measurement; 0 uses the latest one.

    Attributes:
        speaker: The measurements of the current stream; None before the first.

    Raises:
        NanoEmoXError: The STT does not stream.
    """

    def __init__(
        self, *, stt: agents_stt.STT, engine: Engine, config: LiveConfig = DEFAULTS, wait_s: float = WAIT_S
    ) -> None:
        if not stt.capabilities.streaming:
            raise NanoEmoXError(f"{stt.label} does not stream: wrap it in livekit.agents.stt.StreamAdapter first")
        super().__init__(capabilities=stt.capabilities)
        self._stt, self._engine, self._config, self._wait_s = stt, engine, config, wait_s
        self.speaker: Speaker | None = None
        self._recognize_metrics_needed = False  # the wrapped STT reports its own
        stt.on("metrics_collected", self._pass_metrics)

    @property
    def wrapped_stt(self) -> agents_stt.STT:
        """The wrapped STT."""
        return self._stt

    @property
    def model(self) -> str:
        """Model of the wrapped STT."""
        return str(self._stt.model)

    @property
    def provider(self) -> str:
        """Provider of the wrapped STT."""
        return str(self._stt.provider)

    @property
    def context(self) -> SpeakerContext:
        """The latest measurement."""
        return SpeakerContext() if self.speaker is None else self.speaker.context

    async def attach(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> SpeakerContext:
        """Add the measurement of the turn that has just ended to the context of the language model.

        Args:
            turn_ctx: Context of this reply; a system message is added.
            new_message: The user's message; the measurement is stored in its ``extra["nanoemox"]``.

        Returns:
            The measurement.
        """
        known = SpeakerContext() if self.speaker is None else await self.speaker.turn(self._wait_s)
        turn_ctx.add_message(role="system", content=known.to_instructions())
        new_message.extra[KEY] = known.model_dump(mode="json")
        return known

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> SpeakerStream:
        """Transcribe and measure one stream."""
        return SpeakerStream(self, language, conn_options)

    def prewarm(self) -> None:
        """Prewarm the wrapped STT."""
        self._stt.prewarm()

    async def aclose(self) -> None:
        """Detach from the wrapped STT, which its creator closes."""
        self._stt.off("metrics_collected", self._pass_metrics)

    def _pass_metrics(self, *args: Any, **kwargs: Any) -> None:
        self.emit("metrics_collected", *args, **kwargs)

    def _update_session_keyterms(self, keyterms: list[str]) -> None:
        self._stt._update_session_keyterms(keyterms)

    def _push_conversation_item(self, ev: Any) -> None:
        self._stt._push_conversation_item(ev)

    async def _recognize_impl(
        self, buffer: Any, *, language: NotGivenOr[str] = NOT_GIVEN, conn_options: APIConnectOptions
    ) -> agents_stt.SpeechEvent:
        return await self._stt.recognize(buffer, language=language, conn_options=conn_options)


class SpeakerStream(agents_stt.RecognizeStream):
    """One stream; its ``context`` is the latest :class:`SpeakerContext`.

    Args:
        stt: The wrapper that the stream belongs to.
        language: Passed to the wrapped STT.
        conn_options: Passed to the wrapped STT, which does the retries.
    """

    def __init__(self, stt: SpeakerSTT, language: NotGivenOr[str], conn_options: APIConnectOptions) -> None:
        super().__init__(stt=stt, conn_options=APIConnectOptions(max_retry=0, timeout=conn_options.timeout))
        self._owner, self._language, self._inner_options = stt, language, conn_options
        self._sound: rtc.AudioResampler | None = None

    async def _metrics_monitor_task(self, event_aiter: AsyncIterable[agents_stt.SpeechEvent]) -> None:
        async for _ in event_aiter:
            pass  # the wrapped stream reports its own

    async def _run(self) -> None:
        owner = self._owner
        inner = owner._stt.stream(language=self._language, conn_options=self._inner_options)
        inner.start_time_offset = self.start_time_offset
        owner.speaker = speaker = Speaker(owner._engine, owner._config)
        telling = asyncio.create_task(self._tell(speaker))
        passing = [
            asyncio.create_task(self._pass_in(inner, speaker)),
            asyncio.create_task(self._pass_out(inner, speaker)),
        ]
        try:
            await asyncio.gather(*passing)
            await speaker.settle(END_WAIT_S)
            speaker.close()
            await telling
        finally:
            speaker.close()
            await utils.aio.cancel_and_wait(*passing, telling)
            await inner.aclose()
            await speaker.aclose()

    async def _pass_in(self, inner: agents_stt.RecognizeStream, speaker: Speaker) -> None:
        async for data in self._input_ch:
            if isinstance(data, self._FlushSentinel):
                inner.flush()
                continue
            inner.push_frame(data)
            for piece in self._at_16_khz(data):
                speaker.hear(piece)
        with suppress(RuntimeError):  # it may have ended already
            inner.end_input()

    def _at_16_khz(self, frame: rtc.AudioFrame) -> list[bytes]:
        sound = mono(bytes(frame.data), frame.num_channels)
        if frame.sample_rate == SAMPLE_RATE_HZ:
            return [sound]
        if self._sound is None:  # push_frame refuses a change of rate
            self._sound = rtc.AudioResampler(frame.sample_rate, SAMPLE_RATE_HZ)
        return [bytes(piece.data) for piece in self._sound.push(bytearray(sound))]

    async def _pass_out(self, inner: agents_stt.RecognizeStream, speaker: Speaker) -> None:
        async for event in inner:
            if event.type == agents_stt.SpeechEventType.FINAL_TRANSCRIPT and event.alternatives:
                best = event.alternatives[0]
                best.metadata = {**(best.metadata or {}), KEY: speaker.context.model_dump(mode="json")}
                speaker.said(best.text)
            self._event_ch.send_nowait(event)

    async def _tell(self, speaker: Speaker) -> None:
        async for context in speaker.readings():
            self.context = context
            self._owner.emit("speaker_context", context)
