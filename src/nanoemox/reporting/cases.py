"""Per-clip results: confusion matrix, reliability curve, and examples of right and wrong answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from nanoemox.benchmarks.align import AnswerValue, read_label, true_label
from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.runs import BenchmarkAnswers
from nanoemox.benchmarks.truth import Value
from nanoemox.reporting.data import EvaluatedRun, align_answers
from nanoemox.scoring.corrected.scorer import CorrectedScorer
from nanoemox.scoring.metrics.calibration import ReliabilityBin, expected_calibration_error, reliability_table
from nanoemox.scoring.metrics.classification import Counts, confusion_matrix
from nanoemox.tasks import format_label, parse

_HALF: Final = 0.5
_SHOWN: Final = 1500
"""Characters of an answer that are shown."""


@dataclass(frozen=True, slots=True)
class Confusions:
    """A confusion matrix; rows are the truth, the last column counts answers that name no label."""

    labels: tuple[str, ...]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability curve: accuracy by confidence; ``error`` is the expected calibration error."""

    bins: tuple[ReliabilityBin, ...]
    error: float


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """One run's answer to a clip; ``right`` is None if labels cannot decide."""

    run: str
    raw: str
    read_as: str
    right: bool | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Example:
    """One clip with its truth and the runs' answers; ``picture`` is a JPEG in base64."""

    name: str
    truth: str
    answers: tuple[RunAnswer, ...]
    picture: str | None = None

    def with_picture(self, picture: str | None) -> Example:
        """Return it with a picture."""
        return replace(self, picture=picture)


def confusions(benchmark: Benchmark, part: BenchmarkAnswers) -> Confusions | None:
    """Count truths and answers of a closed task; None of other tasks."""
    if benchmark.form != "label":
        return None
    clips = align_answers(benchmark, part)
    truth = [true_label(benchmark, value) for value in clips.truth]
    read = [read_label(benchmark, answer) for answer in clips.answers]
    labels = tuple(dict.fromkeys([*benchmark.labels, *truth]))
    return Confusions(labels, confusion_matrix(truth, read, labels))


def reliability(benchmark: Benchmark, part: BenchmarkAnswers) -> Reliability | None:
    """Sort closed answers by probability; None if the run has none. An unanswered clip is wrong, with probability 0."""
    if benchmark.form != "label" or not part.confidences:
        return None
    confidence, right = part.confidence(benchmark, tuple(part.truth), tuple(part.truth.values()))
    return Reliability(reliability_table(confidence, right), expected_calibration_error(confidence, right))


def is_right(benchmark: Benchmark, truth: Value, answer: AnswerValue, raw: str) -> bool | None:
    """Return whether an answer is right; None if labels cannot decide, as for explanations.

    Of open vocabulary: at least half of the families named are true, and half of the true ones are named.
    """
    if benchmark.form == "label":
        return read_label(benchmark, answer) == true_label(benchmark, truth)
    if benchmark.form == "labels":
        words = [(answer,) if isinstance(answer, str) else (answer or ())]
        rows = CorrectedScorer().set_scores([(truth,) if isinstance(truth, str) else truth], words).rows
        return bool((rows >= _HALF).all()) if (rows == rows).all() else None  # NaN: the truth names no family
    if benchmark.form == "reply" and truth:
        chain = parse(benchmark.task, raw).think
        return chain is not None and format_label(chain.emotion) == format_label(str(truth))
    return None


def examples(benchmark: Benchmark, runs: Sequence[EvaluatedRun], each: int = 3) -> list[Example]:
    """Return clips that the first run got right and wrong, ``each`` of both, drawn by a hash of their names.

    Where labels do not tell, twice as many clips as they come.
    """
    verdicts = {run.name: _verdicts(benchmark, run) for run in runs}
    first = verdicts[runs[0].name]
    drawn = sorted(first, key=lambda name: hashlib.sha256(name.encode()).digest())
    wanted = {True: each, False: each, None: 2 * each}
    chosen = []
    for right, size in wanted.items():
        chosen += [name for name in drawn if first[name][0] is right][:size]
    return [
        Example(
            name,
            _truth_text(runs[0].parts[runs[0].name][benchmark.id].truth[name]),
            tuple(
                _run_answer(run, benchmark, name, found[name]) for run in runs if name in (found := verdicts[run.name])
            ),
        )
        for name in chosen
    ]


def _verdicts(benchmark: Benchmark, run: EvaluatedRun) -> dict[str, tuple[bool | None, str]]:
    """Return clip -> whether it is right, and the label that its answer is read as."""
    clips = align_answers(benchmark, run.parts[run.name][benchmark.id])
    found = {}
    for name, truth, answer in zip(clips.names, clips.truth, clips.answers, strict=True):
        raw = str(run.rows[benchmark.id][name].get("raw") or "")
        label = read_label(benchmark, answer) if benchmark.form == "label" else None
        found[name] = (is_right(benchmark, truth, answer, raw), label or "")
    return found


def _run_answer(run: EvaluatedRun, benchmark: Benchmark, name: str, verdict: tuple[bool | None, str]) -> RunAnswer:
    row: Mapping[str, Any] = run.rows[benchmark.id][name]
    right, label = verdict
    parsed = row.get("parsed")
    raw = row.get("raw")
    text = raw if isinstance(raw, str) else json.dumps(parsed, ensure_ascii=False) if parsed else ""
    sure = run.parts[run.name][benchmark.id].confidences.get(name)
    read_as = label if sure is None or not label else f"{label} ({100 * sure:.0f} %)"
    error = row.get("error")
    return RunAnswer(run.name, text[:_SHOWN], read_as, right, None if error is None else str(error))


def _truth_text(truth: Value) -> str:
    return truth if isinstance(truth, str) else ", ".join(truth)
