"""The fields of a sample that do not depend on the task, shared by all readers."""

from __future__ import annotations

from dataclasses import dataclass, fields

from nanoemox.data.manifest import ClosedLabels, OpenLabels, ReplyLabels, Sample, Split, TextLabels
from nanoemox.types import Turn


@dataclass(frozen=True, slots=True)
class Source:
    """A clip or turn without its task; fields as in :class:`~nanoemox.data.manifest.Sample`."""

    id: str
    corpus: str
    split: Split
    media: str | None = None
    audio: str | None = None
    face_vectors: str | None = None
    subtitle: str | None = None
    history: tuple[Turn, ...] = ()
    speaker: str | None = None
    language: str = "en"

    def sample(self, task: str, labels: ClosedLabels | OpenLabels | TextLabels | ReplyLabels) -> Sample:
        """Return the sample of a task; an empty subtitle becomes None."""
        shared = {field.name: getattr(self, field.name) for field in fields(self)}
        return Sample(task=task, labels=labels, **shared | {"subtitle": self.subtitle or None})

    def closed(self, task: str, label: str, candidates: tuple[str, ...]) -> Sample:
        """Return the sample of a closed task."""
        return self.sample(task, ClosedLabels(label=label, candidates=candidates))
