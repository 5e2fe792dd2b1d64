"""From one emotion label to the samples of three tasks: closed and open recognition, and an explanation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from nanoemox.data.corpora.common import Source
from nanoemox.data.manifest import OpenLabels, Sample, TextLabels, explain
from tools.corpora.targets import conclusion, emotion_words

__all__ = ["Cited", "Source", "explanation", "explanation_labels", "recognition"]
Cited = Literal["speech", "face", "text"]


def recognition(source: Source, label: str, candidates: tuple[str, ...], *, strong: bool = False) -> list[Sample]:
    """Return the two recognition samples of a labelled clip: closed and open vocabulary."""
    words = OpenLabels(labels=emotion_words([label], strong=strong))
    return [source.closed("mer", label, candidates), source.sample("ovmer", words)]


def explanation_labels(label: str, parts: Mapping[Cited, str]) -> TextLabels:
    """Return the explanation of a label by the evidence in ``parts``."""
    closing = conclusion(label)
    text = explain({str(m): sentence for m, sentence in parts.items()}, closing)
    return TextLabels(text=text, parts=dict(parts), conclusion=closing)


def explanation(source: Source, label: str, parts: Mapping[Cited, str]) -> Sample:
    """Return the explaining sample of a clip whose evidence is ``parts``."""
    return source.sample("eri", explanation_labels(label, parts))
