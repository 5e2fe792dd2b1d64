"""Served models: requests and responses, with a faulty local server."""

from __future__ import annotations

import base64
import io
import json
import wave
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from nanoemox.benchmarks import remote_prompts as prompts
from nanoemox.benchmarks.records import BENCHMARKS
from nanoemox.benchmarks.remote import FAILURES_IN_A_ROW, LONGEST_SIDE, parse_modalities, to_jpeg
from nanoemox.media.load import load_clip
from nanoemox.tasks import TASKS
from nanoemox.types import NanoEmoXError, Turn
from tests.benchmarks.served import MELD, TALK, asking, parts, said, sample
from tests.judging.fake_endpoint import Says, in_turn

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_images_audio_and_text_arrive_unchanged(tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").write_bytes(TALK.read_bytes())
    talk = sample("a", media="talk.mp4", history=(Turn(role="Ross", text='He said "hi".'),))
    with asking(tmp_path, in_turn(Says("The answer is: Joy.")), [talk], frames=3) as (model, fake):
        (found,) = model.answer(MELD, [talk])
    (request,) = fake.requests
    clip = load_clip(TALK, num_frames=3)
    assert clip.frames is not None
    assert clip.waveform is not None
    urls = parts(request, "image_url")
    assert len(urls) == 3
    for url, frame in zip(urls, clip.frames, strict=True):
        head, _, data = url["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        scale = LONGEST_SIDE / max(frame.shape[:2])
        if scale < 1:
            frame = cv2.resize(frame, shown.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(shown.astype(int) - frame).mean() < 4
    (sound,) = parts(request, "input_audio")
    assert sound["format"] == "wav"
    with wave.open(io.BytesIO(base64.b64decode(sound["data"]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    assert np.abs(heard - clip.waveform).max() < 1e-4
    assert [m["role"] for m in request["messages"]] == ["system", "user"]
    assert f"exactly one of: {', '.join(MELD.labels)}." in said(request)
    assert 'Ross: "He said \\"hi\\"."' in said(request)
    assert 'The person says: "I am a."' in said(request)
    assert (request["temperature"], request["seed"]) == (0, 0)
    assert (found.raw, found.error) == ("The answer is: Joy.", None)
    assert found.parsed == {"label": "joy", "raw": "The answer is: Joy."}
    assert found.timing_s["total"] > 0


def test_only_supported_modalities_are_sent(tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").write_bytes(TALK.read_bytes())
    talk = sample("a", media="talk.mp4")
    counts = {}
    for shown in ("text", "frames", "audio", "text,frames"):
        with asking(tmp_path, in_turn(Says("joy")), [talk], modalities=parse_modalities(shown)) as (model, fake):
            model.answer(MELD, [talk])
            request = fake.requests[0]
            counts[shown] = (
                len(parts(request, "image_url")),
                len(parts(request, "input_audio")),
                "I am a" in said(request),
            )
    assert counts == {
        "text": (0, 0, True), "frames": (8, 0, False), "audio": (0, 1, False), "text,frames": (8, 0, True),
    }  # fmt: skip
    assert parse_modalities(" audio, text") == ("text", "audio")
    for wrong in ("", "text,video"):
        with pytest.raises(NanoEmoXError, match="give some of text,frames,audio"):
            parse_modalities(wrong)


def test_large_images_are_scaled_down() -> None:
    for shape, wanted in (((1080, 1920, 3), (288, 512)), ((60, 40, 3), (60, 40)), ((3, 5000, 3), (1, 512))):
        data = np.frombuffer(to_jpeg(np.zeros(shape, np.uint8)), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape[:2] == wanted


def test_prompt_hash_covers_exactly_the_prompt_text(tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").write_bytes(TALK.read_bytes())
    seen = sample("a", media="talk.mp4")
    with asking(tmp_path, in_turn(Says("joy")), [seen, sample("b")]) as (model, _):
        replies = model.answer(MELD, [seen, sample("a"), sample("b")])
    hashes = [r.prompt for r in replies]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("benchmark", [b for b in BENCHMARKS.values() if b.id != "emer"], ids=lambda b: b.id)
def test_closed_questions_list_the_labels_in_order(benchmark: Any) -> None:
    asked = prompts.question(benchmark)
    assert ", ".join(benchmark.labels) in asked
    assert "{" not in asked
    assert TASKS[benchmark.question].identifier not in asked


def test_unreadable_and_empty_clips_are_not_sent(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 64)
    broken, mute = sample("a", media="broken.mp4"), sample("b").model_copy(update={"subtitle": None})
    with asking(tmp_path, in_turn(Says("joy")), [broken, mute]) as (model, fake):
        first, second, third = model.answer(MELD, [broken, mute, sample("c")])
    assert "broken.mp4" in str(first.error)
    assert "has none of what is sent" in str(second.error)
    assert third.parsed is not None
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", [400, 422, 500])
def test_rejected_content_type_names_the_remedy(tmp_path: Path, status: int) -> None:
    (tmp_path / "talk.mp4").write_bytes(TALK.read_bytes())
    talk = sample("a", media="talk.mp4")

    def picky(request: dict[str, Any]) -> Says:
        return Says("no audio here", status=status) if parts(request, "input_audio") else Says("joy")

    with asking(tmp_path, picky, [talk]) as (model, _):
        first, second = model.answer(MELD, [talk, sample("b")])
    assert f"status {status}" in str(first.error)
    assert "takes no frames or no audio, leave them out of --modalities" in str(first.error)
    assert (first.parsed, second.parsed) == (None, {"label": "joy", "raw": "joy"})


@pytest.mark.parametrize(
    "mischief", [Says(status=429), Says(status=500), Says(body="garbage"), Says("long", cut=True), Says(" ")]
)
def test_a_failed_call_leaves_its_clip_unanswered(tmp_path: Path, mischief: Says) -> None:
    def moody(request: dict[str, Any]) -> Says:
        return mischief if "I am b." in said(request) else Says("joy")

    samples = [sample(name) for name in "abc"]
    with asking(tmp_path, moody, samples) as (model, fake):
        found = model.answer(MELD, samples)
    assert [r.parsed is None for r in found] == [False, True, False]
    assert "tried 2 times" in str(found[1].error)
    assert "--modalities" not in str(found[1].error)
    assert len(fake.requests) == 4


def test_unreachable_server_or_invalid_key_stops_the_run(tmp_path: Path) -> None:
    samples = [sample(str(i)) for i in range(FAILURES_IN_A_ROW)]
    with (
        asking(tmp_path, in_turn(Says("down", status=503)), samples) as (model, _),
        pytest.raises(NanoEmoXError, match=f"{FAILURES_IN_A_ROW} calls failed in a row"),
    ):
        model.answer(MELD, samples)
    with (
        asking(tmp_path, in_turn(Says(status=401)), samples) as (model, _),
        pytest.raises(NanoEmoXError, match="OPENAI_API_KEY"),
    ):
        model.answer(MELD, samples[:1])


def test_unparsed_answer_has_no_label_and_truncated_one_is_none(tmp_path: Path) -> None:
    cut = {"choices": [{"finish_reason": "length", "message": {"content": "<think> joy or fear"}}]}
    with asking(tmp_path, in_turn(Says("hm"), Says(body=json.dumps(cut))), [sample("a")]) as (model, _):
        vague, thinking = model.answer(MELD, [sample("a")]) + model.answer(MELD, [sample("b")])
    assert vague.parsed == {"label": None, "raw": "hm"}
    assert (thinking.parsed, thinking.raw) == (None, "<think> joy or fear")
    assert "cut" in str(thinking.error)
