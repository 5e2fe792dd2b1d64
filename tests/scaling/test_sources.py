"""Clips in an object store, with pyarrow's local file systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoemox.cli.answer_inputs import MEDIA_SUFFIXES, as_sources, expand
from nanoemox.scaling.sources import copy_clip, list_clips
from nanoemox.types import MediaError, NanoEmoXError

pytest.importorskip("pyarrow", reason="needs the extra ray")


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A folder as a URI, with two clips whose names need quoting, words beside one, and a file that is no clip."""
    folder = tmp_path / "store"
    (folder / "deep").mkdir(parents=True)
    (folder / "a b#1.wav").write_bytes(b"first")
    (folder / "a b#1.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    (folder / "deep" / "ü%20.MP4").write_bytes(b"second")
    (folder / "notes.txt").write_text("no clip")
    return f"file://{folder}"


def test_folder_listing_copies_clips_with_subtitles(store: str, tmp_path: Path) -> None:
    clips = list_clips(store, MEDIA_SUFFIXES)
    assert len(clips) == 2
    assert all(c.startswith(f"{store}/") for c in clips)
    copies = [copy_clip(clip, tmp_path) for clip in clips]
    assert [c.read_bytes() for c in copies] == [b"first", b"second"]
    assert [c.name for c in copies] == ["a b#1.wav", "ü%20.MP4"]
    assert (tmp_path / "a b#1.srt").read_text().endswith("Hello\n")
    assert list_clips(clips[0], MEDIA_SUFFIXES) == [clips[0]]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nosuch://x/y", "cannot be listed"),
        ("file:///no/such/folder", "no video, audio or picture file"),
        ("s3://key:secret@bucket/x", "put it into the environment"),
    ],
)
def test_unlistable_sources_are_named(uri: str, message: str) -> None:
    with pytest.raises(NanoEmoXError, match=message) as told:
        list_clips(uri, MEDIA_SUFFIXES)
    assert "secret" not in str(told.value)


def test_uncopyable_sources_are_named(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MediaError, match="no such file"):
        copy_clip(f"{store}/gone.wav", tmp_path)
    monkeypatch.setattr("nanoemox.scaling.sources.MediaOptions", lambda: type("Small", (), {"max_bytes": 4}))
    with pytest.raises(MediaError, match="5 bytes, limit 4: cut it"):
        copy_clip(list_clips(store, MEDIA_SUFFIXES)[0], tmp_path)


def test_paths_and_uris_are_distinguished(store: str, tmp_path: Path) -> None:
    clips, problems = expand(as_sources([store, "file:///no/such", str(tmp_path / "gone.wav")], remote=True))
    assert clips == list_clips(store, MEDIA_SUFFIXES)
    assert problems == {
        "file:///no/such": "no video, audio or picture file there",
        tmp_path / "gone.wav": "no such file",
    }
