"""GoEmotions with templates: emotion words for every comment, explanations that quote a word of feeling."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nanoemox.data.corpora import goemotions
from nanoemox.data.manifest import OpenLabels, Sample
from tools.corpora.common import explanation_labels
from tools.corpora.targets import emotion_words, words_sentence

FOLDER: Final = Path("corpora/text/goemotions/ekman")


def read(data_root: Path) -> list[Sample]:
    """Return the samples of the release, explanations added."""
    out: list[Sample] = []
    for sample in goemotions.read(data_root / FOLDER):
        if not isinstance(sample.labels, OpenLabels):
            out.append(sample)
            continue
        classes = goemotions.ekman_classes(sample.labels.labels)
        out.append(sample.model_copy(update={"labels": OpenLabels(labels=emotion_words(classes))}))
        evidence = words_sentence(sample.subtitle or "")
        if len(classes) == 1 and evidence is not None:
            labels = explanation_labels(classes[0], {"text": evidence})
            out.append(sample.model_copy(update={"task": "eri", "labels": labels}))
    return out
