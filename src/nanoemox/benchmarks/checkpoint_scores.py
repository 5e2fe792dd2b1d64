"""Scores of several checkpoints in the way of MER-UniBench's printed numbers: the best one, chosen on test clips.

The published evaluator scores every checkpoint on the test part and prints the best, one set at a time, so that one
row of a table mixes checkpoints. Here the best is listed with mean and standard deviation over the checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from nanoemox.benchmarks.published import OTHER_CLIPS, PRINTED
from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.score import Score
from nanoemox.tasks import MER, MSA, OVMER
from nanoemox.types import NanoEmoXError

_FILE: Final = re.compile(r"^checkpoint_0*(?P<epoch>\d+)_.*?(?P<kind>(?:-openset)?(?:-sentiment)?)\.npz$")
_KINDS: Final = {MER.key: "-openset", OVMER.key: "-openset", MSA.key: "-openset-sentiment"}


def checkpoint_files(folder: Path, benchmark: Benchmark) -> dict[int, Path]:
    """Return epoch -> result file of the kind that the benchmark scores.

    Raises:
        NanoEmoXError: The folder (searched recursively) has none, or several runs.
    """
    kind = _KINDS.get(benchmark.task, "")
    found: dict[int, Path] = {}
    for path in sorted(folder.rglob("checkpoint_*.npz")):
        match = _FILE.match(path.name)
        if match and match["kind"] == kind:
            first = found.setdefault(int(match["epoch"]), path)
            if first != path:
                raise NanoEmoXError(f"{folder}: holds epoch {match['epoch']} twice, {first} and {path}: name one run")
    if not found:
        raise NanoEmoXError(f"{folder}: holds neither predictions.jsonl nor checkpoint_*{kind}.npz")
    return dict(sorted(found.items()))


def summarise_checkpoints(benchmark: Benchmark, scores: Mapping[int, Score]) -> dict[str, Any]:
    """Return the scores of every checkpoint, and the best on test with mean, standard deviation and the printed number.

    Args:
        benchmark: The benchmark.
        scores: Epoch -> score; the best epoch is that of the headline metric, as published.
    """
    metrics = {epoch: one.task_scores.metrics for epoch, one in scores.items()}
    headline = next(name for name in benchmark.metrics if any(m.get(name) is not None for m in metrics.values()))
    best = max(metrics, key=lambda epoch: metrics[epoch].get(headline) or 0.0)
    first = next(iter(scores.values()))
    return {
        "benchmark": benchmark.id,
        "scorer": first.scorer,
        "n": first.num_samples,
        "metrics": {
            name: _spread(name, metrics, best) for name, v in first.task_scores.metrics.items() if v is not None
        },
        "printed": {headline: PRINTED[benchmark.id]} if benchmark.id in PRINTED else {},
        "notes": [*first.notes, *_printed_notes(benchmark, first.num_samples)],
        "checkpoints": {str(epoch): one.to_dict() for epoch, one in scores.items()},
    }


def _printed_notes(benchmark: Benchmark, num_samples: int) -> list[str]:
    notes = ["the best of several checkpoints, chosen on test clips, is no estimate of what a model can do"]
    size = OTHER_CLIPS.get(benchmark.id, benchmark.num_samples)
    if benchmark.id in PRINTED and size != num_samples:
        notes.append(f"the printed number is of {size} clips")
    return notes


def _spread(name: str, metrics: Mapping[int, Mapping[str, float | None]], best: int) -> dict[str, Any]:
    """Return the score at the best epoch, mean and sample standard deviation."""
    values = np.array([m[name] for m in metrics.values() if m.get(name) is not None], np.float64)
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"best": metrics[best].get(name), "best_epoch": best, "mean": float(values.mean()), "sd": sd}
