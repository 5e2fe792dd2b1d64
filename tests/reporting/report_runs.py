"""Synthetic run folders of ``nanoemox evaluate``: three closed benchmarks and two open ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nanoemox.benchmarks.records import get_benchmark
from nanoemox.benchmarks.score_files import ScoreOptions, score_files

NUM = 24
OPEN = (("sad", "lonely"), ("happy",), ("angry", "annoyed"))


def write_run(
    out: Path,
    model: str = "ours",
    *,
    benchmarks: Sequence[str] = ("meld", "mintrec", "ov_merd", "emer"),
    good: float = 0.6,
    clips: Sequence[int] = range(NUM),
    seed: int = 0,
    scorer: str = "corrected",
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write a run that is right on a share of the clips, and a baseline that always says the same."""
    generator = np.random.default_rng(seed)
    ours = [row for key in benchmarks for i in clips if (row := _row(key, i, bool(generator.random() < good)))]
    ours = [row | (changes or {}).get(row["id"], {}) for row in ours]
    same = [row | _answer(row["benchmark"], 1) | {"error": None} for row in ours]
    for folder, rows in ((out, ours), (out / "baselines" / "majority", same)):
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "predictions.jsonl").write_text(text, "utf-8")
    (out / "metrics.json").write_text(json.dumps(_metrics(out, model, benchmarks, ours, scorer)), "utf-8")
    return out


def _metrics(
    out: Path, model: str, benchmarks: Sequence[str], rows: Sequence[Mapping[str, Any]], scorer: str
) -> dict[str, Any]:
    folders = {model: out, "majority": out / "baselines" / "majority"}
    found = {}
    for key in benchmarks:
        wanted = ScoreOptions(key, None, scorer)
        found[key] = {
            "title": get_benchmark(key).title,
            "headline": list(get_benchmark(key).metrics),
            "rows": {name: score_files(folder, wanted) for name, folder in folders.items()},
            "unanswered": {r["id"]: r["error"] for r in rows if r["benchmark"] == key and r["error"]},
        }
    return {"model": model, "scorer": scorer, "benchmarks": found}


def _row(key: str, i: int, right: bool) -> dict[str, Any]:
    """Return one clip; the last is unanswered."""
    answer = _answer(key, i if right else i + 1)
    if i == NUM - 1:
        answer = {"raw": None, "parsed": None}
    error = "no such file" if i == NUM - 1 else None
    return {"benchmark": key, "id": f"{key}{i}", "truth": _truth(key, i), **answer, "error": error}


def _truth(key: str, i: int) -> str | list[str]:
    labels = get_benchmark(key).labels
    if labels:
        return labels[i % 3]
    words = list(OPEN[i % 3])
    return words if key == "ov_merd" else f"The person is {words[0]}."


def _answer(key: str, i: int) -> dict[str, Any]:
    benchmark, truth = get_benchmark(key), _truth(key, i)
    if benchmark.labels:
        rest = [label for label in benchmark.labels if label != truth]
        sure = 0.5 + 0.02 * (i % 24)
        chances = {str(truth): sure} | {label: (1 - sure) / len(rest) for label in rest}
        return {"raw": truth, "parsed": {"label": truth, "probabilities": chances}}
    if benchmark.task == "ovmer":
        return {"raw": ", ".join(truth), "parsed": {"labels": list(truth)}}
    return {"raw": truth, "parsed": {"text": truth}}
