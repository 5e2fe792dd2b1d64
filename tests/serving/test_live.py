"""Live streams: bit-for-bit replay, missing evidence, nothing blocks."""

from __future__ import annotations

import itertools
import json
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

import nanoemox.inference.engine
from nanoemox.faces.detectors import DetectionCache
from nanoemox.inference.engine import Engine
from nanoemox.media.load import load_clip
from nanoemox.serving import measuring
from nanoemox.serving.limits import Limits
from nanoemox.serving.measuring import Smoother, replay
from nanoemox.serving.pictures import is_jpeg, jpeg_pixels, jpeg_size
from nanoemox.serving.rolling import Due, LiveConfig, Rolling, Speech
from nanoemox.serving.service import Service
from nanoemox.types import MediaError
from tests.inference.test_transcribe import HEARD, Fake
from tests.serving.conftest import busy_model, running, until

SAMPLE = Path(__file__).parents[2] / "src/nanoemox/assets/sample.mp4"
CHUNK = 1600


def pcm(sound: np.ndarray) -> list[bytes]:
    whole = (np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()
    return [whole[i : i + 2 * CHUNK] for i in range(0, len(whole), 2 * CHUNK)]


def jpeg(frame: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1])


@pytest.fixture(scope="module")
def stream() -> list[bytes]:
    """The sample clip between two seconds of silence, with a picture every half second."""
    clip = load_clip(SAMPLE)
    assert clip.waveform is not None
    assert clip.frames is not None
    quiet = np.zeros(16_000, np.float32)
    sound = pcm(np.concatenate([quiet, clip.waveform, quiet, quiet]))
    out = []
    for i, chunk in enumerate(sound):
        if i % 5 == 0:
            out.append(jpeg(clip.frames[(i // 5) % len(clip.frames)]))
        out.append(chunk)
    return out


def live_at(url: str) -> str:
    return url.replace("http", "ws") + "/v1/live"


class Client:
    """A client that reads on a thread of its own."""

    def __init__(self, url: str, **session: Any) -> None:
        self.wire = connect(live_at(url), open_timeout=60, ping_interval=None).__enter__()
        self.said: list[dict[str, Any]] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        if session:
            self.wire.send(json.dumps({"type": "session.update", "session": session}))

    def _read(self) -> None:
        self.said.extend(json.loads(message) for message in self.wire)

    def play(self, messages: list[bytes], pause_s: float = 0.0) -> list[dict[str, Any]]:
        for message in messages:
            self.wire.send(message)
            time.sleep(pause_s)
        self.wire.send('{"type": "session.end"}')
        self._reading.join(600)
        assert not self._reading.is_alive()
        return self.said

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [m for m in self.said if m["type"] in kinds]


def test_live_session(address: str, stream: list[bytes], engine: Engine) -> None:
    client = Client(address, interval_s=1.0, window_s=3.0, reply=True, half_life_s=2.0)
    said = client.play(stream, 0.005)
    assert said[0]["type"] == "session.created"
    assert said[0]["session"]["interval_s"] == 2.0
    updated = client.of("session.updated")[0]["session"]
    assert (updated["interval_s"], updated["reply"], updated["model"]) == (1.0, True, "tiny")
    assert said[-1] == {"type": "session.ended"}
    results = client.of("measurement.result")
    spoken = [r for r in results if r["trigger"] == "speech_ended"]
    starts, ends = client.of("utterance.start"), client.of("utterance.end")
    assert len(starts) == len(ends) >= 1
    assert 0.5 < starts[0]["at_s"] < ends[0]["at_s"]
    assert spoken
    assert spoken[0]["end_s"] == ends[0]["at_s"]
    assert client.of("reply")[0]["text"] is not None
    for r in results:
        for person in r["people"]:
            for reading in person["tasks"].values():
                assert sum(reading["raw"].values()) == pytest.approx(1, abs=1e-4)
                assert reading["label"] == max(reading["smoothed"], key=reading["smoothed"].__getitem__)


def test_recorded_session_replays_bit_for_bit(address: str, stream: list[bytes], engine: Engine) -> None:
    session = {"interval_s": 2.5, "window_s": 3.0, "faces": "all"}
    config, sent = LiveConfig.model_validate(session), 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        for message in stream:
            yield message
            sent += 1

    due = [(sent, message) for message in replay(engine, counted(), config)]
    wanted = [message for _, message in due]
    assert json.dumps(wanted) == json.dumps(list(replay(engine, stream, config)))
    client = Client(address, **session)

    def said() -> list[dict[str, Any]]:
        return client.of("utterance.start", "utterance.end", "measurement.result")

    for i, message in enumerate(stream):
        client.wire.send(message)
        # However slow this machine is, nothing is dropped: each reading is awaited.
        while len(said()) < sum(at <= i for at, _ in due):
            time.sleep(0.01)
    client.play([])
    assert json.dumps(said()) == json.dumps(wanted)


def test_speech_that_runs_to_the_end_of_the_session_is_measured(
    address: str, stream: list[bytes], engine: Engine
) -> None:
    cut = stream[:36]  # two seconds into the sentence
    session = {"interval_s": 10.0, "window_s": 10.0, "reply": True}
    wanted = list(replay(engine, cut, LiveConfig.model_validate(session)))
    assert [m["type"] for m in wanted] == ["utterance.start", "utterance.end", "measurement.result", "reply"]
    assert wanted[1]["at_s"] == wanted[2]["end_s"] == pytest.approx(3.0)
    said = Client(address, **session).play(cut)
    assert json.dumps(said[2:-1]) == json.dumps(wanted)


@pytest.fixture(scope="module")
def two_people() -> list[bytes]:
    """Three seconds without a word, with two faces in each picture: the larger on the right, looking the other way."""
    clip = load_clip(SAMPLE)
    assert clip.frames is not None
    out = []
    for i, chunk in enumerate(pcm(np.zeros(3 * 16_000, np.float32))):
        if i % 5 == 0:
            person = clip.frames[i // 5 % len(clip.frames)][30:230, 105:305]
            picture = np.full((270, 480, 3), 128, np.uint8)
            picture[60:160, 20:120] = cv2.resize(person, (100, 100), interpolation=cv2.INTER_AREA)
            picture[50:210, 250:410] = cv2.resize(person[:, ::-1], (160, 160), interpolation=cv2.INTER_AREA)
            out.append(jpeg(picture))
        out.append(chunk)
    return out


def test_the_largest_of_two_people_or_both(address: str, engine: Engine, two_people: list[bytes]) -> None:
    """Over the wire for both, beside the replay of the largest alone: the first person's readings are the same."""
    session: dict[str, Any] = {"interval_s": 1.5, "window_s": 3.0, "hear": False}
    largest = list(replay(engine, two_people, LiveConfig.model_validate(session | {"faces": "largest"})))
    client = Client(address, **session, faces="all")
    client.play(two_people, 0.005)
    both = client.of("measurement.result")
    assert [[p["face_index"] for p in r["people"]] for r in largest] == [[0], [0]]
    assert [[p["face_index"] for p in r["people"]] for r in both] == [[0, 1], [0, 1]]
    for one, two in zip(largest, both, strict=True):
        assert all(p["modalities"] == ["vision", "face"] for p in two["people"])
        assert two["people"][0] == json.loads(json.dumps(one["people"][0]))
        first, second = (p["tasks"]["mer"] for p in two["people"])
        assert first["raw"] != second["raw"]
    # Each person has a mean of their own.
    for person in (0, 1):
        early, late = (r["people"][person]["tasks"]["mer"] for r in both)
        assert early["smoothed"] == early["raw"]
        share = 0.5 ** (1.5 / 4.0)
        wanted = {k: share * early["raw"][k] + (1 - share) * late["raw"][k] for k in late["raw"]}
        assert late["smoothed"] == pytest.approx(wanted, abs=1e-5)


def test_words_are_heard_at_the_end_of_an_utterance(
    address: str, stream: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    recogniser = Fake(HEARD)
    monkeypatch.setattr(nanoemox.inference.engine, "find_transcriber", lambda *_: recogniser)
    client = Client(address, interval_s=2.5, window_s=3.0, hear=True)
    client.play(stream, 0.005)
    results = client.of("measurement.result")
    spoken = [r for r in results if r["trigger"] == "speech_ended"]
    assert recogniser.calls == len(spoken) >= 1
    for r in results:
        assert ("heard" in r) == (r["trigger"] == "speech_ended")
        assert all(("text" in p["modalities"]) == ("heard" in r) for p in r["people"])
    assert spoken[0]["heard"] == HEARD.to_dict()
    deaf = Client(address, interval_s=2.5, window_s=3.0, hear=False)
    deaf.play(stream, 0.005)
    assert not [r for r in deaf.of("measurement.result") if "heard" in r]
    assert recogniser.calls == len(spoken)


def test_detection_cache_changes_no_measurement(
    stream: list[bytes], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LiveConfig(interval_s=1.5, window_s=3.0, faces="all")
    wanted = json.dumps(list(replay(engine, stream, config)))
    looks: list[int] = []
    inner = measuring.with_face

    def noted(clip: Any, *rest: Any, cache: DetectionCache, **how: Any) -> Any:
        found = inner(clip, *rest, cache=cache, **how)
        looks.append(len(cache))
        return found

    monkeypatch.setattr(measuring, "with_face", noted)
    assert json.dumps(list(replay(engine, stream, config))) == wanted
    assert looks[-1] > looks[0] > 0  # it was used
    monkeypatch.setattr(measuring, "DetectionCache", lambda: DetectionCache(most=0))
    assert json.dumps(list(replay(engine, stream, config))) == wanted
    assert looks[-1] == 0


def test_overlapping_windows_share_images() -> None:
    rolling = Rolling(LiveConfig(interval_s=2.0, window_s=6.0, fps=5.0), 8, 10**6)
    pictures = [jpeg(np.full((8, 8, 3), i % 256, np.uint8)) for i in range(100)]
    due = [e for p in pictures for e in rolling.see(p) if isinstance(e, Due)]
    times = [d.start_s + d.clip.frame_times_s for d in due if d.clip.frame_times_s is not None]
    assert [len(t) for t in times[3:]] == [8] * len(times[3:])
    for before, after in itertools.pairwise(times[3:]):
        assert len(set(before.round(6)) & set(after.round(6))) >= 5
        assert np.diff(after).max() <= 1.5 * 6.0 / 8


def test_not_enough_evidence_is_a_state(engine: Engine) -> None:
    quiet = pcm(np.zeros(4 * 16_000, np.float32))
    scene = jpeg(np.full((48, 64, 3), 90, np.uint8))
    messages = [m for chunk in quiet for m in (chunk, scene)]
    said = list(replay(engine, messages, LiveConfig()))
    assert [m["state"] for m in said] == ["not_enough_evidence"] * 2
    assert all(m["people"] == [] for m in said)


def test_image_only_streams_use_the_frame_rate_as_clock(engine: Engine) -> None:
    rolling = Rolling(LiveConfig(fps=4.0, interval_s=1.0, window_s=2.0), 4, 10**6)
    due = [e for i in range(12) for e in rolling.see(jpeg(np.full((8, 8, 3), i, np.uint8)))]
    assert [(d.start_s, d.end_s) for d in due if isinstance(d, Due)] == [(0.0, 1.0), (0.0, 2.0), (1.0, 3.0)]
    last = due[-1]
    assert isinstance(last, Due)
    assert last.clip.frames is not None
    assert last.clip.frames.shape == (4, 8, 8, 3)
    assert last.clip.waveform is None


def test_stream_memory_is_bounded(stream: list[bytes]) -> None:
    rolling = Rolling(LiveConfig(window_s=2.0), 4, 10**7)

    def play(times: int) -> int:
        for message in stream * times:
            events = rolling.see(message) if is_jpeg(message) else rolling.hear(message)
            assert all(isinstance(e, Speech | Due) for e in events)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first = play(1)
        assert play(4) < 1.2 * first
    finally:
        tracemalloc.stop()


def test_slow_model_drops_measurements_and_keeps_the_connection(engine: Engine, stream: list[bytes]) -> None:
    service = Service(engine)
    with running(service) as url:
        client = Client(url, interval_s=0.5, window_s=2.0)
        with busy_model(service):
            for message in stream * 2:
                client.wire.send(message)
            # What needs no model comes all the same.
            until(lambda: bool(client.of("utterance.end")))
        said = client.play([])
        results = client.of("measurement.result")
        assert results[-1]["dropped"] > 0
        assert said[-1] == {"type": "session.ended"}


def test_mistakes_are_reported_and_the_session_continues(address: str) -> None:
    client = Client(address)
    wrong = [
        "{",
        "[]",
        '{"type": "guess"}',
        '{"type": "session.update", "session": {"interval_s": 99}}',
        '{"type": "session.update", "session": {"window_s": 1}}',
        '{"type": "session.update", "session": {"tasks": ["erg"]}}',
        '{"type": "session.update", "session": {"unknown": 1}}',
        '{"type": "session.update", "session": {"labels": {"mer": ["a", "a"]}}}',
        b"odd",
        b"\0" * 64_002,
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff" + b"x" * 100 + b"\xff\xd9",
    ]
    for message in wrong:
        client.wire.send(message)
    said = client.play([])
    assert len(client.of("error")) == len(wrong)
    assert said[-1] == {"type": "session.ended"}


def test_large_images_are_refused_before_decoding() -> None:
    real = jpeg(np.zeros((40, 60, 3), np.uint8))
    assert jpeg_size(real) == (60, 40)
    with pytest.raises(MediaError, match="60x40 pixels, limit 100"):
        Rolling(LiveConfig(), 4, 100).see(real)


@pytest.mark.parametrize("marker", [0x01, 0xD0, 0xD8])
def test_a_size_behind_a_marker_without_length_is_refused(marker: int) -> None:
    """A decoder skips the marker: it would find another header than the one that is checked."""
    small, large = jpeg(np.zeros((16, 16, 3), np.uint8)), jpeg(np.zeros((400, 600, 3), np.uint8))
    hidden = small[2 : small.index(b"\xff\xda")]
    crafted = b"\xff\xd8\xff" + bytes([marker]) + b"\xff\xfe\xff\xff" + hidden.ljust(65_533, b"\0") + large[2:]
    with pytest.raises(MediaError):
        jpeg_size(crafted)
    assert jpeg_size(large[:2] + b"\xff\xff" + large[2:]) == (600, 400)  # bytes that fill up are allowed


def test_an_image_beyond_the_limits_of_opencv_is_a_media_error() -> None:
    data = bytearray(jpeg(np.zeros((40, 60, 3), np.uint8)))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = b"\xff\xf0\xff\xf0"
    with pytest.raises(MediaError, match="send JPEG"):
        jpeg_pixels(bytes(data))


def test_nothing_of_the_old_session_is_measured_with_new_settings(address: str, stream: list[bytes]) -> None:
    client = Client(address, tasks=["mer"], interval_s=1.0, window_s=2.0, half_life_s=2.0)
    for message in stream:
        client.wire.send(message)
    client.wire.send('{"type": "session.update", "session": {"tasks": ["mir"]}}')
    said = client.play(stream)
    updates = [i for i, message in enumerate(said) if message["type"] == "session.updated"]
    found = [m for m in said[updates[-1] :] if m["type"] == "measurement.result"]
    readings = [reading for result in found for person in result["people"] for reading in person["tasks"].items()]
    assert {task for task, _ in readings} == {"mir"}
    assert readings[0][1]["smoothed"] == readings[0][1]["raw"]
    ends = [m["end_s"] for m in found]
    assert ends == sorted(ends)


def test_too_many_sessions(engine: Engine) -> None:
    service = Service(engine, Limits(sessions=1))
    with running(service) as url:
        first = Client(url)
        with pytest.raises((ConnectionClosedError, InvalidStatus)), connect(live_at(url), open_timeout=60) as second:
            second.recv()
        first.play([])
        deadline = time.monotonic() + 30
        while service.live_sessions and time.monotonic() < deadline:
            time.sleep(0.01)
        Client(url).play([])


def test_stream_requires_the_token(engine: Engine) -> None:
    with running(Service(engine), token="secret") as url:
        with pytest.raises((ConnectionClosedError, InvalidStatus)), connect(live_at(url), open_timeout=60) as bad:
            bad.recv()
        with connect(live_at(url), open_timeout=60, additional_headers={"Authorization": "Bearer secret"}) as good:
            assert json.loads(good.recv())["type"] == "session.created"


def test_smoothing_decays() -> None:
    smoother = Smoother(2.0)
    assert smoother.smooth(0, "mer", 0.0, {"a": 1.0, "b": 0.0}) == {"a": 1.0, "b": 0.0}
    assert smoother.smooth(0, "mer", 2.0, {"a": 0.0, "b": 1.0}) == {"a": 0.5, "b": 0.5}
    assert smoother.smooth(1, "mer", 2.0, {"a": 0.0, "b": 1.0}) == {"a": 0.0, "b": 1.0}
    assert Smoother(0).smooth(0, "mer", 2.0, {"a": 0.0}) == {"a": 0.0}
