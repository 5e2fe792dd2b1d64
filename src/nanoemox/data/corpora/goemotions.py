"""GoEmotions: Reddit comments with emotion labels (CC BY 4.0).

Comments with one emotion are samples of closed recognition among seven Ekman classes, by the release's mapping of its
28 labels. All comments are samples of open-vocabulary recognition, with the released labels.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import find, find_or_none, read_text
from nanoemox.data.manifest import OpenLabels, Sample, Split
from nanoemox.tasks import LABEL_SETS, MER, OVMER

LABELS: Final = LABEL_SETS["goemotions_ekman"]
EKMAN: Final[Mapping[str, str]] = {
    word: ekman
    for ekman, words in (
        ("anger", "anger annoyance disapproval"),
        ("disgust", "disgust"),
        ("fear", "fear nervousness"),
        ("joy", "joy amusement approval excitement gratitude love optimism relief pride admiration desire caring"),
        ("sadness", "sadness disappointment embarrassment grief remorse"),
        ("surprise", "surprise realization confusion curiosity"),
        ("neutral", "neutral"),
    )
    for word in words.split()
}
"""Released label -> Ekman class."""
_FILES: Final[tuple[tuple[str, Split], ...]] = (
    ("train.tsv", "train"),
    ("dev.tsv", "validation"),
    ("test.tsv", "test"),
)


def ekman_classes(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the Ekman classes of a comment's labels, each once."""
    return tuple(dict.fromkeys(EKMAN[label] for label in labels))


def read(root: Path) -> list[Sample]:
    """Return the samples of train, dev and, if present, test."""
    names = read_text(find(root, "labels.txt", "emotions.txt")).split()
    find(root, "train.tsv", "dev.tsv", "test.tsv")
    out: list[Sample] = []
    for file, split in _FILES:
        path = find_or_none(root, file)
        lines = [] if path is None else read_text(path).split("\n")
        for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row:
                text, indices, key = row
                labels = tuple(names[int(i)] for i in indices.split(","))
                out += _samples(Source(id=key, corpus="goemotions", split=split, subtitle=text.strip()), labels)
    return out


def _samples(source: Source, labels: tuple[str, ...]) -> list[Sample]:
    if not source.subtitle:
        return []
    classes = ekman_classes(labels)
    closed = [source.closed(MER.key, classes[0], LABELS)] if len(classes) == 1 else []
    return [*closed, source.sample(OVMER.key, OpenLabels(labels=labels))]
