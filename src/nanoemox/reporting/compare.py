"""Significance of differences: paired bootstrap of two rows of answers on the same clips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nanoemox.benchmarks.align import select_clips
from nanoemox.benchmarks.clusters import clusters_of
from nanoemox.benchmarks.compare import common_clips, difference
from nanoemox.benchmarks.measures import Measures, TaskScores
from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.runs import BenchmarkAnswers
from nanoemox.benchmarks.score import measure
from nanoemox.reporting.data import EvaluatedRun, align_answers
from nanoemox.types import NanoEmoXError


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much better one row is than another.

    Attributes:
        first, second: Names of the rows.
        metric: Score that is compared.
        num_clips: Number of common clips.
        difference: Score of the first minus score of the second; None if it cannot be computed (``note`` says why).
        interval: Its 95 % interval.
        p_value: Two-sided, of the paired bootstrap.
        clusters: What was resampled, and how many of it there are.
        note: Why there is no difference, or what to know of it.
    """

    first: str
    second: str
    metric: str
    num_clips: int
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    clusters: dict[str, Any] | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        return asdict(self)


def comparisons(benchmark: Benchmark, runs: Iterable[EvaluatedRun], measures: Measures) -> list[Comparison]:
    """Compare the first run with the others, and every run with its baselines."""
    present = [run for run in runs if benchmark.id in run.parts[run.name]]
    found = []
    for place, run in enumerate(present):
        own = run.parts[run.name][benchmark.id]
        if place:
            first = present[0]
            pair = {first.name: first.parts[first.name][benchmark.id], run.name: own}
            found.append(compare_answers(benchmark, pair, measures))
        for name, parts in run.parts.items():
            if name != run.name and benchmark.id in parts:
                found.append(compare_answers(benchmark, {run.name: own, name: parts[benchmark.id]}, measures))
    return found


def compare_answers(benchmark: Benchmark, pair: Mapping[str, BenchmarkAnswers], measures: Measures) -> Comparison:
    """Compare two rows on their common clips.

    Args:
        benchmark: What they answer.
        pair: Name -> answers, two of them, in the order of the difference.
        measures: The scorer.
    """
    (first, one), (second, other) = pair.items()
    sides = align_answers(benchmark, one), align_answers(benchmark, other)
    common = [name for name in common_clips(*sides, measures) if one.truth[name] == other.truth[name]]
    empty = Comparison(first, second, benchmark.metrics[0], len(common))
    if not common:
        return _without(empty, "they have no common clip with the same truth")
    try:
        a, b = (measure(benchmark, select_clips(side, common), measures) for side in sides)
    except NanoEmoXError as error:
        return _without(empty, str(error))
    metric = _metric(benchmark, a, b)
    if metric is None:
        return _without(empty, "no score of the two can be resampled")
    clusters = clusters_of(benchmark, common, {**other.speakers, **one.speakers})
    found = difference(metric, a, b, clusters)
    left_out = sum(len(part.truth) - len(common) for part in (one, other))
    note = f"on the {len(common)} common clips" if left_out else ""
    low, high = found["interval"]
    return Comparison(
        first,
        second,
        metric,
        len(common),
        found["difference"],
        (low, high),
        found["p_value"],
        clusters.to_dict(),
        note,
    )


def _metric(benchmark: Benchmark, a: TaskScores, b: TaskScores) -> str | None:
    """Return the first score that both can be resampled for."""
    both = {name for name in a.statistics if name in b.statistics and None not in (a.metrics[name], b.metrics[name])}
    return next((name for name in (*benchmark.metrics, *a.statistics) if name in both), None)


def _without(empty: Comparison, note: str) -> Comparison:
    return Comparison(empty.first, empty.second, empty.metric, empty.num_clips, note=note)
