"""A speaker is measured like a live session, never blocks the loop, and leaves no data or logs."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from nanoemox.inference.engine import Engine
from nanoemox.serving.measuring import replay
from nanoemox.serving.plugins import speaker as module
from nanoemox.serving.plugins.speaker import CAUTION, NOT_ENOUGH, Measured, Speaker, SpeakerContext, mono
from nanoemox.serving.rolling import LiveConfig
from nanoemox.types import NanoEmoXError
from tests.serving.plugins.conftest import RATE_HZ, chunks
from tests.test_imports import loaded_after

CONFIG = LiveConfig(hear=False, interval_s=1.0, window_s=2.0, min_silence_s=0.3)
LONG_AGO = LiveConfig(hear=False, interval_s=3.0, window_s=3.0)
LONG_S = 120.0  # for a slow machine; nothing here waits that long


def alone(engine: Engine, talk: Callable[[Speaker], Coroutine[Any, Any, None]], config: LiveConfig = CONFIG) -> None:
    """Run a conversation with a speaker, and make sure that its thread ends."""

    async def run() -> None:
        speaker = Speaker(engine, config)
        try:
            await talk(speaker)
        finally:
            await speaker.aclose()
        assert not speaker.alive

    asyncio.run(run())


def test_speaker_equals_a_replayed_session(reader: Engine, spoken: np.ndarray) -> None:
    sent = chunks(spoken)
    wanted = [SpeakerContext.of(m) for m in replay(reader, sent, CONFIG) if m["type"] == "measurement.result"]
    told: list[SpeakerContext] = []

    async def talk(speaker: Speaker) -> None:
        async def take() -> None:
            told.extend([context async for context in speaker.readings()])

        taking = asyncio.create_task(take())
        for chunk in sent:
            speaker.hear(chunk)
            assert await speaker.settle(LONG_S)
        speaker.close()
        await taking

    alone(reader, talk)
    assert told == wanted
    assert {context.trigger for context in told} == {"interval", "speech_ended"}
    assert told[-1].state == "measured"
    assert told[-1].modalities == ("speech",)


def test_silence_is_not_enough_evidence(reader: Engine) -> None:
    async def talk(speaker: Speaker) -> None:
        assert (await speaker.turn(0.0)).to_instructions() == NOT_ENOUGH  # nothing was read yet
        speaker.hear(bytes(2 * 2 * RATE_HZ))
        known = await speaker.turn(LONG_S)
        assert (known.state, known.trigger, known.end_s) == ("not_enough_evidence", "interval", 2.0)
        assert known.to_instructions() == NOT_ENOUGH

    alone(reader, talk)


def test_turn_is_its_last_utterance_with_the_transcript(reader: Engine, spoken: np.ndarray) -> None:
    async def talk(speaker: Speaker) -> None:
        speaker.hear(spoken.tobytes())
        heard = await speaker.turn(LONG_S)
        assert (heard.trigger, heard.modalities) == ("speech_ended", ("speech",))
        speaker.said("  ")  # no words
        assert await speaker.turn(LONG_S) == heard
        speaker.said("I lost my keys.")
        worded = await speaker.turn(LONG_S)
        assert (worded.trigger, worded.modalities) == ("speech_ended", ("speech", "text"))
        assert (worded.start_s, worded.end_s) == (heard.start_s, heard.end_s)
        assert worded.tasks["mer"].raw != heard.tasks["mer"].raw
        speaker.hear(bytes(2 * 8 * RATE_HZ))  # what was said is longer ago than a window
        assert (await speaker.turn(LONG_S)).state == "not_enough_evidence"

    alone(reader, talk, LONG_AGO)


def test_images_are_measured(reader: Engine) -> None:
    async def talk(speaker: Speaker) -> None:
        for shade in range(4):
            speaker.show(np.full((48, 64, 3), 60 * shade, np.uint8))
        speaker.said("Look at me.")
        assert (await speaker.turn(LONG_S)).modalities == ("vision", "text")

    alone(reader, talk)


def test_event_loop_is_not_blocked_and_the_newest_measurement_counts(
    reader: Engine, spoken: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, started, seen = threading.Event(), threading.Event(), list[float]()

    def slow(engine: Engine, due: Any, *rest: Any) -> list[Any]:
        started.set()
        assert gate.wait(LONG_S)
        seen.append(due.end_s)
        return []

    monkeypatch.setattr(module, "clips_of", slow)

    async def talk(speaker: Speaker) -> None:
        speaker.hear(bytes(2 * RATE_HZ))
        await asyncio.to_thread(started.wait, LONG_S)
        begin = time.perf_counter()
        for chunk in chunks(np.zeros(4 * RATE_HZ, np.int16)):
            speaker.hear(chunk)
        assert not await speaker.settle(0.05)  # it gives up, and the model still works
        assert time.perf_counter() - begin < 10
        gate.set()
        assert await speaker.settle(LONG_S)
        assert speaker.context.end_s == 5.0

    alone(reader, talk)
    assert seen == [1.0, 5.0]  # 2, 3 and 4 gave way


def test_interruption_discards_pending_measurements(reader: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, started, seen = threading.Event(), threading.Event(), list[Any]()

    def slow(engine: Engine, due: Any, *rest: Any) -> list[Any]:
        started.set()
        assert gate.wait(LONG_S)
        seen.append((due.end_s, due.clip.subtitle))
        return []

    monkeypatch.setattr(module, "clips_of", slow)

    async def talk(speaker: Speaker) -> None:
        speaker.hear(bytes(2 * RATE_HZ))
        await asyncio.to_thread(started.wait, LONG_S)
        speaker.said("Of a turn that is over.")
        speaker.hear(bytes(2 * RATE_HZ))
        speaker.interrupt()
        speaker.said("Of the next.")
        gate.set()
        assert await speaker.settle(LONG_S)

    alone(reader, talk)
    assert seen == [(1.0, None), (2.0, "Of the next.")]


def test_failed_measurement_is_logged_without_its_message(
    reader: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> list[Any]:
        raise ValueError("what the speaker said")

    monkeypatch.setattr(module, "clips_of", broken)

    async def talk(speaker: Speaker) -> None:
        speaker.hear(bytes(2 * RATE_HZ))
        assert await speaker.settle(LONG_S)
        assert speaker.context == SpeakerContext()
        monkeypatch.setattr(module, "clips_of", lambda *_: [])
        speaker.hear(bytes(2 * RATE_HZ))
        assert await speaker.settle(LONG_S)
        assert speaker.context.end_s == 2.0  # the stream went on

    with caplog.at_level(logging.DEBUG):
        alone(reader, talk)
    assert "a measurement failed: ValueError" in caplog.text
    assert "what the speaker said" not in caplog.text


def test_closed_speaker_ignores_input(reader: Engine) -> None:
    async def talk(speaker: Speaker) -> None:
        await speaker.aclose()
        speaker.hear(bytes(2 * RATE_HZ))
        assert speaker.pending == 0
        assert await speaker.settle(LONG_S)
        assert [context async for context in speaker.readings()] == []

    alone(reader, talk)


def measured(modalities: tuple[str, ...], **tasks: dict[str, float]) -> SpeakerContext:
    read = {key: Measured(label=max(p, key=p.__getitem__), smoothed=p, raw=p) for key, p in tasks.items()}
    return SpeakerContext(state="measured", trigger="interval", end_s=2.0, modalities=modalities, tasks=read)


@pytest.mark.parametrize(
    ("context", "sentence"),
    [
        (
            measured(("speech",), mer={"sad": 0.714, "calm": 0.1}, msa={"negative": 0.8, "neutral": 0.2}),
            "The speaker sounds sad (0.71); sentiment: negative (0.80).",
        ),
        (
            measured(("vision", "speech", "face"), mer={"sad": 0.5, "calm": 0.3}),
            "The speaker looks and sounds sad (0.50), maybe calm (0.30).",
        ),
        (measured(("vision", "face"), mer={"sad": 1.0}), "The speaker looks sad (1.00)."),
        (measured(("text",), msa={"negative": 0.6, "neutral": 0.1}), "The speaker seems negative (0.60)."),
        (measured(("speech",), mir={"complain": 0.6}), "The speaker may have this intent: complain (0.60)."),
    ],
)
def test_instructions_for_the_language_model(context: SpeakerContext, sentence: str) -> None:
    assert context.to_instructions() == f"{sentence} {CAUTION}"


def test_channels_are_mixed_down() -> None:
    stereo = np.array([[100, 200], [-5, -7]], "<i2")
    assert np.frombuffer(mono(stereo.tobytes(), 2), "<i2").tolist() == [150, -6]
    assert mono(b"\1\2", 1) == b"\1\2"


@pytest.mark.parametrize(("framework", "name"), [("livekit", "LiveKit Agents need"), ("pipecat", "Pipecat needs")])
def test_a_missing_framework_is_named(framework: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"nanoemox.serving.plugins.{framework}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    for loaded in [m for m in sys.modules if m.split(".")[0] == framework]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, framework, None)
    with pytest.raises(NanoEmoXError, match=rf"{name} {framework}\S*: pip install 'nanoemox\[{framework}\]'"):
        importlib.import_module(module)


def test_the_adapters_need_no_web_framework() -> None:
    assert not {"fastapi", "starlette", "uvicorn"} & loaded_after("import nanoemox.serving.plugins.speaker")
