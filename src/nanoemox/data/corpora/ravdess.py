"""RAVDESS: acted speech (CC BY-NC-SA 4.0), audiovisual or audio only; the file names encode the labels.

Split by actor: 1 to 16 for training, 17 to 20 for validation, 21 to 24 for testing. The two sentences are neutral.
Songs and silent takes are skipped; of a take with and without video, the one with video is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import AUDIO_SUFFIXES, VIDEO_SUFFIXES, missing
from nanoemox.data.files import files_below
from nanoemox.data.manifest import Sample, Split
from nanoemox.tasks import LABEL_SETS, MER

LABELS: Final = LABEL_SETS["ravdess"]
TRAIN_ACTORS: Final = range(1, 17)
VALIDATION_ACTORS: Final = range(17, 21)
_SILENT, _SPOKEN = "02", "01"
_EMOTIONS: Final = {f"{i:02d}": label for i, label in enumerate(LABELS, 1)}
_INTENSITIES: Final = {"01": "normal", "02": "strong"}
_SENTENCES: Final = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}


def split_of(actor: int) -> Split:
    """Return the split of an actor."""
    return "train" if actor in TRAIN_ACTORS else "validation" if actor in VALIDATION_ACTORS else "test"


def takes(root: Path) -> list[dict[str, str]]:
    """List the spoken takes in a folder in the order of their paths: ``file`` and the fields of its name."""
    found: dict[str, tuple[bool, dict[str, str]]] = {}
    for path in files_below(root):
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


def source_of(row: Mapping[str, str], media: str, corpus: str = "ravdess") -> Source:
    """Return the source of a take of :func:`takes`."""
    actor = int(row["actor"])
    return Source(
        id=Path(media).stem,
        corpus=corpus,
        split=split_of(actor),
        media=media,
        subtitle=row["sentence"] + ".",
        speaker=f"actor-{actor:02d}",
    )


def read(root: Path) -> list[Sample]:
    """Return one sample per take in a folder."""
    found = takes(root)
    if not found:
        raise missing(root, "03-01-*.wav", "01-01-*.mp4")
    return [source_of(row, row["file"]).closed(MER.key, row["emotion"], LABELS) for row in found]
