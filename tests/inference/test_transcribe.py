"""Speech recognition: splitting, rejected transcripts, and words in clips, answers and timelines."""

from __future__ import annotations

import io
import json
import shutil
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import nanoemox.inference.engine
from nanoemox.cli.render import card
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import LoadOptions
from nanoemox.inference.timeline import TimelineOptions
from nanoemox.inference.transcribe import Transcriber, add_transcript, chunks, find_transcriber, is_silent, repetition
from nanoemox.media.windows import Span, utterances
from nanoemox.types import Answer, MediaError, Transcript, Word
from nanoemox.weights.ctranslate2 import WhisperSizes
from nanoemox.weights.parts import write_whisper
from tests.tiny import tiny_clip, tiny_config, tiny_model, tiny_processor
from tests.weights.small_parts import container

RATE = 16_000
SAMPLE = Path(__file__).parents[2] / "src/nanoemox/assets/sample.mp4"
HEARD = Transcript(
    "I got it. So happy!", "zh", 0.9, "translate", 0.8, 0.01,
    (Word(0.2, 0.5, "I"), Word(0.5, 0.9, "got"), Word(0.9, 1.3, "it."), Word(1.5, 2.0, "So"), Word(2.0, 2.6, "happy!")),
)  # fmt: skip


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, round(seconds * RATE)).astype(np.float32)


class Fake:
    """A recogniser that always hears the same."""

    def __init__(self, heard: Transcript | None) -> None:
        self.heard, self.calls = heard, 0

    def transcribe(self, waveform: np.ndarray) -> Transcript | None:
        self.calls += 1
        return self.heard


def test_silence_and_whisper_are_distinguished() -> None:
    assert is_silent(np.zeros(0, np.float32))
    assert is_silent(np.zeros(5 * RATE, np.float32))
    assert is_silent(noise(2, 1e-4))
    assert not is_silent(noise(0.01, 0.1))
    spoken = np.concatenate([np.zeros(4 * RATE, np.float32), noise(1, 0.02)])
    assert not is_silent(spoken)


def test_long_audio_is_split_at_quiet_points() -> None:
    sound = noise(70)
    sound[28 * RATE : 28 * RATE + 2000] = 0
    found = chunks(sound)
    assert found[0][0] == 0
    assert 28 * RATE <= found[0][1] < 28 * RATE + 2000
    assert [b for _, b in found[:-1]] == [a for a, _ in found[1:]]
    assert found[-1][1] == len(sound)
    assert max(b - a for a, b in found) <= 30 * RATE
    assert chunks(sound[: 30 * RATE]) == [(0, 30 * RATE)]


def test_repetition_is_detected() -> None:
    assert repetition("safely " * 60) > 2.4 > repetition("But I can safely assure you that it would still be a hit.")
    assert repetition("") == 0


def test_words_become_utterances() -> None:
    assert utterances(HEARD.words, 3.0) == ((Span(0.2, 1.3), "I got it."), (Span(1.5, 2.6), "So happy!"))
    pause = [Word(0, 0.3, "well"), Word(1.5, 1.8, "yes")]
    assert [text for _, text in utterances(pause, 2.0)] == ["well", "yes"]
    late = utterances([Word(1.95, 2.0, "Oh!")], 2.0)[0][0]
    assert late.start_s == 1.5
    assert late.end_s == 2.0
    long = [Word(i * 0.5, i * 0.5 + 0.5, "la") for i in range(80)]
    assert max(span.end_s - span.start_s for span, _ in utterances(long, 40.0)) <= 15
    assert utterances([], 3.0) == ()


def test_only_clips_without_subtitle_are_transcribed() -> None:
    bare = replace(tiny_clip(without=("text",)), warnings=("no words: no subtitle was given or found",))
    clip = add_transcript(bare, Fake(HEARD))
    assert (clip.subtitle, clip.heard, clip.warnings) == (HEARD.text, HEARD, ())
    assert add_transcript(bare, Fake(None)).warnings[-1] == "no speech was heard in the sound"
    spoken = Fake(HEARD)
    assert add_transcript(tiny_clip(), spoken).heard is None
    assert add_transcript(tiny_clip(without=("speech", "text")), spoken).subtitle is None
    assert spoken.calls == 0


@pytest.fixture
def engine() -> Engine:
    config = tiny_config()
    return Engine(tiny_model(config), tiny_processor(config), "tiny")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((noise(3) * 20_000).astype(np.int16).tobytes())
    return path


def test_engine_transcribes_unless_given_text_or_disabled(
    engine: Engine, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nanoemox.inference.engine, "find_transcriber", lambda *_: Fake(HEARD))
    assert engine.load(sound).subtitle == HEARD.text
    assert engine.load(sound, options=LoadOptions(hear=False)).subtitle is None
    assert engine.load(sound, subtitle="").subtitle is None
    assert engine.load(sound, subtitle="auto").subtitle == "auto"
    answer = engine.answer(engine.load(sound), ("msa",))
    found = json.loads(json.dumps(answer.to_dict()))["heard"]
    assert (found["language"], found["task"], found["confidence"]) == ("zh", "translate", 0.8)
    assert found["words"][0] == {"start_s": 0.2, "end_s": 0.5, "text": "I"}
    sound.with_suffix(".srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nFrom the file.\n")
    assert engine.load(sound).subtitle == "From the file."


def test_a_timeline_by_utterance(engine: Engine, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recogniser = Fake(HEARD)
    monkeypatch.setattr(nanoemox.inference.engine, "find_transcriber", lambda *_: recogniser)
    answers = list(engine.timeline(sound, TimelineOptions(tasks=("msa",), by="utterance")))
    assert [a.span_s for a in answers] == [(0.2, 1.3), (1.5, 2.6)]
    assert [a.heard.text for a in answers if a.heard] == ["I got it.", "So happy!"]
    assert recogniser.calls == 1
    windows = list(engine.timeline(sound, TimelineOptions(1.0, 1.5, tasks=("msa",))))
    assert [a.heard for a in windows] == [HEARD] * 3  # each window is listened to by itself: a file may be hours long
    sound.with_suffix(".vtt").write_text("WEBVTT\n\n00:00.500 --> 00:01.500\nFrom the file.\n")
    assert [a.span_s for a in engine.timeline(sound, TimelineOptions(tasks=("msa",), by="utterance"))] == [(0.5, 1.5)]


def test_a_timeline_by_subtitles_inside_the_file(engine: Engine, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nanoemox.inference.engine, "find_transcriber", lambda *_: Fake(HEARD))
    by = TimelineOptions(tasks=("msa",), by="utterance")
    assert [a.span_s for a in engine.timeline(SAMPLE, by)] == [(0.0, pytest.approx(4.595))]
    film = list(engine.timeline(shared / "data/media/other/nasa_13013.mp4", by))
    assert [a.span_s for a in film[:3]] == [
        pytest.approx(s, abs=0.02) for s in ((0.21, 4.26), (4.26, 8.35), (8.35, 12.47))
    ]
    assert all(a.heard is None for a in film)


def test_words_without_times_do_not_split_utterances(
    engine: Engine, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nanoemox.inference.engine, "find_transcriber", lambda *_: Fake(HEARD))
    answers = list(
        engine.timeline(sound, TimelineOptions(tasks=("msa",), by="utterance", subtitle="I got it. So happy!"))
    )
    assert [a.span_s for a in answers] == [(0.2, 1.3), (1.5, 2.6)]


def test_without_words_there_are_no_utterances(engine: Engine, sound: Path) -> None:
    with pytest.raises(MediaError, match=r"no utterances to cut at.*nanoemox pull small"):
        list(engine.timeline(sound, TimelineOptions(tasks=("msa",), by="utterance")))


def test_card_shows_language_task_and_confidence() -> None:
    from rich.console import Console

    screen = io.StringIO()
    Console(width=100, file=screen).print(card(Answer("a.mp4", "small", {}, heard=HEARD)))
    text = screen.getvalue()
    for part in ("I got it. So happy!", "zh 90%", "translated into English", "sure 80%"):
        assert part in text


def test_no_transcriber_without_pulled_weights(tmp_path: Path) -> None:
    assert find_transcriber() is None
    with pytest.raises(MediaError, match="no directory of a Whisper model"):
        find_transcriber(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MediaError, match="cannot be loaded"):
        Transcriber(tmp_path)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of random weights and true vocabulary size, with every language token."""
    root = tmp_path_factory.mktemp("whisper")
    sizes = WhisperSizes(layers=2, width=32, inner=64, heads=2, target_positions=448)
    container(root / "model.bin", sizes)
    (root / "config.json").write_text(
        json.dumps({"lang_ids": [50_259, 50_260], "alignment_heads": [[1, 0]], "suppress_ids": [1],
                    "suppress_ids_begin": [220]})
    )  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate(alphabet)} | {f"{chr(0x120)}w{i}": i for i in range(256, 50_257)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.ByteLevel()
    whole = json.loads(tokenizer.to_str())
    whole["added_tokens"] = [
        {"id": i, "content": c, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False} for i, c in ((50_259, "<|en|>"), (50_260, "<|zh|>"))
    ]  # fmt: skip
    (root / "tokenizer.json").write_text(json.dumps(whole))
    write_whisper(root, root / "out", sizes)
    return root / "out"


def test_transcription_gates_and_times_of_a_random_whisper(whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    transcriber = Transcriber(whisper)
    assert transcriber.transcribe(np.zeros(RATE, np.float32)) is None
    assert transcriber.transcribe(noise(2)) is None, "a random model is sure of nothing"
    monkeypatch.setattr("nanoemox.inference.transcribe.LEAST_LOG_PROBABILITY", -1e9)
    monkeypatch.setattr("nanoemox.inference.transcribe.MOST_REPETITION", 1e9)
    heard = transcriber.transcribe(noise(2))
    assert heard is not None
    assert heard.language in ("en", "zh")
    assert heard.task == ("transcribe" if heard.language == "en" else "translate")
    times = [t for w in heard.words for t in (w.start_s, w.end_s)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 2
    assert " ".join(w.text for w in heard.words).split() == heard.text.split()
    again = Transcriber(whisper).transcribe(noise(2))
    assert again == heard
    monkeypatch.setattr("nanoemox.inference.transcribe.NO_SPEECH", 0.0)
    assert transcriber.transcribe(noise(2)) is None


def test_monolingual_recogniser_is_refused(whisper: Path, tmp_path: Path) -> None:
    folder = tmp_path / "english"
    shutil.copytree(whisper, folder)
    (folder / "generation_config.json").unlink()
    with pytest.raises(MediaError, match="multilingual"):
        Transcriber(folder)
