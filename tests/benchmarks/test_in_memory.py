"""Scoring in memory equals scoring with the commands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import nanoemox
from nanoemox.benchmarks.answerer import Reply
from nanoemox.benchmarks.baselines import Majority
from nanoemox.benchmarks.compare import compare, compare_files
from nanoemox.benchmarks.evaluate import evaluate
from nanoemox.benchmarks.judge import JudgeItem, judge
from nanoemox.benchmarks.records import Benchmark, get_benchmark
from nanoemox.benchmarks.score import score
from nanoemox.benchmarks.score_files import ScoreOptions, score_files
from nanoemox.data.manifest import ClosedLabels, Sample
from nanoemox.judging.endpoint import Completion, Message, Usage
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import NanoEmoXError

CHAIN = "<think>\nscenario: a\nemotion: {}\ncause: b\ngoal: c\n</think>\nThat is hard."
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mer2023": ({"a": "happy", "b": "sad", "c": "angry"}, {"a": "happy", "b": "She seems angry."}),
    "cmu_mosi": ({"a": "positive", "b": "negative", "c": "neutral"}, {"a": "positive", "b": "positive", "c": None}),
    "mintrec": ({"a": "joke", "b": "care", "c": "praise"}, {"a": "joke", "b": "joke", "c": "praise"}),
    "ov_merd": ({"a": ("happy", "calm"), "b": ("sad",)}, {"a": ["happy"], "b": ["angry", "sad"]}),
    "emer": ({"a": "He is happy.", "b": "She is sad and angry."}, {"a": "The man feels happy.", "b": "She is calm."}),
    "avamerg": ({"a": "sad", "b": "happy"}, {"a": CHAIN.format("sad"), "b": CHAIN.format("angry")}),
}


def in_files(folder: Path, key: str) -> tuple[Path, Path]:
    """The case as the two JSON files that the command reads."""
    truth, answers = folder / "truth.json", folder / "answers.json"
    for file, values in zip((truth, answers), CASES[key], strict=True):
        file.write_text(json.dumps({name: value for name, value in values.items() if value is not None}), "utf-8")
    return truth, answers


@pytest.mark.parametrize(
    ("key", "scorer"),
    [(key, "corrected") for key in CASES] + [(key, "legacy") for key in ("cmu_mosi", "mintrec", "avamerg")],
)
def test_scoring_dicts_equals_scoring_files(tmp_path: Path, key: str, scorer: str) -> None:
    truth, answers = CASES[key]
    clips = [name for name, value in answers.items() if value is not None] if scorer == "legacy" else None
    found = score(truth, answers, key, scorer=scorer, clips=clips)
    label_file, result_file = in_files(tmp_path, key)
    wanted = score_files(result_file, ScoreOptions(key, truth=label_file, scorer=scorer))
    assert json.dumps(found.to_dict()) == json.dumps(wanted)
    assert found.task_scores.metrics[get_benchmark(key).metrics[0 if key != "emer" else 2]] is not None


def test_comparing_in_memory_equals_comparing_files(tmp_path: Path) -> None:
    truth, first = CASES["mintrec"]
    second = dict.fromkeys(first, "care")
    label_file, result_file = in_files(tmp_path, "mintrec")
    (tmp_path / "second.json").write_text(json.dumps(second), "utf-8")
    files = compare_files(result_file, tmp_path / "second.json", ScoreOptions("mintrec", truth=label_file))
    named = {"first": files.pop("first"), "second": files.pop("second")}
    assert named == {"first": str(result_file), "second": str(tmp_path / "second.json")}
    assert compare(truth, first, second, "mintrec") == files


def test_public_names_resolve_to_the_functions() -> None:
    assert (nanoemox.score, nanoemox.compare, nanoemox.evaluate) == (score, compare, evaluate)


@pytest.mark.parametrize(
    ("truth", "answers", "message"),
    [
        ({"a": "joke"}, {"b": "joke"}, "no clip in common"),
        ({"a": "joke"}, {"a": "joke", "b": ["joke", "care"]}, "either texts or lists of words"),
        ({"a": 3}, {"a": "joke"}, "neither a text nor a list of words"),
    ],
)
def test_invalid_values_are_named(truth: Any, answers: Any, message: str) -> None:
    with pytest.raises(NanoEmoXError, match=message):
        score(truth, answers, "mintrec")


def samples() -> list[Sample]:
    labels = LABEL_SETS["mintrec"]
    return [
        Sample(id=f"c{i}", corpus="mintrec", split="test", task="mir", subtitle=f"words {i}",
               labels=ClosedLabels(label=labels[i % 3], candidates=labels))
        for i in range(7)
    ]  # fmt: skip


class Parrot:
    """Answers the first label, in batches that are counted; one clip fails."""

    name = "parrot"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        self.batches.append(len(samples))
        label = benchmark.labels[0]
        known = {"label": label, "probabilities": {label: 0.75}}
        return [Reply(error="no picture") if s.id == "c6" else Reply(label, known) for s in samples]


def test_a_model_is_evaluated_without_a_folder() -> None:
    model = Parrot()
    answers = evaluate(model, "mintrec", samples(), batch_size=3)
    assert model.batches == [3, 3, 1]
    assert answers.clips == tuple(f"c{i}" for i in range(7))
    assert set(answers.predictions.texts) == {f"c{i}" for i in range(6)}
    found = score(answers.truth, answers, "mintrec")
    assert found.num_unanswered == 1
    assert found.task_scores.metrics["accuracy"] == pytest.approx(2 / 7)
    assert found.task_scores.metrics["expected_calibration_error"] is not None  # the answers carry probabilities
    count = Majority.count(get_benchmark("mintrec"), samples())
    assert score(answers.truth, evaluate(count, "mintrec", samples()), "mintrec").num_unanswered == 0


class Judge:
    """Gives every answer the same points."""

    def __init__(self, points: int) -> None:
        self.points, self.usage, self.settings = points, Usage(), {"seed": 0}

    def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        text = json.dumps({"clue_overlap": self.points, "label_overlap": self.points})
        return Completion(text, "stop", 1, 1, "judge")

    def close(self) -> None:
        """Nothing is open."""


def test_answers_are_judged_without_a_folder() -> None:
    items = [JudgeItem("emer", name, {"REFERENCE": "He is sad.", "ANSWER": "Sad."}) for name in "ab"]
    judges: Mapping[str, Judge] = {"kind": Judge(8), "strict": Judge(2), "third": Judge(4)}
    found = judge([*items, JudgeItem("emer", "c", None)], judges)
    assert found["benchmarks"]["emer"]["unanswered"] == 1
    assert found["benchmarks"]["emer"]["metrics"]["clue_overlap"]["mean"] == pytest.approx((4 + 4 + 1) / 3)
