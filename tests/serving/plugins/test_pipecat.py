"""The processor in pipelines of the framework's own test runner."""

from __future__ import annotations

import asyncio
import importlib
import warnings
from typing import Any

import numpy as np
import pytest

from nanoemox.inference.engine import Engine
from nanoemox.serving.plugins.speaker import NOT_ENOUGH, Speaker, SpeakerContext
from nanoemox.serving.rolling import LiveConfig
from tests.serving.plugins.conftest import RATE_HZ, at_rate, chunks

pytest.importorskip("pipecat")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports audioop, which leaves Python with 3.13
    from pipecat.frames.frames import (
        CancelFrame,
        Frame,
        InputAudioRawFrame,
        InputImageRawFrame,
        InterruptionFrame,
        LLMContextFrame,
        LLMContextUserTurnFrame,
        TextFrame,
        TranscriptionFrame,
        UserAudioRawFrame,
        UserStartedSpeakingFrame,
        UserStoppedSpeakingFrame,
    )
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregatorParams
    from pipecat.processors.filters.identity_filter import IdentityFilter
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
    from pipecat.tests.utils import SleepFrame, run_test
    from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies

    from nanoemox.serving.plugins.pipecat import SpeakerContextFrame, SpeakerProcessor

CONFIG = LiveConfig(hear=False, interval_s=1.0, window_s=3.0, min_silence_s=0.3)
LONG_S = 120.0
WORDS = "I lost my keys."


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, the end waits for the last reading."""
    monkeypatch.setattr("nanoemox.serving.plugins.pipecat.END_WAIT_S", LONG_S)


def through(processor: FrameProcessor, *sent: Frame, **options: Any) -> list[Frame]:
    """Send frames through a pipeline and return what comes out below."""
    down, _ = asyncio.run(run_test(processor, frames_to_send=sent, start_timeout=LONG_S, **options))
    return list(down)


def sound(samples: np.ndarray, times: int = 1, channels: int = 1) -> list[InputAudioRawFrame]:
    pieces = chunks(at_rate(samples, times, channels), RATE_HZ * times)
    return [InputAudioRawFrame(piece, RATE_HZ * times, channels) for piece in pieces]


def contexts(frames: list[Frame]) -> list[SpeakerContextFrame]:
    return [frame for frame in frames if isinstance(frame, SpeakerContextFrame)]


@pytest.mark.parametrize(("times", "channels"), [(1, 1), (3, 2)])
def test_frames_pass_unchanged_with_measurements_added(
    reader: Engine, spoken: np.ndarray, times: int, channels: int
) -> None:
    sent: list[Frame] = [*sound(spoken, times, channels), TextFrame("below")]
    came = through(SpeakerProcessor(reader, config=CONFIG), *sent)
    passed = [frame for frame in came if not isinstance(frame, SpeakerContextFrame)]
    assert sorted(frame.id for frame in passed) == sorted(frame.id for frame in sent)
    read = contexts(came)
    # Before the end of the conversation passes, all that came in is read.
    assert "speech_ended" in {frame.context.trigger for frame in read}
    assert {frame.context.modalities for frame in read if frame.context.state == "measured"} == {("speech",)}


def test_measurement_is_inserted_once_before_the_user_turn(reader: Engine, spoken: np.ndarray) -> None:
    said = {"role": "user", "content": WORDS}
    context = LLMContext([{"role": "system", "content": "Be kind."}, said])
    again = LLMContextFrame(context)
    sent = [*sound(spoken), SleepFrame(0.3), LLMContextUserTurnFrame(WORDS, "now"), LLMContextFrame(context), again]
    came = through(SpeakerProcessor(reader, config=CONFIG, wait_s=LONG_S), *sent)
    first, note, last = context.get_messages()
    assert (first["role"], last) == ("system", said)
    worded = [f.context for f in contexts(came) if "text" in f.context.modalities]
    assert note == {"role": "developer", "content": worded[-1].to_instructions()}
    assert note["content"].startswith("The speaker sounds ")


def test_a_message_that_comes_during_the_wait_is_kept(reader: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    context = LLMContext([{"role": "user", "content": WORDS}])
    later = {"role": "user", "content": "And my phone."}

    async def slow(speaker: Speaker, wait_s: float) -> SpeakerContext:
        context.add_message(later)
        return SpeakerContext()

    monkeypatch.setattr(Speaker, "turn", slow)
    through(SpeakerProcessor(reader, config=CONFIG), LLMContextFrame(context))
    first, said, last = context.get_messages()
    assert (first["role"], said["content"], last) == ("developer", WORDS, later)


def test_context_without_a_user_turn_is_unchanged(reader: Engine) -> None:
    greeting = LLMContext([{"role": "system", "content": "Greet."}])
    quiet = LLMContext([{"role": "user", "content": WORDS}])
    through(
        SpeakerProcessor(reader, config=CONFIG, wait_s=0.0),
        LLMContextFrame(LLMContext()),
        LLMContextFrame(greeting),
        LLMContextFrame(quiet),
    )
    assert len(greeting.get_messages()) == 1
    assert quiet.get_messages()[0]["content"] == NOT_ENOUGH


def test_only_the_selected_user_is_measured(reader: Engine, spoken: np.ndarray) -> None:
    others = [UserAudioRawFrame(f.audio, f.sample_rate, f.num_channels, user_id="b") for f in sound(spoken)]
    assert contexts(through(SpeakerProcessor(reader, config=CONFIG, user_id="a"), *others)) == []


def test_images_are_measured(reader: Engine, caplog: pytest.LogCaptureFixture) -> None:
    pictures = [InputImageRawFrame(bytes([40 * i]) * 64 * 48 * 3, (64, 48), "RGB") for i in range(4)]
    odd = [InputImageRawFrame(b"12", (1, 1), "YUV")] * 2
    sent = [*pictures, *odd, LLMContextUserTurnFrame(WORDS, "now")]
    came = through(SpeakerProcessor(reader, config=CONFIG), *sent)
    assert contexts(came)[-1].context.modalities == ("vision", "text")
    assert caplog.text.count("images in the format YUV are ignored: send RGB") == 1


def test_interruption_passes_and_the_conversation_continues(reader: Engine, spoken: np.ndarray) -> None:
    context = LLMContext([{"role": "user", "content": WORDS}])
    sent = [*sound(spoken), InterruptionFrame(), *sound(spoken), SleepFrame(0.3), LLMContextFrame(context)]
    processor = SpeakerProcessor(reader, config=CONFIG, wait_s=LONG_S)
    came = through(processor, *sent)
    assert any(isinstance(frame, InterruptionFrame) for frame in came)
    assert context.get_messages()[0]["content"].startswith("The speaker ")
    assert processor.context.end_s > len(spoken) / RATE_HZ


def test_cancelling_discards_the_stream_at_once(reader: Engine, spoken: np.ndarray) -> None:
    processor = SpeakerProcessor(reader, config=CONFIG)
    through(processor, *sound(spoken), CancelFrame(), send_end_frame=False)
    assert processor.speaker is not None
    assert not processor.speaker.alive
    assert processor.speaker.pending == 0


class PaperLLM(FrameProcessor):
    """Keeps the contexts it is asked with."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[Any]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame):
            self.asked.append(list(frame.context.get_messages()))
        await self.push_frame(frame, direction)


def test_the_example_tells_the_language_model_how_the_speaker_sounds(reader: Engine, spoken: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        example = importlib.import_module("examples.pipecat_bot")
    model = PaperLLM()
    ends = {name: IdentityFilter() for name in ("incoming", "stt", "tts", "outgoing")}
    user = LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies(), audio_idle_timeout=0)
    line = example.pipeline(llm=model, engine=reader, user=user, **ends)
    sent = [
        UserStartedSpeakingFrame(),
        *sound(spoken, 3),
        SleepFrame(1.0),
        TranscriptionFrame(WORDS, "user", "now", finalized=True),
        SleepFrame(0.5),
        UserStoppedSpeakingFrame(),
        SleepFrame(2.0),
    ]
    through(line, *sent)
    (messages,) = model.asked
    assert [m["role"] for m in messages] == ["system", "developer", "user"]
    assert messages[2]["content"] == WORDS
    assert messages[1]["content"] == NOT_ENOUGH or messages[1]["content"].startswith("The speaker ")
