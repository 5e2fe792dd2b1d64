"""The packaged sample clip: small, complete, with a face in every frame."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np

from nanoemox.faces.tracks import with_face
from nanoemox.media.load import load_clip

SAMPLE = Path(str(files("nanoemox") / "assets/sample.mp4"))


def test_sample_clip_is_small_and_documents_its_origin() -> None:
    assert SAMPLE.stat().st_size <= 300_000
    text = SAMPLE.with_name("sample.README.md").read_text(encoding="utf-8")
    for word in ("public domain", "espeak-ng", "likeness", "make_sample_clip.py"):
        assert word in text


def test_sample_clip_has_all_four_modalities() -> None:
    clip = with_face(load_clip(SAMPLE))
    assert clip.modalities == ("vision", "speech", "face", "text")
    assert clip.subtitle == "I finally got the job! I can't believe it, I'm so happy!"
    assert clip.frames.shape == (8, 320, 400, 3)
    assert 4 < clip.duration_s < 5
    assert abs(len(clip.waveform) / 16_000 - clip.duration_s) < 0.1
    assert 0.05 < np.abs(clip.waveform).max() <= 1


def test_sample_clip_face_is_found_in_every_frame() -> None:
    clip = with_face(load_clip(SAMPLE))
    assert clip.face.detected.all()
    assert clip.face.num_tracks == 1
    centres = (clip.face.boxes[:, :2] + clip.face.boxes[:, 2:]) / 2
    assert np.abs(np.diff(centres, axis=0)).max() < 20
    assert np.ptp(centres, axis=0).max() > 2
