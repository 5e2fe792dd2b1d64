"""What answers without looking: a model that is no better than these has not understood a clip."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanoemox.data.manifest import Sample
from nanoemox.engine import Engine
from nanoemox.evaluation.answerer import EngineAnswerer, Reply
from nanoemox.evaluation.benchmarks import Benchmark
from nanoemox.evaluation.score import blind_answers
from nanoemox.evaluation.truth import label_value
from nanoemox.tasks import TASKS, parse


@dataclass(frozen=True, slots=True)
class Majority:
    """The most common answer, to every clip.

    Attributes:
        text: The answer, written as a model writes it.
        source: Where it was counted: ``train``, ``validation``, or ``test`` where a corpus has no other part. The
            last knows more than a model may, so it is a harder row to beat.
    """

    text: str
    source: str
    name: str = "majority"

    @classmethod
    def count(cls, benchmark: Benchmark, samples: Sequence[Sample]) -> Majority:
        """Count the answers of a corpus; samples of other tasks are passed over."""
        for part in ("train", "validation", "test"):
            truth = [label_value(s.labels) for s in samples if s.split == part and s.task == benchmark.task]
            answer = blind_answers(benchmark, truth).get("majority")
            if answer is not None:
                return cls(answer if isinstance(answer, str) else ", ".join(answer), part)
        return cls("", "test")

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        """Answer a batch, the same to all."""
        labels = benchmark.labels if TASKS[benchmark.task].closed else None
        parsed = parse(benchmark.task, self.text, labels).to_dict()
        return [Reply(self.text, parsed) for _ in samples]


def text_only(engine: Engine, data_root: Path) -> EngineAnswerer:
    """Return the engine with picture and sound withheld; a clip without words stays unanswered."""
    return EngineAnswerer(engine, data_root, "text-only", lambda s: s.model_copy(update={"media": None, "audio": None}))


def shuffled_media(engine: Engine, data_root: Path, samples: Sequence[Sample]) -> EngineAnswerer:
    """Return the engine with picture and sound of another clip, its own words kept.

    Args:
        engine: The engine.
        data_root: What media paths are relative to.
        samples: All clips that are asked. Who gets whose media depends on them alone, not on batches or processes.
    """
    media = media_of(samples)
    other = dict(zip(media, media[1:] + media[:1], strict=True))

    def change(sample: Sample) -> Sample:
        got = other.get((sample.media, sample.audio))
        return sample if got is None else sample.model_copy(update={"media": got[0], "audio": got[1]})

    return EngineAnswerer(engine, data_root, "shuffled-media", change)


def media_of(samples: Sequence[Sample]) -> list[tuple[str | None, str | None]]:
    """Return picture and sound of the clips, each pair once, in an order drawn by hash; below two none is shuffled."""
    return sorted({(s.media, s.audio) for s in samples if s.media or s.audio}, key=_draw)


def _draw(media: tuple[str | None, str | None]) -> str:
    return hashlib.sha256(repr(media).encode()).hexdigest()
