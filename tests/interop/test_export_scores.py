"""Scores of exported tasks equal those of ``nanoemox score``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from nanoemox.benchmarks.records import BENCHMARKS, get_benchmark
from nanoemox.benchmarks.score_files import ScoreOptions, score_files
from nanoemox.interop.export_scores import metric_names, prediction_rows, score_answers, write_rows
from tests.test_imports import loaded_after

WRITTEN = {
    "mer": ["Joy.", "the most likely label is anger", "no idea", None],
    "msa": ["positive", "It sounds negative to me.", "", None],
    "mir": ["ask for help", "Asking for opinions", "joke", None],
    "ovmer": ["sad, hopeful", "['angry']", "", None],
    "eri": ["She smiles and is happy.", "He shouts: anger.", "", None],
    "erg": ["<think>\nscenario: s\nemotion: sad\ncause: c\ngoal: g\n</think>\nOh no.", "Great!", "", None],
}
TRUE: dict[str, list[Any]] = {
    "mer": ["joy", "sadness", "anger", "neutral"],
    "msa": ["positive", "negative", "neutral", "negative"],
    "mir": ["ask for help", "advise", "joke", "leave"],
    "ovmer": [["sad"], ["angry", "upset"], ["calm"], ["joyful"]],
    "eri": ["She is glad.", "He is furious.", "Sadness.", "Fear."],
    "erg": ["sad", "joyful", "proud", "lonely"],
}


def collected(task: str) -> list[dict[str, Any]]:
    pairs = zip(TRUE[task], WRITTEN[task], strict=True)
    return [{"id": f"clip {i}", "truth": truth, "raw": raw} for i, (truth, raw) in enumerate(pairs)]


@pytest.mark.parametrize("key", ["meld", "cmu_mosi", "mintrec", "ov_merd", "emer", "avamerg"])
def test_scores_are_those_of_the_command(key: str, tmp_path: Path) -> None:
    answers = collected(get_benchmark(key).task)
    found = score_answers(key, answers)
    write_rows(prediction_rows(key, answers), tmp_path / "predictions.jsonl")
    theirs = score_files(tmp_path, ScoreOptions(key))
    assert found == theirs["metrics"]
    assert theirs["n"] == 4
    assert set(metric_names(get_benchmark(key))) <= set(found)
    assert found[metric_names(get_benchmark(key))[0]] not in (None, 0.0, 1.0)


@pytest.mark.parametrize("record", BENCHMARKS.values(), ids=lambda b: b.id)
@pytest.mark.parametrize("raw", [None, "lol"])
def test_unparsed_answers_are_wrong_not_errors(record: Any, raw: str | None) -> None:
    truth = record.labels[0] if record.labels else TRUE[record.task][0]
    found = score_answers(record.id, [{"id": str(i), "truth": truth, "raw": raw} for i in range(3)])
    headline = found[metric_names(record)[0]]
    assert headline == 0
    assert all(value is None or math.isfinite(value) for value in found.values())


def test_no_torch() -> None:
    code = "from nanoemox.interop.export_scores import score_answers\n"
    code += "score_answers('meld', [{'id': 'a', 'truth': 'joy', 'raw': 'joy'}])"
    assert not {"torch", "transformers"} & loaded_after(code)
