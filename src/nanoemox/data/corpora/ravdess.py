"""RAVDESS: acted speech (CC BY-NC-SA 4.0), audiovisual or voice alone, as its file names tell.

Split by actor: 1 to 16 train, 17 to 20 validate, 21 to 24 test. The two sentences say nothing about the feeling. Songs
and the takes without sound are left out; where a take is there with and without picture, the one with picture is taken.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Cited, Source, explanation, recognition
from nanoemox.data.corpora.releases import AUDIO_SUFFIXES, VIDEO_SUFFIXES, missing
from nanoemox.data.manifest import Sample, Split
from nanoemox.data.targets import PLAIN_WORDS, Voice, face_sentence, measure_voice, median_voice, voice_sentence
from nanoemox.data.targets import voice_words as words_for
from nanoemox.media.load import load_clip
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import MediaError

SPEECH: Final = Path("corpora/ravdess_speech_16k")
AUDIOVISUAL: Final = Path("corpora/ravdess_av_actor01")
LABELS: Final = LABEL_SETS["ravdess"]
TRAIN_ACTORS: Final = range(1, 17)
VALIDATION_ACTORS: Final = range(17, 21)
_SILENT, _SPOKEN = "02", "01"
_EMOTIONS: Final = {f"{i:02d}": label for i, label in enumerate(LABELS, 1)}
_INTENSITIES: Final = {"01": "normal", "02": "strong"}
_SENTENCES: Final = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}


def split_of(actor: int) -> Split:
    """Say which part an actor belongs to."""
    return "train" if actor in TRAIN_ACTORS else "validation" if actor in VALIDATION_ACTORS else "test"


def rows(data_root: Path, folder: Path) -> list[dict[str, str]]:
    """Read ``labels.csv`` of the corpora that the embedded model is made of."""
    with (data_root / folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def takes(root: Path) -> list[dict[str, str]]:
    """List the spoken takes under a folder in the order of their paths: ``file`` and what its name tells."""
    found: dict[str, tuple[bool, dict[str, str]]] = {}
    for path in sorted(root.rglob("*-*-*-*-*-*-*.*")):
        fields = path.stem.split("-")
        seen = path.suffix.lower() in VIDEO_SUFFIXES
        if len(fields) != 7 or not (seen or path.suffix.lower() in AUDIO_SUFFIXES):
            continue
        modality, channel, emotion, intensity, sentence, _, actor = fields
        known = emotion in _EMOTIONS and intensity in _INTENSITIES and sentence in _SENTENCES and actor.isdecimal()
        if modality == _SILENT or channel != _SPOKEN or not known:
            continue
        take = "-".join(fields[1:])
        if take not in found or (seen and not found[take][0]):
            row = {"file": path.relative_to(root).as_posix(), "actor": str(int(actor))}
            row |= {"emotion": _EMOTIONS[emotion], "intensity": _INTENSITIES[intensity]}
            found[take] = seen, row | {"sentence": _SENTENCES[sentence]}
    return [row for _, row in found.values()]


def voices(data_root: Path) -> Mapping[str, tuple[str, ...] | None]:
    """Measure every utterance: file -> words for its voice beside the median training voice; None if unmeasurable."""
    return _voices(data_root / SPEECH)


@lru_cache(maxsize=2)
def _voices(root: Path) -> Mapping[str, tuple[str, ...] | None]:
    measured: dict[str, Voice | None] = {}
    training: list[Voice] = []
    for row in takes(root):
        voice = _measured(root / row["file"])
        measured[row["file"]] = voice
        if voice is not None and int(row["actor"]) in TRAIN_ACTORS:
            training.append(voice)
    if not training:
        return dict.fromkeys(measured)
    usual = median_voice(training)
    return {file: None if voice is None else words_for(voice, usual) for file, voice in measured.items()}


def _measured(path: Path) -> Voice | None:
    """Measure one voice; a file that cannot be read is not explained, and ``nanoemox check`` lists it."""
    try:
        waveform = load_clip(path, num_frames=1).waveform
    except MediaError:
        return None
    return None if waveform is None else measure_voice(waveform)


def read(root: Path) -> list[Sample]:
    """Return recognition and explanation of every utterance under a folder."""
    spoken = takes(root)
    if not spoken:
        raise missing(root, "03-01-*.wav", "01-01-*.mp4")
    heard = _voices(root)
    out: list[Sample] = []
    for row in spoken:
        out += _samples(row, "ravdess", row["file"], heard.get(row["file"]))
    return out


def read_audiovisual(data_root: Path) -> list[Sample]:
    """Return recognition and explanation of 52 clips of actor 1, all for training, beside ``ravdess``' voices."""
    heard = voices(data_root)
    out: list[Sample] = []
    for row in rows(data_root, AUDIOVISUAL):
        words = heard.get(f"Actor_{int(row['actor']):02d}/{row['audio_take']}.flac")
        seen: dict[Cited, str] = {"face": face_sentence(row["emotion"])}
        out += _samples(row, "ravdess_av", str(AUDIOVISUAL / "clips" / row["clip"]), words, seen)
    return out


def _samples(
    row: dict[str, str],
    corpus: str,
    media: str,
    words: tuple[str, ...] | None,
    seen: dict[Cited, str] | None = None,
) -> list[Sample]:
    """Ask about one take; without a measured voice it is not explained."""
    actor = int(row["actor"])
    source = Source(
        id=Path(media).stem,
        corpus=corpus,
        split=split_of(actor),
        media=media,
        subtitle=row["sentence"] + ".",
        speaker=f"actor-{actor:02d}",
    )
    out = recognition(source, row["emotion"], LABELS, strong=row["intensity"] == "strong")
    if words is not None:
        parts: dict[Cited, str] = {"speech": voice_sentence(words), **(seen or {}), "text": PLAIN_WORDS}
        out.append(explanation(source, row["emotion"], parts))
    return out
