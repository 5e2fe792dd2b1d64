"""A seventh task, from outside the package: is the person telling the truth?"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typer.testing import CliRunner

from nanoemox.benchmarks.evaluate import EvaluateOptions, evaluate_run
from nanoemox.benchmarks.records import BENCHMARKS, INTENT, Benchmark
from nanoemox.benchmarks.score import score
from nanoemox.cli import app
from nanoemox.data.manifest import ClosedLabels, Sample, write_manifest
from nanoemox.inference.engine import Engine
from nanoemox.tasks import ALL_TASKS, ERG, ERI, MER, OVMER, TASKS, ClosedTask, Task
from nanoemox.tasks.erg import ReplyTask
from nanoemox.tasks.eri import TextTask
from nanoemox.tasks.ovmer import WordsTask
from nanoemox.tasks.templates import load_templates
from nanoemox.training.command import run_train
from nanoemox.types import CheckpointError
from tests.tiny import save_tiny, tiny_clip

HONESTY: Final = ClosedTask(
    "honesty", "honesty of a statement", "honesty", 2, "[Honesty]", ("honest", "joking", "lying")
)
STATEMENTS: Final = Benchmark(
    "statements", "Statements", "honesty", "said", INTENT, HONESTY.labels, None, "statements", split="validation"
)
CHAIN: Final = "<think>\nscenario: s\nemotion: {}\ncause: c\ngoal: g\n</think>\n"
SAMPLE: Final = Path(__file__).parents[2] / "src/nanoemox/assets/sample.mp4"
QUESTIONS: Final = {"questions": ["[Honesty] Which is it? {labels}."], "answer": "{label}"}
RECIPE: Final = """
name: honesty
phases:
  only:
    trainable: [lora]
    lora: {r: 2, alpha: 4, dropout: 0.0}
    mixture: {said/honesty: 1}
    lr: 1.0e-3
    steps: 2
    micro_batch: 2
"""


@pytest.fixture
def seventh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "honesty", HONESTY)  # the one line


def model_that_asks(folder: Path) -> Path:
    save_tiny(folder)
    path = folder / "templates.yaml"
    words = yaml.safe_load(path.read_text())
    words["tasks"]["honesty"] = QUESTIONS
    path.write_text(yaml.safe_dump(words, sort_keys=False))
    return folder


@pytest.mark.usefixtures("seventh")
def test_new_task_is_trained_answered_tabulated_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, base = tmp_path / "data", model_that_asks(tmp_path / "base")
    samples = [
        Sample(
            id=f"s{i}", corpus="said", split="validation" if i > 3 else "train", task="honesty", subtitle=f"words {i}",
            labels=ClosedLabels(label=HONESTY.labels[i % 3], candidates=HONESTY.labels),
        )
        for i in range(6)
    ]  # fmt: skip
    (data / "manifests").mkdir(parents=True)
    write_manifest(samples, data / "manifests" / "said.jsonl")
    (tmp_path / "honesty.yaml").write_text(RECIPE)
    result = run_train(tmp_path / "honesty.yaml", data, tmp_path / "run", base, show=False)
    assert result["phases"]["only"]["validation"]["said/honesty/n"] == 2

    trained = tmp_path / "run" / "model"
    answer = Engine.from_pretrained(trained, device="cpu").answer(tiny_clip(), ("honesty", "mer"))
    assert list(answer.tasks["honesty"].probabilities) == ["honest", "joking", "lying"]
    assert sum(answer.tasks["honesty"].probabilities.values()) == pytest.approx(1, abs=1e-5)

    arguments = ["answer", "--text", "I never saw it.", "--task", "honesty", "--model", str(trained), "--device", "cpu"]
    told = CliRunner().invoke(app, [*arguments, "--json"])
    assert set(json.loads(told.stdout)["tasks"]) == {"honesty"}
    assert "honesty" in CliRunner().invoke(app, arguments).output
    assert "honesty" not in ALL_TASKS  # who asks for all gets the six

    table = tmp_path / "answers.csv"
    clip = ["answer", str(SAMPLE), "--task", "honesty,mer", "--model", str(trained), "--device", "cpu"]
    assert CliRunner().invoke(app, [*clip, "--csv", str(table)]).exit_code == 0
    (row,) = csv.DictReader(table.read_text("utf-8").splitlines())
    assert list(row)[-6:] == [*HONESTY.columns(), *MER.columns()]
    shares = json.loads(row["honesty_probabilities"])
    assert list(shares) == list(HONESTY.labels)
    assert shares[row["honesty_label"]] == float(row["honesty_probability"]) == max(shares.values())

    monkeypatch.setitem(BENCHMARKS, "statements", STATEMENTS)
    options = EvaluateOptions(
        benchmarks=("statements",), data_root=data, out=tmp_path / "scored", model=str(trained), device="cpu"
    )
    summary = evaluate_run(options)
    assert summary is not None
    scored = summary["benchmarks"]["statements"]["rows"][summary["model"]]
    lines = (tmp_path / "scored" / "predictions.jsonl").read_text("utf-8").splitlines()
    said = {line["id"]: line["parsed"]["label"] for line in map(json.loads, lines)}
    right = sum(said[s.id] == s.labels.label for s in samples if s.id in said)
    assert (scored["n"], len(said)) == (2, 2)
    assert scored["metrics"]["accuracy"] == pytest.approx(right / 2)


@pytest.mark.usefixtures("seventh")
def test_model_without_the_tasks_question_gives_a_clear_error(tmp_path: Path) -> None:
    engine = Engine.from_pretrained(save_tiny(tmp_path / "plain"), device="cpu")
    with pytest.raises(CheckpointError, match=r"no question for task 'honesty': add tasks\.honesty to its templates"):
        engine.answer(tiny_clip(), ("honesty",))
    assert "honesty" not in load_templates().tasks


@pytest.mark.parametrize(
    ("outside", "inside", "truth", "answers"),
    [
        (
            WordsTask("moods", "moods of a speaker", "moods", 1, "[Moods]"),
            OVMER,
            {"a": ["angry", "sad"], "b": ["happy"], "c": ["afraid"]},
            {"a": ["furious"], "b": ["joyful", "calm"], "c": ["sad"]},
        ),
        (
            TextTask("causes", "causes of a mood", "causes", 2, "[Causes]"),
            ERI,
            {"a": "The voice is loud, so she is angry.", "b": "A smile: happiness."},
            {"a": "He shouts and seems furious.", "b": "The face looks sad."},
        ),
        (
            ReplyTask("advice", "advice to a speaker", "advice", 3, "[Advice]"),
            ERG,
            {"a": "sad", "b": "happy"},
            {"a": f"{CHAIN.format('sad')}I am sorry.", "b": f"{CHAIN.format('angry')}Oh."},
        ),
    ],
)
def test_an_open_task_from_outside_is_scored_as_its_form(
    outside: Task, inside: Task, truth: Any, answers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, outside.key, outside)
    ours = next(b for b in BENCHMARKS.values() if b.task == inside.key)
    expected = score(truth, answers, ours)
    found = score(truth, answers, replace(ours, task=outside.key))
    assert found.task_scores.metrics == expected.task_scores.metrics
    assert found.baselines == expected.baselines
    assert any(value for value in found.task_scores.metrics.values())
