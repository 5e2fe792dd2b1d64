"""GoEmotions in the seven Ekman classes: Reddit comments (CC BY 4.0).

Comments with one label feed closed recognition; all feed the open vocabulary; those that use a word of feeling are
explained by quoting it.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source, explanation, recognition
from nanoemox.data.manifest import OpenLabels, Sample, Split
from nanoemox.data.targets import emotion_words, words_sentence
from nanoemox.tasks import LABEL_SETS

FOLDER: Final = Path("corpora/text/goemotions/ekman")
LABELS: Final = LABEL_SETS["goemotions_ekman"]
_FILES: Final[tuple[tuple[str, Split], ...]] = (("train.tsv", "train"), ("dev.tsv", "validation"))


def read(data_root: Path) -> list[Sample]:
    """Return the samples of train and dev."""
    names = (data_root / FOLDER / "labels.txt").read_text("utf-8").split()
    out: list[Sample] = []
    for file, split in _FILES:
        with (data_root / FOLDER / file).open(encoding="utf-8", newline="") as lines:
            for text, indices, key in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                labels = [names[int(i)] for i in indices.split(",")]
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
