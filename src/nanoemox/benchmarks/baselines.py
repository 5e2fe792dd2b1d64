"""Baselines: blind answers, and the same model with modified input or a modified question."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Final

from nanoemox.benchmarks.answerer import Answerer, Reply
from nanoemox.benchmarks.predict import kept_rows
from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.runs import Key, Row
from nanoemox.benchmarks.score import blind_answers
from nanoemox.benchmarks.truth import label_value
from nanoemox.data.manifest import PATHS, Sample
from nanoemox.scoring.metrics.bootstrap import Interval, bootstrap_interval, mean_statistic
from nanoemox.tasks import parse

MAJORITY: Final = "majority"
TEXT_ONLY: Final = "text-only"
SHUFFLED: Final = "shuffled-media"
OTHER_ORDER: Final = "other-order"
"""Only for closed tasks."""


@dataclass(frozen=True, slots=True)
class Majority:
    """The most common answer, to every clip.

    Attributes:
        text: The answer in the format of a model.
        source: Where it was counted: ``train``, ``validation``, or the evaluated split if a corpus has no
            other. The last uses the test labels, so it is a harder baseline.
    """

    text: str
    source: str
    name: str = MAJORITY

    @classmethod
    def count(cls, benchmark: Benchmark, samples: Sequence[Sample]) -> Majority:
        """Count the answers of a corpus; samples of other tasks are ignored."""
        for part in dict.fromkeys(("train", "validation", benchmark.split)):
            truth = [label_value(s.labels) for s in samples if s.split == part and s.task == benchmark.task]
            answer = blind_answers(benchmark, truth).get("majority")
            if answer is not None:
                return cls(answer if isinstance(answer, str) else ", ".join(answer), part)
        return cls("", benchmark.split)

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        """Answer a batch with the same answer."""
        labels = benchmark.labels if benchmark.form == "label" else None
        parsed = parse(benchmark.task, self.text, labels).to_dict()
        return [Reply(self.text, parsed) for _ in samples]


class CopiedRow:
    """A copy of the model's own row, for baselines whose input would be the same.

    Args:
        folder: Folder of the model's row, which is filled first.
        name: Name of the row.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    @cached_property
    def _rows(self) -> Mapping[Key, Row]:
        return kept_rows(self.folder)

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        """Answer a batch from disk."""
        rows = [self._rows[benchmark.id, s.id] for s in samples]
        return [Reply(row["raw"], row["parsed"], row["prompt"], row["error"], row["timing_s"]) for row in rows]


class ModifiedInput:
    """A model with modified input: another clip, or another question.

    Args:
        inner: The model.
        name: Name of the row.
        sample: Changes a clip before it is shown, such as by removing its media.
        benchmark: Changes the question.
    """

    def __init__(
        self,
        inner: Answerer,
        name: str,
        *,
        sample: Callable[[Sample], Sample] = lambda sample: sample,
        benchmark: Callable[[Benchmark], Benchmark] = lambda benchmark: benchmark,
    ) -> None:
        self.inner, self.name, self.sample, self.benchmark = inner, name, sample, benchmark

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        """Answer a batch about the modified clips."""
        return self.inner.answer(self.benchmark(benchmark), [self.sample(s) for s in samples])


def text_only(model: Answerer) -> ModifiedInput:
    """Return the model without image and audio input; a clip without a transcript stays unanswered."""
    return ModifiedInput(model, TEXT_ONLY, sample=lambda s: s.model_copy(update=dict.fromkeys(PATHS)))


def shuffled_media(model: Answerer, samples: Sequence[Sample]) -> ModifiedInput:
    """Return the model with the images and audio of another clip and the transcript of its own.

    Args:
        model: The model.
        samples: All evaluated clips. The permutation depends on them only, not on batches or processes.
    """
    media = media_of(samples)
    other = dict(zip(media, media[1:] + media[:1], strict=True))

    def change(sample: Sample) -> Sample:
        got = other.get(_files(sample))
        return sample if got is None else sample.model_copy(update=dict(zip_longest(PATHS, got)))

    return ModifiedInput(model, SHUFFLED, sample=change)


def other_order(model: Answerer) -> ModifiedInput:
    """Return the model with the labels of the question in another order, the same for every clip of a benchmark."""
    return ModifiedInput(model, OTHER_ORDER, benchmark=lambda b: replace(b, labels=reordered(b.labels)))


def reordered(labels: Sequence[str]) -> tuple[str, ...]:
    """Return labels in another order, given by a hash."""
    drawn = tuple(sorted(labels, key=_draw))
    return drawn if drawn != tuple(labels) else (*drawn[1:], *drawn[:1])


def order_sensitivity(
    first: Mapping[str, str | None],
    second: Mapping[str, str | None],
    clusters: Callable[[Sequence[str]], Sequence[Hashable]] | None = None,
) -> Interval | None:
    """Return how often the answer changes with the order of the labels, over clips answered twice; None without any.

    Args:
        first: Clip -> label with the benchmark's order; None if the answer has none.
        second: Clip -> label with the other order.
        clusters: Returns the cluster of each clip for the interval; by default clips are resampled.
    """
    names = [name for name in first if name in second]
    if not names:
        return None
    changed = [first[name] != second[name] for name in names]
    return bootstrap_interval(mean_statistic(changed), len(names), clusters=clusters and clusters(names))


def own_row(name: str, samples: Sequence[Sample], *, words_alone: bool = False) -> str | None:
    """Return why a row equals the model's own, or None if it does not.

    Args:
        name: The row.
        samples: All evaluated clips.
        words_alone: Whether only transcripts are sent.
    """
    if name not in (TEXT_ONLY, SHUFFLED):
        return None
    if words_alone:
        return "neither video nor audio was sent, so this row is a copy of the model's"
    found = len(media_of(samples))
    if not found:
        return "no clip has picture or sound, so this row is a copy of the model's"
    if name == SHUFFLED and found < 2:
        return "no other clip has picture or sound, so this row is a copy of the model's"
    return None


def media_of(samples: Sequence[Sample]) -> list[tuple[str | None, ...]]:
    """Return the distinct sets of media files of the clips, in an order given by a hash."""
    return sorted({_files(s) for s in samples if s.paths}, key=_draw)


def _files(sample: Sample) -> tuple[str | None, ...]:
    """Return the paths of media and audio, and of face vectors if there are any."""
    files = tuple(getattr(sample, field) for field in PATHS)
    return files if sample.face_vectors else files[:2]


def _draw(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()
