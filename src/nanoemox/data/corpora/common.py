"""What readers share: from one emotion label to the samples of three tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nanoemox.data.manifest import ClosedLabels, OpenLabels, Sample, Split, TextLabels
from nanoemox.data.targets import conclusion, emotion_words, explain

Cited = Literal["speech", "face", "text"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a sample comes from; fields as in :class:`~nanoemox.data.manifest.Sample`."""

    id: str
    corpus: str
    split: Split
    media: str | None = None
    audio: str | None = None
    subtitle: str | None = None
    speaker: str | None = None

    def sample(self, task: str, labels: ClosedLabels | OpenLabels | TextLabels) -> Sample:
        """Ask one task of this source."""
        return Sample(
            id=self.id,
            corpus=self.corpus,
            split=self.split,
            task=task,
            labels=labels,
            media=self.media,
            audio=self.audio,
            subtitle=self.subtitle,
            speaker=self.speaker,
        )


def recognition(source: Source, label: str, candidates: tuple[str, ...], *, strong: bool = False) -> list[Sample]:
    """Return the two recognition samples of a labelled clip: closed and open vocabulary."""
    return [
        source.sample("mer", ClosedLabels(label=label, candidates=candidates)),
        source.sample("ovmer", OpenLabels(labels=emotion_words([label], strong=strong))),
    ]


def explanation(source: Source, label: str, parts: Mapping[Cited, str]) -> Sample:
    """Return the explaining sample of a clip whose evidence is ``parts``."""
    closing = conclusion(label)
    text = explain({str(m): sentence for m, sentence in parts.items()}, closing)
    return source.sample("eri", TextLabels(text=text, parts=dict(parts), conclusion=closing))
