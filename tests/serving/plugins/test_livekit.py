"""The STT wrapper in the framework's streams and in an ``AgentSession``, with a fake STT and language model."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from nanoemox.inference.engine import Engine
from nanoemox.serving.plugins.speaker import NOT_ENOUGH, SpeakerContext
from nanoemox.serving.rolling import LiveConfig
from nanoemox.types import NanoEmoXError
from tests.serving.plugins.conftest import RATE_HZ, at_rate, chunks

agents = pytest.importorskip("livekit.agents")

from livekit import rtc  # noqa: E402
from livekit.agents import llm, stt, utils  # noqa: E402

from nanoemox.serving.plugins.livekit import KEY, SpeakerSTT  # noqa: E402

CONFIG = LiveConfig(hear=False, interval_s=1.0, window_s=3.0, min_silence_s=0.3)
WORDS = "I lost my keys."
LONG_S = 120.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, the end waits for the last reading."""
    monkeypatch.setattr("nanoemox.serving.plugins.livekit.END_WAIT_S", LONG_S)


class PaperSTT(stt.STT):
    """Hears the same words whatever is said, once it was given so many seconds."""

    def __init__(self, after_s: float, streaming: bool = True, fails: int = 0) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=streaming, interim_results=True))
        self.after_s, self.fails, self.rates, self.flushes = after_s, fails, set[int](), 0
        self.keyterms: list[str] = []

    def stream(self, *, language: Any = None, conn_options: Any = None) -> PaperStream:
        return PaperStream(stt=self, conn_options=conn_options)

    async def _recognize_impl(self, buffer: Any, **_: Any) -> stt.SpeechEvent:
        return transcript(stt.SpeechEventType.FINAL_TRANSCRIPT)

    def _update_session_keyterms(self, keyterms: list[str]) -> None:
        self.keyterms = keyterms


class PaperStream(stt.RecognizeStream):
    async def _run(self) -> None:
        kinds, heard_s, told, paper = stt.SpeechEventType, 0.0, False, self._stt
        if paper.fails:
            paper.fails -= 1
            raise agents.APIConnectionError("paper tears")
        async for data in self._input_ch:
            if isinstance(data, self._FlushSentinel):
                paper.flushes += 1
                continue
            paper.rates.add((data.sample_rate, data.num_channels))
            heard_s += data.duration
            if heard_s >= paper.after_s and not told:
                told = True
                self._event_ch.send_nowait(stt.SpeechEvent(kinds.START_OF_SPEECH))
                self._event_ch.send_nowait(transcript(kinds.INTERIM_TRANSCRIPT))
                self._event_ch.send_nowait(transcript(kinds.FINAL_TRANSCRIPT))
                self._event_ch.send_nowait(stt.SpeechEvent(kinds.END_OF_SPEECH))


def transcript(kind: stt.SpeechEventType) -> stt.SpeechEvent:
    return stt.SpeechEvent(kind, alternatives=[stt.SpeechData(language="en", text=WORDS, metadata={"mine": 1})])


def frames(sound: np.ndarray, rate_hz: int, channels: int) -> list[rtc.AudioFrame]:
    return [rtc.AudioFrame(piece, rate_hz, channels, len(piece) // (2 * channels)) for piece in chunks(sound, rate_hz)]


@pytest.mark.parametrize(("times", "channels"), [(1, 1), (3, 2)])
def test_stream_passes_transcripts_and_measures_the_speaker(
    reader: Engine, spoken: np.ndarray, times: int, channels: int
) -> None:
    paper = PaperSTT(after_s=len(spoken) / RATE_HZ - 0.5)
    hearing = SpeakerSTT(stt=paper, engine=reader, config=CONFIG)
    told: list[SpeakerContext] = []
    hearing.on("speaker_context", told.append)

    async def run() -> list[stt.SpeechEvent]:
        async with hearing.stream() as stream:
            sent = frames(at_rate(spoken, times, channels), RATE_HZ * times, channels)
            for i, frame in enumerate(sent):
                stream.push_frame(frame)
                if i % 10 == 9:  # as time goes by
                    await asyncio.sleep(0)
                    await asyncio.wait_for(settled(hearing), LONG_S)
            stream.end_input()
            events = [event async for event in stream]
            assert stream.context == told[-1]
        return events

    events = asyncio.run(run())
    kinds = stt.SpeechEventType
    assert [e.type for e in events] == [
        kinds.START_OF_SPEECH,
        kinds.INTERIM_TRANSCRIPT,
        kinds.FINAL_TRANSCRIPT,
        kinds.END_OF_SPEECH,
    ]
    final = events[2].alternatives[0]
    assert final.text == WORDS
    assert final.metadata["mine"] == 1
    assert SpeakerContext.model_validate(final.metadata[KEY]).trigger is not None
    assert paper.rates == {(RATE_HZ * times, channels)}  # the recogniser gets the sound as it came
    assert paper.flushes
    assert isinstance(told[-1], stt.SpeakerContext)  # the framework's own protocol
    assert "text" in told[-1].modalities or "text" in told[-2].modalities
    assert {"interval", "speech_ended"} == {context.trigger for context in told}
    assert told[-1].end_s <= len(spoken) / RATE_HZ


async def settled(hearing: SpeakerSTT) -> None:
    if hearing.speaker is not None:
        await hearing.speaker.settle(LONG_S)


def test_closing_a_stream_discards_it_at_once(reader: Engine, spoken: np.ndarray) -> None:
    hearing = SpeakerSTT(stt=PaperSTT(after_s=1e9), engine=reader, config=CONFIG)

    async def run() -> None:
        stream = hearing.stream()
        for frame in frames(at_rate(spoken, 1, 1), RATE_HZ, 1):
            stream.push_frame(frame)
        await asyncio.sleep(0.01)
        await stream.aclose()
        assert hearing.speaker is not None
        assert not hearing.speaker.alive
        assert hearing.speaker.pending == 0

    asyncio.run(run())


def test_failing_stt_is_retried_and_its_last_error_raised(reader: Engine) -> None:
    async def run(fails: int) -> tuple[int, list[Any]]:
        paper = PaperSTT(after_s=0.1, fails=fails)
        hearing, errors = SpeakerSTT(stt=paper, engine=reader, config=CONFIG), list[Any]()
        hearing.on("error", errors.append)
        options = agents.APIConnectOptions(max_retry=1, retry_interval=0.0)
        async with hearing.stream(conn_options=options) as stream:
            stream.push_frame(frames(np.zeros((RATE_HZ, 1), "<i2"), RATE_HZ, 1)[0])
            stream.end_input()
            return len([event async for event in stream]), errors

    assert asyncio.run(run(1)) == (4, [])
    with pytest.raises(agents.APIConnectionError):
        asyncio.run(run(9))


def test_wrapper_exposes_the_wrapped_stt(reader: Engine) -> None:
    paper = PaperSTT(after_s=1.0)
    hearing, metrics = SpeakerSTT(stt=paper, engine=reader), list[Any]()
    hearing.on("metrics_collected", metrics.append)
    assert hearing.capabilities == paper.capabilities
    assert (hearing.model, hearing.provider, hearing.wrapped_stt) == (paper.model, paper.provider, paper)
    whole = asyncio.run(hearing.recognize(utils.audio.silence_frame(1.0, RATE_HZ)))
    assert whole.alternatives[0].text == WORDS
    assert len(metrics) == 1  # not counted twice
    assert hearing.context == SpeakerContext()
    with pytest.raises(NanoEmoXError, match=r"does not stream: wrap it in livekit\.agents\.stt\.StreamAdapter"):
        SpeakerSTT(stt=PaperSTT(1.0, streaming=False), engine=reader)


def test_turn_without_a_stream_has_not_enough_evidence(reader: Engine) -> None:
    context = llm.ChatContext.empty()
    message = llm.ChatMessage(role="user", content=[WORDS])
    known = asyncio.run(SpeakerSTT(stt=PaperSTT(1.0), engine=reader).attach(context, message))
    assert known == SpeakerContext()
    assert context.items[-1].text_content == NOT_ENOUGH


class PaperLLM(llm.LLM):
    """Says yes to everything, and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[llm.ChatContext] = []

    def chat(self, *, chat_ctx: llm.ChatContext, tools: Any = None, conn_options: Any = None, **_: Any) -> YesStream:
        self.told.append(chat_ctx.copy())
        return YesStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class YesStream(llm.LLMStream):
    async def _run(self) -> None:
        self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=llm.ChoiceDelta(role="assistant", content="Yes.")))


class Recorded(agents.voice.io.AudioInput):
    """A microphone that plays a recording and then keeps quiet."""

    def __init__(self, sound: list[rtc.AudioFrame]) -> None:
        super().__init__(label="recording")
        self._frames = self._play(sound)

    async def _play(self, sound: list[rtc.AudioFrame]) -> AsyncIterator[rtc.AudioFrame]:
        for frame in sound:
            await asyncio.sleep(0.002)
            yield frame
        await asyncio.Event().wait()

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.__anext__()


def test_the_example_tells_the_language_model_how_the_speaker_sounds(reader: Engine, spoken: np.ndarray) -> None:
    example = importlib.import_module("examples.livekit_agent")
    model = PaperLLM()
    paper = PaperSTT(after_s=len(spoken) / RATE_HZ - 0.3)
    hearing = SpeakerSTT(stt=paper, engine=reader, config=CONFIG, wait_s=LONG_S)

    async def run() -> agents.llm.ChatMessage:
        replied = asyncio.Event()
        session = agents.AgentSession(
            llm=model, vad=None, turn_handling={"turn_detection": "stt"}, stt_context_options={"keyterms": ["keys"]}
        )
        session.on("conversation_item_added", lambda e: replied.set() if e.item.role == "assistant" else None)
        session.input.audio = Recorded(frames(at_rate(spoken, 3, 1), 3 * RATE_HZ, 1))
        await session.start(example.Companion(hearing), record=False)
        try:
            await asyncio.wait_for(replied.wait(), LONG_S)
            return next(m for m in session.history.messages() if m.role == "user")
        finally:
            await session.aclose()

    message = asyncio.run(run())
    assert paper.keyterms == ["keys"]
    told = [m.text_content for m in model.told[-1].messages() if m.role == "system"]
    assert message.text_content == WORDS
    assert any(text.startswith("The speaker s") for text in told), told
    known = SpeakerContext.model_validate(message.extra[KEY])
    assert known.to_instructions() in told
    assert (known.state, known.trigger) == ("measured", "speech_ended")
