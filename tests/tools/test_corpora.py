"""Corpora of the embedded models: released ones with template answers, and composed clips."""

from __future__ import annotations

import importlib
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from nanoemox.data.manifest import ReplyLabels, Sample, TextLabels, read_manifest, target_text
from tools.corpora import esconv, facial_expressions, goemotions, ravdess, read_corpora
from tools.corpora.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "tools").rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)


@pytest.mark.parametrize("name", MODULES)
def test_every_tool_imports(name: str) -> None:
    assert importlib.import_module(name)


def put(root: Path, name: str, text: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, "utf-8")


def tone(path: Path, hz: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(16_000) / 16_000
    sound = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 6)) * 3000 * (0.55 + 0.45 * np.sin(25 * t))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(sound.astype("<i2").tobytes())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    tone(tmp_path / ravdess.SPEECH / "Actor_01/03-01-05-02-01-01-01.wav", 150)
    put(tmp_path / ravdess.SPEECH, "Actor_18/03-01-04-01-02-01-18.wav", "no sound")
    head = "file,actor,emotion,intensity,sentence\n"
    sentences = "Kids are talking by the door", "Dogs are sitting by the door"
    put(tmp_path / ravdess.SPEECH, "labels.csv", head + (
        f"Actor_01/03-01-05-02-01-01-01.wav,1,angry,strong,{sentences[0]}\n"
        f"Actor_18/03-01-04-01-02-01-18.wav,18,sad,normal,{sentences[1]}\n"
    ))  # fmt: skip
    photographs = "".join(f"1,{i}.jpg,{label}\n" for i in range(9) for label in ("anger", "sadness"))
    put(tmp_path / facial_expressions.FOLDER, "legend.csv", f"user.id,image,emotion\n{photographs}")
    put(tmp_path / goemotions.FOLDER, "labels.txt", "anger\nsadness\nneutral\n")
    put(tmp_path / goemotions.FOLDER, "train.tsv", "I hate this door\t0\tx\nso sad and so mad\t0,1\ty\n")
    put(tmp_path / goemotions.FOLDER, "dev.tsv", "Fine by me.\t2\tz\n")
    line = "1.0 0 0 I am so mad at my boss. EOS 1.0 1 1 [Questions] Oh, how did that happen to you?\n"
    for part in ("dev", "test"):
        put(tmp_path / esconv.FOLDER, f"{part}WithStrategy_short.tsv", line)
    return tmp_path


def by_key(samples: list[Sample]) -> dict[str, Sample]:
    return {f"{s.id}/{s.task}": s for s in samples}


def test_unmeasurable_voice_is_not_explained(data: Path) -> None:
    found = by_key(ravdess.read(data))
    assert list(found) == [
        "03-01-05-02-01-01-01/mer", "03-01-05-02-01-01-01/ovmer", "03-01-05-02-01-01-01/eri",
        "03-01-04-01-02-01-18/mer", "03-01-04-01-02-01-18/ovmer",
    ]  # fmt: skip
    assert target_text(found["03-01-05-02-01-01-01/ovmer"]) == "furious, outraged"
    labels = found["03-01-05-02-01-01-01/eri"].labels
    assert isinstance(labels, TextLabels)
    assert list(labels.parts) == ["speech", "text"]
    assert labels.text.endswith("This points to anger.")


def test_comments_are_explained_by_their_text(data: Path) -> None:
    found = by_key(goemotions.read(data))
    assert {key: target_text(s) for key, s in found.items() if key != "x/eri"} == {
        "x/mer": "anger", "x/ovmer": "angry, annoyed", "y/ovmer": "angry, annoyed, sad, disappointed",
        "z/mer": "neutral", "z/ovmer": "neutral, calm",
    }  # fmt: skip
    assert target_text(found["x/eri"]) == 'The words "i hate this" carry feeling. This points to anger.'


def test_replies_have_a_chain(data: Path) -> None:
    labels = esconv.read(data)[0].labels
    assert isinstance(labels, ReplyLabels)
    assert labels.think is not None
    assert (labels.think.emotion, labels.think.goal) == ("angry", "learn more about how they feel")


def test_composed_clips_combine_media_of_one_emotion(data: Path) -> None:
    samples = read_corpora(data, ["composed"])["composed"]
    assert {s.corpus for s in samples} == {"composed"}
    assert {s.task for s in samples} == {"mer", "ovmer", "eri", "erg"}
    photographs = {s.media for s in facial_expressions.read(data)}
    for sample in samples:
        assert sample.media in photographs
        assert sample.audio
        assert sample.audio.startswith(str(ravdess.SPEECH))
    assert {s.subtitle for s in samples if s.task == "mer"} >= {"Kids are talking by the door.", "I hate this door"}


def test_training_manifests(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = data / "recipe.yaml", data / "out"
    recipe.write_text(
        "name: x\nphases:\n  a:\n    trainable: [fusion]\n    mixture: {goemotions/eri: 1, word_choice/mer: 1}\n"
        "    lr: 1.0e-3\n    steps: 1\n    micro_batch: 1\n"
    )
    words = ["x", "--data-root", str(data), "--out", str(out), "--recipe", str(recipe)]
    monkeypatch.setattr(sys, "argv", words)
    main()
    assert read_manifest(out / "manifests/goemotions.jsonl") == goemotions.read(data)
    assert (out / "corpora").is_symlink()
    assert read_corpora(out, ["goemotions"])["goemotions"] == goemotions.read(data)
