"""Scores of answers from other harnesses, equal to ``nanoemox score``; called by exported tasks.

Needs neither a model nor torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from nanoemox.benchmarks.records import Benchmark, get_benchmark
from nanoemox.benchmarks.runs import read_parts
from nanoemox.benchmarks.score import score
from nanoemox.tasks import parse

JUDGE_METRICS: Final = ("clue_overlap", "label_overlap")


def metric_names(benchmark: Benchmark) -> tuple[str, ...]:
    """Return the scores of a benchmark that need no judge, the headline first."""
    return tuple(name for name in benchmark.metrics if name not in JUDGE_METRICS)


def prediction_rows(benchmark_id: str, answers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of ``predictions.jsonl``.

    Args:
        benchmark_id: Id of the benchmark.
        answers: One mapping per clip: ``id``, ``truth``, and ``raw``, the output of the model or None.
    """
    benchmark = get_benchmark(benchmark_id)
    labels = benchmark.labels if benchmark.form == "label" else None
    rows = []
    for answer in answers:
        raw = answer["raw"]
        parsed = None if raw is None else parse(benchmark.task, raw, labels).to_dict()
        known = {"benchmark": benchmark_id, "id": answer["id"], "truth": answer["truth"]}
        rows.append(known | {"raw": raw, "parsed": parsed})
    return rows


def score_answers(benchmark_id: str, answers: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the metrics of answers as fractions of one; a clip without a parsable answer counts as wrong.

    Arguments as for ``prediction_rows``; the metrics equal those of ``nanoemox score`` on the same rows.
    """
    benchmark = get_benchmark(benchmark_id)
    rows = prediction_rows(benchmark_id, answers)
    if not any(_readable(row["parsed"]) for row in rows):
        return dict.fromkeys(metric_names(benchmark), 0.0)
    given = read_parts({benchmark_id: {str(row["id"]): row for row in rows}}, "the answers")[benchmark_id]
    return score(given.truth, given, benchmark).task_scores.metrics


def _readable(parsed: Mapping[str, Any] | None) -> bool:
    """Return whether there is an answer; for a closed task, one that names a candidate."""
    return parsed is not None and parsed.get("label", "") is not None


def write_rows(rows: Iterable[Mapping[str, Any]], file: Path) -> None:
    """Write rows in the format that ``nanoemox score`` reads."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
