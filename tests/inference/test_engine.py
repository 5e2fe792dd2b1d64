"""A card equals six separate answers for any missing modality; batches, streams and timelines equal single answers."""

from __future__ import annotations

import subprocess
import sys
import threading
import wave
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

from nanoemox.faces.tracks import NO_FACE
from nanoemox.inference.decoding import Decoder, GenerationOptions
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions
from nanoemox.inference.timeline import TimelineOptions
from nanoemox.media.load import clip_from_arrays, load_clip, media_duration_s
from nanoemox.model.processing import Ask
from nanoemox.tasks import ALL_TASKS, DEFAULT_LABELS, LABEL_SETS, TASKS
from nanoemox.types import Answer, CheckpointError, Clip, MediaArrays, MediaError, NanoEmoXError, Turn
from tests.inference.test_transcribe import HEARD, Fake
from tests.tiny import save_tiny, tiny_clip, tiny_config, tiny_model, tiny_processor

SHORT = AnswerOptions(generation=GenerationOptions(max_new_tokens=16))
SAMPLE = Path(__file__).parents[2] / "src/nanoemox/assets/sample.mp4"
DIALOGUE = (Turn("A", "How did it go?"), Turn("B", "Wait."))
CLIPS = {
    "complete": tiny_clip(1),
    "history": tiny_clip(2, history=DIALOGUE),
    "no audio": tiny_clip(3, without=("speech",)),
    "no face": tiny_clip(4, without=("face",)),
    "no vision": tiny_clip(5, without=("vision",)),
    "no words": tiny_clip(6, without=("text",)),
    "text only": tiny_clip(7, without=("vision", "speech", "face"), subtitle="It is all over now, I am afraid."),
    "audio only": tiny_clip(8, without=("vision", "face", "text")),
}


def make(**sections: Any) -> Engine:
    config = tiny_config(**sections)
    return Engine(tiny_model(config), tiny_processor(config), "tiny")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return make()


def separate(engine: Engine, clip: Clip, ask: Ask) -> dict[str, float] | str:
    """One task alone: a fresh full prompt, no shared prefix, the library's own loops."""
    model, processor = engine.model, engine.processor
    batch = processor([clip], [ask])
    if not TASKS[ask.task].closed:
        out = model.generate(**batch, max_new_tokens=16, do_sample=False, eos_token_id=processor.terminator_ids)
        ids = out[0, batch["input_ids"].shape[1] :].tolist()
        end = processor.terminator_ids[0]
        return processor.tokenizer.decode(ids[: ids.index(end)] if end in ids else ids)
    logs = []
    for label in ask.labels or ():
        full = processor([clip], [replace(ask, answer=label)])
        with torch.no_grad():
            logits = model(**{k: v for k, v in full.items() if k != "labels"}).logits.log_softmax(-1)
        where = full["labels"][0] != -100
        logs.append(logits[0, :-1][where[1:]].gather(1, full["input_ids"][0, where][:, None]).sum())
    shares = torch.stack(logs).double().softmax(0).tolist()
    return dict(zip(ask.labels or (), shares, strict=True))


@pytest.mark.parametrize("name", CLIPS)
def test_card_equals_six_separate_answers(engine: Engine, name: str) -> None:
    clip = CLIPS[name]
    card = engine.answer(clip, options=SHORT)
    assert tuple(card.tasks) == ALL_TASKS
    assert card.modalities == clip.modalities
    for key, reading in card.tasks.items():
        wanted = separate(engine, clip, Ask(key, labels=DEFAULT_LABELS.get(key)))
        if isinstance(wanted, str):
            assert reading.raw == wanted
        else:
            assert reading.probabilities == pytest.approx(wanted, abs=1e-5)
            assert sum(wanted.values()) == pytest.approx(1)
            assert reading.label == reading.raw == max(wanted, key=wanted.__getitem__)


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_card_equals_separate_answers_with_other_language_models(model_type: str) -> None:
    config = tiny_config(model_type)
    engine = Engine(tiny_model(config), tiny_processor(config))
    card = engine.answer(CLIPS["history"], ("mir", "erg"), options=SHORT)
    wanted = separate(engine, CLIPS["history"], Ask("mir", labels=DEFAULT_LABELS["mir"]))
    assert card.tasks["mir"].probabilities == pytest.approx(wanted, abs=1e-5)
    assert card.tasks["erg"].raw == separate(engine, CLIPS["history"], Ask("erg"))


def same(one: Answer, two: Answer) -> None:
    assert (one.clip, one.modalities, one.warnings) == (two.clip, two.modalities, two.warnings)
    assert one.gate == (None if two.gate is None else pytest.approx(two.gate, abs=1e-5))
    assert one.tasks.keys() == two.tasks.keys()
    for key, reading in one.tasks.items():
        other = two.tasks[key]
        assert reading.raw == other.raw
        if reading.probabilities is not None:
            assert reading.probabilities == pytest.approx(other.probabilities, abs=1e-5)


@pytest.mark.parametrize("normalise", ["clip", "batch"])
def test_many_equals_one_by_one(normalise: str) -> None:
    engine = make(speech={"normalise": normalise})
    answers = engine.answer_many(CLIPS.values(), options=replace(SHORT, explain=True), batch_size=3)
    for clip, answer in zip(CLIPS.values(), answers, strict=True):
        alone = engine.answer(clip, options=replace(SHORT, explain=True))
        same(answer, alone)
        assert answer.evidence is not None
        assert alone.evidence is not None
        for field in ("frame_attention", "window_attention"):
            one, two = getattr(answer.evidence, field), getattr(alone.evidence, field)
            assert (one is None) == (two is None)
            if one is not None:
                np.testing.assert_allclose(one, two, atol=1e-4)


def test_many_is_lazy(engine: Engine) -> None:
    taken = []

    def clips() -> Any:
        for i, clip in enumerate(CLIPS.values()):
            taken.append(i)
            yield clip

    answers = engine.answer_many(clips(), ("msa",), batch_size=2)
    assert not taken
    next(answers)
    assert taken == [0, 1, 2, 3]  # a batch, and one that is read meanwhile
    answers.close()


def test_the_next_batch_is_read_while_one_is_answered(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, was_read = engine.model.encode, threading.Event()

    def encode(media: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert was_read.wait(60)
        return whole(media)

    def second() -> Clip:
        was_read.set()
        return CLIPS["history"]

    monkeypatch.setattr(engine.model, "encode", encode)
    answers = list(engine.answer_many([CLIPS["complete"], second], ("msa",), batch_size=1))
    assert [a.clip for a in answers] == ["noise-1", "noise-2"]


def test_many_goes_on_past_a_bad_clip(engine: Engine, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a clip")
    clips = [CLIPS["complete"], bad, Clip("empty"), CLIPS["no face"]]
    failed: dict[int, str] = {}
    answers = list(engine.answer_many(clips, ("msa",), on_error=lambda i, e: failed.update({i: str(e)})))
    assert [a.clip for a in answers] == ["noise-1", "noise-4"]
    assert sorted(failed) == [1, 2]
    with pytest.raises(MediaError):
        list(engine.answer_many(clips, ("msa",)))


def test_a_full_device_fails_a_batch_but_not_its_clips(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine.model.encode
    room = 1

    def encode(media: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if max(map(len, media.values()), default=0) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(media)

    monkeypatch.setattr(engine.model, "encode", encode)
    clips, failed = [CLIPS["complete"], CLIPS["history"]], dict[int, str]()
    answers = list(engine.answer_many(clips, ("msa",), on_error=lambda i, e: failed.update({i: str(e)})))
    assert [a.clip for a in answers] == ["noise-1", "noise-2"]
    assert failed == {}
    room = 0
    with pytest.raises(NanoEmoXError, match="memory of the device is full: take fewer or shorter clips"):
        engine.answer(clips[0], ("msa",))
    with pytest.raises(NanoEmoXError, match="memory of the device is full"):
        engine.decide(clips[0], ["predicate: Is the speaker glad?"])


def test_a_file_its_bytes_and_an_open_file_are_one_clip(engine: Engine) -> None:
    with SAMPLE.open("rb") as file:
        answers = [engine.answer(source, ("msa",)).tasks for source in (SAMPLE, SAMPLE.read_bytes(), file)]
    assert answers[0] == answers[1] == answers[2]


def test_what_is_no_clip_is_named(engine: Engine, tmp_path: Path) -> None:
    for source in (5, ["sample.mp4"]):
        with pytest.raises(MediaError, match=f"{type(source).__name__} is no clip: give a file"):
            engine.answer(source, ("msa",))  # type: ignore[arg-type]
    (tmp_path / "a.mp4").write_text("x")
    with (tmp_path / "a.mp4").open() as file, pytest.raises(MediaError, match="opened as text"):
        engine.answer(file, ("msa",))  # type: ignore[arg-type]
    silence = MediaArrays(waveform=np.zeros(16_000, np.float32))
    with pytest.raises(MediaError, match=r"no sound \(.*silen.*\) and no subtitle"):
        engine.answer(silence, ("msa",))


@pytest.mark.parametrize("task", ALL_TASKS)
def test_stream_pieces_join_to_the_answer(engine: Engine, task: str) -> None:
    for clip in (CLIPS["complete"], CLIPS["text only"]):
        whole = engine.answer(clip, (task,), options=SHORT).tasks[task].raw
        pieces = list(engine.stream(clip, task, options=SHORT))
        assert "".join(pieces) == whole
        assert all(pieces)
        assert len(pieces) == 1 or not TASKS[task].closed


def test_tasks_do_not_influence_each_other(engine: Engine) -> None:
    drawn = GenerationOptions(max_new_tokens=12, temperature=1.0, top_p=0.9, seed=3)
    card = engine.answer(CLIPS["complete"], options=AnswerOptions(generation=drawn))
    for key in ALL_TASKS:
        alone = engine.answer(CLIPS["complete"], (key,), options=AnswerOptions(generation=drawn))
        assert alone.tasks[key].raw == card.tasks[key].raw
    other = engine.answer(CLIPS["complete"], ("eri",), options=AnswerOptions(generation=replace(drawn, seed=4)))
    assert other.tasks["eri"].raw != card.tasks["eri"].raw


def test_labels_with_shared_starts(engine: Engine) -> None:
    labels = LABEL_SETS["mintrec2"]
    assert {"ask for help", "asking for opinions"} <= set(labels)
    reading = engine.answer(CLIPS["complete"], ("mir",), labels).tasks["mir"]
    wanted = separate(engine, CLIPS["complete"], Ask("mir", labels=labels))
    assert reading.probabilities == pytest.approx(wanted, abs=1e-5)


def test_own_labels_keep_their_spelling(engine: Engine) -> None:
    reading = engine.answer(CLIPS["complete"], labels={"mer": ["Very_Happy", "Sad"]}).tasks["mer"]
    assert set(reading.probabilities or ()) == {"Very_Happy", "Sad"}
    assert reading.raw in ("very happy", "sad")
    assert engine.answer(CLIPS["complete"], ("msa",), ["Positive", "Negative"]).tasks["msa"].valence is not None


def test_the_spelling_of_labels_changes_no_probability(engine: Engine) -> None:
    spelt = (["ask for help", "joke"], ["ask_for_help", "Joke"], ["Ask for Help", "JOKE"])
    found = [engine.answer(CLIPS["complete"], ("mir",), labels).tasks["mir"].probabilities for labels in spelt]
    assert list(found[0].values()) == list(found[1].values()) == list(found[2].values())


@pytest.mark.parametrize(
    ("tasks", "labels", "says"),
    [
        (("mer",), [], "at least one"),
        (("mer",), ["happy", " Happy"], "given twice: happy"),
        (("mer",), ["happy", " "], "none that is empty"),
        (("mer",), "happy", "not one string"),
        (ALL_TASKS, ["happy"], "there are 3"),
        (("eri",), ["happy"], "there are 0"),
        (("eri",), {"mer": ["happy"]}, "not among the closed tasks"),
        (("joy",), None, "the tasks are msa"),
        ((), None, "no task"),
    ],
)
def test_invalid_tasks_and_labels_are_refused(engine: Engine, tasks: Any, labels: Any, says: str) -> None:
    with pytest.raises(NanoEmoXError, match=says):
        engine.answer(CLIPS["complete"], tasks, labels)


def test_without_think_the_question_changes(engine: Engine) -> None:
    quick = engine.answer(CLIPS["complete"], ("erg",), options=replace(SHORT, think=False)).tasks["erg"]
    assert quick.raw == separate(engine, CLIPS["complete"], Ask("erg", think=False))


@pytest.mark.parametrize("written", ["<think>\n<ref>\nYou think of yourself, right.", "<think>\nscenario: a talk"])
def test_a_reply_lost_in_its_chain_is_asked_for_without_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """The first text is what ``small`` wrote to a real clip: the chain is opened and never closed."""
    lost = engine.processor.tokenizer.encode(written, add_special_tokens=False)
    chained = engine.processor.question_ids(Ask("erg"))
    finish = Decoder.finish

    def never_closed(decoder: Decoder) -> list[list[int]]:
        answers = finish(decoder)
        return [lost if q == chained else ids for q, ids in zip(decoder.questions, answers, strict=True)]

    monkeypatch.setattr(Decoder, "finish", never_closed)
    clips = [CLIPS["complete"], CLIPS["text only"], CLIPS["history"]]
    for clip, card in zip(clips, engine.answer_many(clips, options=SHORT), strict=True):
        reading = card.tasks["erg"]
        assert reading.raw == separate(engine, clip, Ask("erg", think=False))
        assert reading.reply
        assert reading.think is None
        assert card.tasks["eri"].raw == separate(engine, clip, Ask("eri"))


def test_empty_clip_is_refused(engine: Engine) -> None:
    with pytest.raises(MediaError, match="nothing to answer from"):
        engine.answer(Clip("void"))


def test_a_prompt_that_is_too_long(engine: Engine) -> None:
    with pytest.raises(NanoEmoXError, match="the model takes 1024: shorten subtitle"):
        engine.answer(tiny_clip(subtitle="word " * 3000))


def test_gate_evidence_and_timing(engine: Engine) -> None:
    answer = engine.answer(CLIPS["complete"], ("msa",), options=AnswerOptions(explain=True))
    assert answer.gate is not None
    assert len(answer.gate) == 3
    assert sum(answer.gate) == pytest.approx(1, abs=1e-4)
    evidence = answer.evidence
    assert evidence is not None
    assert evidence.frame_attention is not None
    assert evidence.window_attention is not None
    assert evidence.window_spans_s is not None
    assert evidence.face_boxes is not None
    assert evidence.frame_attention.sum() == pytest.approx(1, abs=1e-4)
    assert evidence.window_attention.sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(evidence.window_spans_s[[0, -1]], [[0, 0.5], [1.0, 1.5]])
    assert set(answer.timing_s) == {"load", "encode", "closed", "open", "total"}
    assert engine.answer(CLIPS["no audio"], ("msa",)).gate is None
    assert engine.answer(CLIPS["complete"], ("msa",)).evidence is None


def test_long_clip_warns_about_coverage(engine: Engine) -> None:
    answer = engine.answer(tiny_clip(duration_s=9.0), ("msa",))
    assert any("--every" in w for w in answer.warnings)


def test_timeline_covers_the_file(engine: Engine) -> None:
    answers = list(engine.timeline(SAMPLE, TimelineOptions(1.0, 2.0, tasks=("msa",))))
    spans = [a.span_s for a in answers]
    assert spans[0] == (0.0, 2.0)
    assert len({a.tasks["msa"].probabilities["positive"] for a in answers if a.tasks["msa"].probabilities}) > 1
    assert spans[-1] is not None
    assert spans[-1][1] == pytest.approx(engine.load(SAMPLE).duration_s, abs=1e-6)
    clip = engine.load(SAMPLE, span_s=(0.0, 2.0))
    same(replace(answers[0], span_s=None), engine.answer(clip, ("msa",)))
    with pytest.raises(NanoEmoXError, match="every 0 s"):
        list(engine.timeline(SAMPLE, TimelineOptions(0.0, 2.0)))


def sparse_video(path: Path, seconds: range, waveform: np.ndarray | None = None) -> Path:
    """One small picture at each of these seconds, and the same second of sound, int16[16000], over and over."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt, video.gop_size = 64, 48, "yuv420p", 1
        video.codec_context.time_base = Fraction(1, 100)
        sound = None if waveform is None else out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for second in range(seconds.stop):
            if second in seconds:
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), second % 250, np.uint8), format="rgb24")
                frame.pts, frame.time_base = 100 * second, Fraction(1, 100)
                out.mux(video.encode(frame))
            if sound is not None and waveform is not None:
                heard = av.AudioFrame.from_ndarray(waveform[None], format="s16", layout="mono")
                heard.sample_rate, heard.time_base, heard.pts = 16_000, Fraction(1, 16_000), 16_000 * second
                out.mux(sound.encode(heard))
        out.mux(video.encode(None))
    return path


def write_wav(path: Path, seconds: float, silent: slice) -> Path:
    noise = np.random.default_rng(0).normal(0, 3000, int(seconds * 16_000)).astype(np.int16)
    noise[silent] = 0
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(noise.tobytes())
    return path


def test_empty_window_gives_an_answer_with_a_warning(engine: Engine, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "pause.wav", 6, slice(2 * 16_000, 4 * 16_000))
    answers = list(engine.timeline(path, TimelineOptions(2.0, 2.0, tasks=("msa",))))
    assert [a.span_s for a in answers] == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)]
    assert [list(a.tasks) for a in answers] == [["msa"], [], ["msa"]]
    (warning,) = answers[1].warnings
    assert warning.startswith("no answer for this window: nothing to answer from")
    assert answers[1].modalities == ()
    with pytest.raises(MediaError):
        list(engine.timeline(tmp_path / "absent.wav", TimelineOptions(2.0, 2.0)))


def test_image_is_one_window(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((48, 64, 3), 90, np.uint8))
    (answer,) = engine.timeline(path, TimelineOptions(1.0, 2.0, tasks=("msa",)))
    assert answer.span_s == (0.0, 0.0)
    same(replace(answer, span_s=None), engine.answer(path, ("msa",)))


def test_long_file_is_answered_window_by_window(engine: Engine, tmp_path: Path) -> None:
    path = sparse_video(tmp_path / "long.mkv", range(0, 7201, 60))
    assert media_duration_s(path) == pytest.approx(7200, abs=1)
    answers = list(engine.timeline(path, TimelineOptions(1800.0, 1800.0, tasks=("msa",))))
    assert [a.span_s[0] for a in answers if a.span_s][:4] == [0, 1800, 3600, 5400]
    assert all(a.tasks for a in answers)
    with pytest.raises(NanoEmoXError, match="more than 100000 windows"):
        list(engine.timeline(path, TimelineOptions(0.01, 1.0, tasks=("msa",))))


def test_duration_of_files_with_missing_or_wrong_metadata(tmp_path: Path) -> None:
    whole = sparse_video(tmp_path / "whole.mkv", range(0, 600, 2))
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 2])
    assert media_duration_s(whole) == pytest.approx(598, abs=1)
    assert 200 < media_duration_s(cut) < 450
    stream = tmp_path / "stream.mkv"
    with av.open(str(whole)) as source, av.open(str(stream), "w", format="matroska", options={"live": "1"}) as out:
        track = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = track
                out.mux(packet)
    with av.open(str(stream)) as opened:
        assert opened.duration is None
    assert media_duration_s(stream) == pytest.approx(598, abs=1)


@pytest.mark.slow
def test_three_hours_within_one_gigabyte(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 3000, 16_000).astype(np.int16)
    path = sparse_video(tmp_path / "talk.mkv", range(0, 3 * 3600, 5), noise)
    program = (
        "import resource, sys\n"
        "from nanoemox import Engine, TimelineOptions\n"
        "engine = Engine.from_pretrained(device='cpu')\n"
        "options = TimelineOptions(600.0, 600.0, tasks=('msa',))\n"
        "n = sum(bool(a.tasks) for a in engine.timeline(sys.argv[1], options))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    answered, peak_mb = map(int, done.stdout.split())
    assert answered == 18
    assert peak_mb < 1000


def test_loaded_clip_gets_its_face() -> None:
    engine = Engine.from_pretrained(device="cpu")
    of_file, of_clip = engine.answer(SAMPLE, ("mer",)), engine.answer(load_clip(SAMPLE), ("mer",))
    assert "face" in of_file.modalities
    same(of_clip, of_file)
    nobody = engine.load(write_png(np.full((48, 64, 3), 90, np.uint8)))
    assert engine.answer(nobody, ("mer",)).warnings.count(NO_FACE) == 1


def write_png(picture: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1])


def test_arrays_and_text_are_answered_like_files(engine: Engine) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (50, 48, 64, 3), dtype=np.uint8)
    sound = rng.normal(0, 0.1, 44_100).astype(np.float32)
    clip = clip_from_arrays(frames, 25.0, sound, 44_100, num_frames=4, subtitle="Well.", history=DIALOGUE)
    arrays = MediaArrays(frames, 25.0, sound, 44_100)
    answer = engine.answer(arrays, ("msa",), text="Well.", history=DIALOGUE)
    same(answer, engine.answer(clip, ("msa",)))
    (one_of_many,) = engine.answer_many([arrays], ("msa",))
    assert one_of_many.modalities == ("vision", "speech")
    assert answer.modalities == ("vision", "speech", "text")
    alone = engine.answer(text="Well.", options=SHORT)
    assert alone.modalities == ("text",)
    assert alone.warnings == ()
    same(alone, engine.answer(Clip("words", subtitle="Well."), options=SHORT))
    same(
        engine.answer(CLIPS["complete"], ("msa",), text=" x "),
        engine.answer(replace(CLIPS["complete"], subtitle="x"), ("msa",)),
    )
    same(engine.answer(SAMPLE, ("msa",), text="x"), engine.answer(engine.load(SAMPLE, subtitle="x"), ("msa",)))
    for nothing in (None, MediaArrays()):
        with pytest.raises(NanoEmoXError, match="no frames, no sound and no subtitle"):
            engine.answer(nothing, text=" ")


def test_sound_in_the_wrong_layout_is_named_and_the_shortest_sound_read(engine: Engine) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (44_100, 2)).astype(np.float32)
    with pytest.raises(MediaError, match=r"looks like \[S, C\]"):
        engine.answer(MediaArrays(waveform=noise, sample_rate_hz=44_100), ("mer",))
    short = MediaArrays(waveform=noise.T[:, :2], sample_rate_hz=96_000)
    assert engine.answer(short, ("mer",), text="Hm.").modalities == ("text",)


def test_arrays_are_transcribed_like_files(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanoemox.inference.engine.find_transcriber", lambda *given: Fake(HEARD))
    arrays = MediaArrays(waveform=np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32))
    answer = engine.answer(arrays, ("mer",))
    assert answer.heard == HEARD
    assert "text" in answer.modalities
    assert engine.answer(arrays, ("mer",), text="").heard is None


def test_subtitles_of_another_part_of_the_film_are_named(engine: Engine, tmp_path: Path) -> None:
    clip = tmp_path / "late.mp4"
    clip.write_bytes(SAMPLE.read_bytes())
    clip.with_suffix(".srt").write_text("1\n00:10:00,000 --> 00:10:02,000\nToo late.\n", "utf-8")
    with pytest.raises(MediaError, match="none of its 1 subtitle cues lies within its 4"):
        list(engine.timeline(clip, TimelineOptions(by="utterance", tasks=("mer",))))


def test_embeddings_equal_the_prompt_embeddings(engine: Engine) -> None:
    clip = CLIPS["complete"]
    embedding = engine.embed(clip)
    sizes = engine.processor.config.tokens_per_branch
    assert {b: t.shape for b, t in embedding.tokens.items()} == {b: (n, 32) for b, n in sizes.items()}
    batch = engine.processor([clip], [Ask("msa")])
    ids = batch.pop("input_ids")
    batch.pop("attention_mask")
    with torch.no_grad():
        embedded, _ = engine.model.embed(ids, batch)
    for branch, place in engine.processor.config.placeholder_token_ids.items():
        np.testing.assert_allclose(embedding.tokens[branch], embedded[0, ids[0] == place].numpy(), atol=1e-6)
        np.testing.assert_allclose(embedding.pooled[branch], embedding.tokens[branch].mean(0), atol=1e-6)
    assert set(engine.embed(CLIPS["no audio"]).tokens) == {"vision", "face"}
    with pytest.raises(MediaError, match="nothing to embed"):
        engine.embed(CLIPS["text only"])


def test_saved_model_answers_the_same(engine: Engine, tmp_path: Path) -> None:
    loaded = Engine.from_pretrained(save_tiny(tmp_path / "tiny"), device="cpu")
    assert loaded.name == "tiny"
    same(loaded.answer(CLIPS["complete"], options=SHORT), engine.answer(CLIPS["complete"], options=SHORT))


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    tiny_model().half().save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    assert Engine.from_pretrained(tmp_path, device="cpu").model.dtype == torch.float32


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("no/such/folder", "no such model directory"),
        ("nobody/nothing-here", "hf download nobody/nothing-here"),
    ],
)
def test_missing_models_are_named(model: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        Engine.from_pretrained(model)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lacks config\.json, tokenizer\.json, model\.safetensors"):
        Engine.from_pretrained(tmp_path)
    folder = save_tiny(tmp_path / "cut")
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        Engine.from_pretrained(folder)


def test_missing_devices_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'quantum' is unknown"):
        Engine.from_pretrained(tmp_path, device="quantum")
    if not torch.cuda.is_available():
        with pytest.raises(CheckpointError, match="choose auto or cpu"):
            Engine.from_pretrained(tmp_path, device="cuda")
