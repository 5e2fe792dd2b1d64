"""Compare two systems on their common clips: differences with intervals and p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nanoemox.benchmarks.align import AlignedAnswers, select_clips
from nanoemox.benchmarks.clusters import Clusters, clusters_of, clusters_text
from nanoemox.benchmarks.measures import Measures, TaskScores
from nanoemox.benchmarks.published import PROTOCOL
from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.score import (
    AnyPredictions,
    ScoringInput,
    calibration_metrics,
    measure,
    measures_of,
    scoring_input,
)
from nanoemox.benchmarks.score_files import ScoreOptions, load, open_reader
from nanoemox.benchmarks.tables import cell
from nanoemox.judging.language_models import cost_line
from nanoemox.scoring.metrics.bootstrap import bootstrap_difference
from nanoemox.types import NanoEmoXError


def compare(
    truth: Mapping[str, str | Sequence[str]],
    first: AnyPredictions,
    second: AnyPredictions,
    benchmark: Benchmark | str,
    *,
    scorer: Measures | str = "corrected",
    speakers: Mapping[str, str] | None = None,
    intervals: str = "auto",
) -> dict[str, Any]:
    """Compare two systems on one benchmark.

    Args:
        truth: Clip -> label, text or emotion words.
        first: Predictions of one system, as ``score`` takes them.
        second: Predictions of the other.
        benchmark: The benchmark, or its id.
        scorer: ``corrected``, ``legacy``, or a scorer (``measures_of``).
        speakers: Clip -> speaker, if known.
        intervals: What the bootstrap resamples: ``auto`` (speakers, else dialogues, else clips) or ``clip``.

    Returns:
        ``benchmark``, ``scorer``, ``n`` (common clips), ``clusters``, ``notes`` and ``metrics``, as of ``differences``.

    Raises:
        NanoEmoXError: An unusable value, or no clip in common.
    """
    measures = measures_of(scorer) if isinstance(scorer, str) else scorer
    one, other = (scoring_input(truth, given, benchmark, speakers=speakers) for given in (first, second))
    return compare_inputs(one, other, measures, intervals)


def compare_files(first: Path, second: Path, options: ScoreOptions) -> dict[str, Any]:
    """Compare two runs or result files; several benchmarks are under ``benchmarks``.

    Args:
        first: The run or file whose advantage is reported.
        second: The other.
        options: The options of ``nanoemox score``, for both.

    Raises:
        NanoEmoXError: An unusable file or option, or no benchmark in common.
    """
    measures = measures_of(options.scorer, options.wheel_tables)
    sides, readers = [], []
    for path in (first, second):
        with open_reader(path, options) as reader:
            sides.append({one.benchmark.id: one for one in load(path, options, reader)})
            readers += [] if reader is None else [reader.to_dict()]
        if options.benchmark is None and len(sides[0]) == 1:
            options = replace(options, benchmark=next(iter(sides[0])))
    ours, theirs = sides
    both = [key for key in ours if key in theirs]
    if not both:
        raise NanoEmoXError(f"no benchmark in common: {first} answers {', '.join(ours)}, {second} {', '.join(theirs)}")
    paths = {"first": str(first), "second": str(second)}
    found = {key: paths | compare_inputs(ours[key], theirs[key], measures, options.intervals) for key in both}
    result: dict[str, Any] = found[both[0]] if len(both) == 1 else {"benchmarks": found}
    return result | {"extraction": readers} if readers else result


def compare_inputs(first: ScoringInput, second: ScoringInput, measures: Measures, by: str = "auto") -> dict[str, Any]:
    """Return the scores of both on their common clips, and the differences; ``by`` as ``intervals`` of ``compare``.

    Args:
        first: One side.
        second: The other.
        measures: The scorer.
        by: Resampled unit: ``auto`` (speaker, else dialogue, else clip) or ``clip``.

    Raises:
        NanoEmoXError: They have no clip in common, or different truths for the same clip.
    """
    one, other = first.aligned, second.aligned
    names = common_clips(one, other, measures)
    if not names:
        raise NanoEmoXError(f"{first.benchmark.id}: no clip in common to compare on")
    a, b = select_clips(one, names), select_clips(other, names)
    differing = sum(left != right for left, right in zip(a.truth, b.truth, strict=True))
    if differing:
        raise NanoEmoXError(
            f"{first.benchmark.id}: {differing} of {len(names)} common clips have two truths: name one with --truth"
        )
    notes = []
    left_out = [len(side.names) - len(names) for side in (one, other)]
    if any(left_out):
        which = "answered by both" if measures.name == PROTOCOL else "of both"
        notes.append(
            f"only clips {which} are compared; left out: {left_out[0]} of the first, {left_out[1]} of the second"
        )
    notes += [f"first: {note}" for note in one.notes] + [f"second: {note}" for note in other.notes]
    clusters = clusters_of(first.benchmark, names, {**b.speakers, **a.speakers}, by)
    notes += clusters.notes()
    ours, theirs = (_scores(given, side, measures) for given, side in ((first, a), (second, b)))
    return {
        "benchmark": first.benchmark.id,
        "scorer": measures.name,
        "n": len(names),
        "clusters": clusters.to_dict(),
        "metrics": differences(ours, theirs, clusters),
        "notes": notes,
    }


def common_clips(one: AlignedAnswers, other: AlignedAnswers, measures: Measures) -> list[str]:
    """Return the clips on which both can be compared, in the order of the first.

    The published protocol drops clips without an answer, so with it both must have answered.
    """
    first, second = (dict(zip(side.names, side.answers, strict=True)) for side in (one, other))
    names = [name for name in first if name in second]
    if measures.name == PROTOCOL:
        names = [name for name in names if first[name] is not None and second[name] is not None]
    return names


def differences(
    first: TaskScores, second: TaskScores, clusters: Clusters | None = None, *, num_resamples: int = 2000
) -> dict[str, dict[str, Any]]:
    """Return, metric by metric, both scores, first minus second, its 95 % interval and two-sided p-value.

    Both must be of the same clips in the same order. Interval and p-value come from one paired bootstrap
    (``bootstrap_difference``) of ``clusters``, by default clips; they are None if a score has no function
    of resampled clips.
    """
    return {name: difference(name, first, second, clusters, num_resamples=num_resamples) for name in first.metrics}


def difference(
    name: str, first: TaskScores, second: TaskScores, clusters: Clusters | None = None, *, num_resamples: int = 2000
) -> dict[str, Any]:
    """Return the row of one metric of ``differences``."""
    ours, theirs = first.metrics[name], second.metrics.get(name)
    row: dict[str, Any] = {"first": ours, "second": theirs, "difference": None, "interval": None, "p_value": None}
    if ours is None or theirs is None:
        return row
    row["difference"] = ours - theirs
    if name in first.statistics and name in second.statistics:
        (left, kept), (right, _) = first.statistics[name], second.statistics[name]
        keys = None if clusters is None else clusters.of(kept)
        found = bootstrap_difference(left, right, len(kept), clusters=keys, num_resamples=num_resamples)
        row |= {"interval": [found.interval.low, found.interval.high], "p_value": found.p_value}
    return row


def format_comparison(result: Mapping[str, Any]) -> str:
    """Format a comparison as text, in percent."""
    parts = result.get("benchmarks", {None: result}).values()
    texts = []
    for part in parts:
        by = clusters_text(part["clusters"])
        lines = [f"{part['benchmark']} · {part['scorer']} scorer · {part['n']} common clips · intervals by {by}"]
        lines += [f"  first:  {part['first']}", f"  second: {part['second']}"]
        for name, row in part["metrics"].items():
            scores = f"{cell(name, row['first']):>7} {cell(name, row['second']):>7}"
            lines.append(f"  {name:<28} {scores}{_difference(name, row)}")
        texts.append("\n".join([*lines, *(f"  note: {note}" for note in part["notes"])]))
    costs = [cost_line(reader["model"], reader["cost"]) for reader in result.get("extraction", ())]
    return "\n".join(["\n\n".join(texts), *costs])


def _difference(name: str, row: Mapping[str, Any]) -> str:
    if row["difference"] is None:
        return ""
    text = f"  {_signed(name, row['difference']):>7}"
    if row["interval"] is None:
        return text
    low, high = (_signed(name, end) for end in row["interval"])
    return f"{text}  [{low}, {high}]  p {row['p_value']:.4f}"


def _signed(name: str, value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{cell(name, abs(value))}"


def _scores(given: ScoringInput, aligned: AlignedAnswers, measures: Measures) -> TaskScores:
    found = measure(given.benchmark, aligned, measures)
    return replace(found, metrics=found.metrics | calibration_metrics(given, aligned))
