"""What readers share: from one emotion label to the samples of three tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nanoemox.data.manifest import ClosedLabels, HistoryTurn, OpenLabels, ReplyLabels, Sample, Split, TextLabels
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
    face_vectors: str | None = None
    subtitle: str | None = None
    history: tuple[HistoryTurn, ...] = ()
    speaker: str | None = None
    language: str = "en"

    def sample(self, task: str, labels: ClosedLabels | OpenLabels | TextLabels | ReplyLabels) -> Sample:
        """Ask one task of this source."""
        return Sample(
            id=self.id,
            corpus=self.corpus,
            split=self.split,
            task=task,
            labels=labels,
            media=self.media,
            audio=self.audio,
            face_vectors=self.face_vectors,
            subtitle=self.subtitle or None,
            history=self.history,
            speaker=self.speaker,
            language=self.language,
        )

    def closed(self, task: str, label: str, candidates: tuple[str, ...]) -> Sample:
        """Ask a closed task."""
        return self.sample(task, ClosedLabels(label=label, candidates=candidates))


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
