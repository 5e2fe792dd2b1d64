"""Clip by clip: which label an answer is read as, how sure it was, and examples that show right and wrong ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.runs import RunPart
from nanoemox.benchmarks.score import Answer
from nanoemox.benchmarks.truth import Value
from nanoemox.reporting.data import Run, aligned
from nanoemox.scoring.corrected.scorer import CorrectedScorer, LabelMap
from nanoemox.scoring.metrics.calibration import ReliabilityBin, expected_calibration_error, reliability_table
from nanoemox.scoring.metrics.classification import Counts, confusion_matrix
from nanoemox.tasks import format_label, parse, parse_label

CLOSED: Final = ("mer", "msa", "mir")
"""Tasks whose truth is one label of a list."""
_HALF: Final = 0.5
_SHOWN: Final = 1500
"""Characters of an answer that are shown."""


@dataclass(frozen=True, slots=True)
class Confusions:
    """Who was taken for what; rows the truth, the last column whatever is none of the labels."""

    labels: tuple[str, ...]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often answers were right, by how sure they were; ``error`` is the expected calibration error."""

    bins: tuple[ReliabilityBin, ...]
    error: float


@dataclass(frozen=True, slots=True)
class Said:
    """What one run said of a clip; ``right`` is None where no label tells."""

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
    said: tuple[Said, ...]
    picture: str | None = None

    def with_picture(self, picture: str | None) -> Example:
        """Return it with a picture."""
        return replace(self, picture=picture)


def confusions(benchmark: Benchmark, part: RunPart) -> Confusions | None:
    """Count truths and answers of a closed task; None of other tasks."""
    if benchmark.task not in CLOSED:
        return None
    clips = aligned(benchmark, part)
    truth = [_wanted(benchmark, value) for value in clips.truth]
    read = [read_label(benchmark, answer) for answer in clips.answers]
    labels = tuple(dict.fromkeys([*benchmark.labels, *truth]))
    return Confusions(labels, confusion_matrix(truth, read, labels))


def reliability(benchmark: Benchmark, part: RunPart) -> Reliability | None:
    """Sort closed answers by their probability; None where the run tells none. An unanswered clip is unsure, wrong."""
    if benchmark.task not in CLOSED or not part.confidences:
        return None
    confidence, right = part.sureness(tuple(part.truth), tuple(part.truth.values()))
    return Reliability(reliability_table(confidence, right), expected_calibration_error(confidence, right))


def read_label(benchmark: Benchmark, answer: Answer) -> str | None:
    """Return the label that an answer to a closed task is read as."""
    if not answer:
        return None
    if benchmark.task == "mer":
        return LabelMap(benchmark.labels).read((answer,) if isinstance(answer, str) else answer)
    return parse_label(answer if isinstance(answer, str) else ", ".join(answer), benchmark.labels)


def is_right(benchmark: Benchmark, truth: Value, answer: Answer, raw: str) -> bool | None:
    """Return whether an answer is right; None where labels do not tell, as of explanations.

    Of open vocabulary: at least half of the families named are true, and half of the true ones are named.
    """
    if benchmark.task in CLOSED:
        return read_label(benchmark, answer) == _wanted(benchmark, truth)
    if benchmark.task == "ovmer":
        words = [(answer,) if isinstance(answer, str) else (answer or ())]
        rows = CorrectedScorer().set_scores([(truth,) if isinstance(truth, str) else truth], words).rows
        return bool((rows >= _HALF).all()) if (rows == rows).all() else None  # NaN: the truth names no family
    if benchmark.task == "erg" and truth:
        chain = parse("erg", raw).think
        return chain is not None and format_label(chain.emotion) == format_label(str(truth))
    return None


def examples(benchmark: Benchmark, runs: Sequence[Run], each: int = 3) -> list[Example]:
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
            _told(runs[0].parts[runs[0].name][benchmark.id].truth[name]),
            tuple(_said(run, benchmark, name, found[name]) for run in runs if name in (found := verdicts[run.name])),
        )
        for name in chosen
    ]


def _verdicts(benchmark: Benchmark, run: Run) -> dict[str, tuple[bool | None, str]]:
    """Return clip -> whether it is right, and the label that its answer is read as."""
    clips = aligned(benchmark, run.parts[run.name][benchmark.id])
    found = {}
    for name, truth, answer in zip(clips.names, clips.truth, clips.answers, strict=True):
        raw = str(run.rows[benchmark.id][name].get("raw") or "")
        label = read_label(benchmark, answer) if benchmark.task in CLOSED else None
        found[name] = (is_right(benchmark, truth, answer, raw), label or "")
    return found


def _said(run: Run, benchmark: Benchmark, name: str, verdict: tuple[bool | None, str]) -> Said:
    row: Mapping[str, Any] = run.rows[benchmark.id][name]
    right, label = verdict
    parsed = row.get("parsed")
    raw = row.get("raw")
    text = raw if isinstance(raw, str) else json.dumps(parsed, ensure_ascii=False) if parsed else ""
    sure = run.parts[run.name][benchmark.id].confidences.get(name)
    read_as = label if sure is None or not label else f"{label} ({100 * sure:.0f} %)"
    error = row.get("error")
    return Said(run.name, text[:_SHOWN], read_as, right, None if error is None else str(error))


def _wanted(benchmark: Benchmark, truth: Value) -> str:
    text = _told(truth)
    if benchmark.task == "mer":
        return LabelMap(benchmark.labels).read((text,)) or text
    return parse_label(text, benchmark.labels) or format_label(text)


def _told(truth: Value) -> str:
    return truth if isinstance(truth, str) else ", ".join(truth)
