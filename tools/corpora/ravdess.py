"""RAVDESS with templates: emotion words, explanations by the measured voice; and 52 clips of actor 1 with picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.ravdess import LABELS, TRAIN_ACTORS, source_of, takes
from nanoemox.data.manifest import Sample
from nanoemox.media.load import load_clip
from nanoemox.types import MediaError
from tools.corpora.common import Cited, explanation, recognition
from tools.corpora.targets import (
    PLAIN_WORDS,
    Voice,
    face_sentence,
    measure_voice,
    median_voice,
    voice_sentence,
    voice_words,
)

SPEECH: Final = Path("corpora/ravdess_speech_16k")
AUDIOVISUAL: Final = Path("corpora/ravdess_av_actor01")


def rows(data_root: Path, folder: Path) -> list[dict[str, str]]:
    """Read the ``labels.csv`` of one of the two folders."""
    with (data_root / folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@lru_cache(maxsize=2)
def voices(data_root: Path) -> Mapping[str, tuple[str, ...] | None]:
    """Measure every utterance: file -> words for its voice beside the median training voice; None if unmeasurable."""
    measured: dict[str, Voice | None] = {}
    training: list[Voice] = []
    for row in takes(data_root / SPEECH):
        voice = _measure(data_root / SPEECH / row["file"])
        measured[row["file"]] = voice
        if voice is not None and int(row["actor"]) in TRAIN_ACTORS:
            training.append(voice)
    if not training:
        return dict.fromkeys(measured)
    usual = median_voice(training)
    return {file: None if voice is None else voice_words(voice, usual) for file, voice in measured.items()}


def _measure(path: Path) -> Voice | None:
    """Measure one voice; a file that cannot be read is not explained."""
    try:
        waveform = load_clip(path, num_frames=1).waveform
    except MediaError:
        return None
    return None if waveform is None else measure_voice(waveform)


def read(data_root: Path) -> list[Sample]:
    """Return recognition and explanation of every utterance."""
    words = voices(data_root)
    out: list[Sample] = []
    for row in takes(data_root / SPEECH):
        out += _samples(row, "ravdess", f"{SPEECH}/{row['file']}", words.get(row["file"]))
    return out


def read_audiovisual(data_root: Path) -> list[Sample]:
    """Return recognition and explanation of 52 clips of actor 1, all for training, beside ``ravdess``' voices."""
    words = voices(data_root)
    out: list[Sample] = []
    for row in rows(data_root, AUDIOVISUAL):
        take = f"Actor_{int(row['actor']):02d}/{row['audio_take']}.flac"
        face: dict[Cited, str] = {"face": face_sentence(row["emotion"])}
        out += _samples(row, "ravdess_av", f"{AUDIOVISUAL}/clips/{row['clip']}", words.get(take), face)
    return out


def _samples(
    row: Mapping[str, str],
    corpus: str,
    media: str,
    words: tuple[str, ...] | None,
    face: Mapping[Cited, str] | None = None,
) -> list[Sample]:
    """Return the samples of one take; without a measured voice it is not explained."""
    source = source_of(row, media, corpus)
    out = recognition(source, row["emotion"], LABELS, strong=row["intensity"] == "strong")
    if words is not None:
        parts: dict[Cited, str] = {"speech": voice_sentence(words), **(face or {}), "text": PLAIN_WORDS}
        out.append(explanation(source, row["emotion"], parts))
    return out
