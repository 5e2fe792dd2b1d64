"""GoEmotions in the seven Ekman classes: Reddit comments (CC BY 4.0).

Comments with one label feed closed recognition; all feed the open vocabulary; those that use a word of feeling are
explained by quoting it. The release's 28 labels are folded into the seven by the release's own mapping.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source, explanation, recognition
from nanoemox.data.corpora.releases import find, find_or_none, read_text
from nanoemox.data.manifest import OpenLabels, Sample, Split
from nanoemox.data.targets import emotion_words, words_sentence
from nanoemox.tasks import LABEL_SETS

FOLDER: Final = Path("corpora/text/goemotions/ekman")
LABELS: Final = LABEL_SETS["goemotions_ekman"]
_FOLDED: Final[Mapping[str, str]] = {
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
_FILES: Final[tuple[tuple[str, Split], ...]] = (
    ("train.tsv", "train"),
    ("dev.tsv", "validation"),
    ("test.tsv", "test"),
)


def read(root: Path) -> list[Sample]:
    """Return the samples of train, dev and, where it is there, test."""
    names = read_text(find(root, "labels.txt", "emotions.txt")).split()
    find(root, "train.tsv", "dev.tsv", "test.tsv")
    out: list[Sample] = []
    for file, split in _FILES:
        path = find_or_none(root, file)
        lines = [] if path is None else read_text(path).split("\n")
        for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row:
                text, indices, key = row
                labels = list(dict.fromkeys(_FOLDED[names[int(i)]] for i in indices.split(",")))
                out += _of(Source(id=key, corpus="goemotions", split=split, subtitle=text.strip()), labels)
    return out


def _of(source: Source, labels: list[str]) -> list[Sample]:
    if not source.subtitle:
        return []
    if len(labels) > 1:
        return [source.sample("ovmer", OpenLabels(labels=emotion_words(labels)))]
    samples = recognition(source, labels[0], LABELS)
    evidence = words_sentence(source.subtitle)
    if evidence is not None:
        samples.append(explanation(source, labels[0], {"text": evidence}))
    return samples
