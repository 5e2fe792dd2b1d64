"""RAVDESS: acted speech of 20 actors, and 52 audiovisual clips of the first (CC BY-NC-SA 4.0).

Split by actor: 1 to 16 train, 17 to 20 validate. The two sentences say nothing about the feeling.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Cited, Source, explanation, recognition
from nanoemox.data.manifest import Sample, Split
from nanoemox.data.targets import PLAIN_WORDS, Voice, face_sentence, measure_voice, median_voice, voice_sentence
from nanoemox.data.targets import voice_words as words_for
from nanoemox.media import load_clip
from nanoemox.tasks import LABEL_SETS

SPEECH: Final = Path("corpora/ravdess_speech_16k")
AUDIOVISUAL: Final = Path("corpora/ravdess_av_actor01")
LABELS: Final = LABEL_SETS["ravdess"]
TRAIN_ACTORS: Final = range(1, 17)
VALIDATION_ACTORS: Final = range(17, 21)


def split_of(actor: int) -> Split:
    """Say which part an actor belongs to."""
    return "train" if actor in TRAIN_ACTORS else "validation" if actor in VALIDATION_ACTORS else "test"


def rows(data_root: Path, folder: Path) -> list[dict[str, str]]:
    """Read ``labels.csv``."""
    with (data_root / folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@lru_cache(maxsize=2)
def voices(data_root: Path) -> dict[str, tuple[str, ...] | None]:
    """Measure every utterance: file -> words for its voice beside the median training voice; None if unmeasurable."""
    measured: dict[str, Voice | None] = {}
    training: list[Voice] = []
    for row in rows(data_root, SPEECH):
        waveform = load_clip(data_root / SPEECH / row["file"]).waveform
        voice = None if waveform is None else measure_voice(waveform)
        measured[row["file"]] = voice
        if voice is not None and int(row["actor"]) in TRAIN_ACTORS:
            training.append(voice)
    if not training:
        return dict.fromkeys(measured)
    usual = median_voice(training)
    return {file: None if voice is None else words_for(voice, usual) for file, voice in measured.items()}


def read(data_root: Path) -> list[Sample]:
    """Return recognition and explanation of every utterance."""
    heard = voices(data_root)
    out: list[Sample] = []
    for row in rows(data_root, SPEECH):
        out += _samples(row, "ravdess", SPEECH / row["file"], heard[row["file"]])
    return out


def read_audiovisual(data_root: Path) -> list[Sample]:
    """Return recognition and explanation of the audiovisual clips, all for training: their one actor is a trainer."""
    heard = voices(data_root)
    out: list[Sample] = []
    for row in rows(data_root, AUDIOVISUAL):
        words = heard.get(f"Actor_{int(row['actor']):02d}/{row['audio_take']}.flac")
        seen: dict[Cited, str] = {"face": face_sentence(row["emotion"])}
        out += _samples(row, "ravdess_av", AUDIOVISUAL / "clips" / row["clip"], words, seen)
    return out


def _samples(
    row: dict[str, str],
    corpus: str,
    media: Path,
    words: tuple[str, ...] | None,
    seen: dict[Cited, str] | None = None,
) -> list[Sample]:
    """Ask about one take; without a measured voice it is not explained."""
    actor = int(row["actor"])
    source = Source(
        id=media.stem,
        corpus=corpus,
        split=split_of(actor),
        media=str(media),
        subtitle=row["sentence"] + ".",
        speaker=f"actor-{actor:02d}",
    )
    out = recognition(source, row["emotion"], LABELS, strong=row["intensity"] == "strong")
    if words is not None:
        parts: dict[Cited, str] = {"speech": voice_sentence(words), **(seen or {}), "text": PLAIN_WORDS}
        out.append(explanation(source, row["emotion"], parts))
    return out
