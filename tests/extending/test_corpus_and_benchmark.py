"""A corpus and its benchmark from outside the package: prepared, checked, trained on, answered and scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from nanoemox.benchmarks.evaluate import EvaluateOptions, evaluate_run
from nanoemox.benchmarks.records import BENCHMARKS, HIT_RATE, Benchmark
from nanoemox.data.corpora import READERS, Corpus, read_corpora
from nanoemox.data.corpora.common import Source
from nanoemox.data.doctor.check import check
from nanoemox.data.manifest import Sample
from nanoemox.data.prepare import prepare
from nanoemox.training.command import run_train
from tests.tiny import save_tiny

MOODS: Final = ("happy", "sad", "angry")


def read_radio(root: Path) -> list[Sample]:
    """A line a call: name, part, mood, words, with bars between."""
    rows = [line.split("|") for line in (root / "calls.txt").read_text("utf-8").splitlines()]
    return [Source(n, "radio", part, subtitle=words).closed("mer", mood, MOODS) for n, part, mood, words in rows]


RADIO: Final = Corpus(read_radio, "yours", "record calls", "calls.txt", words_alone=True)
RECORD: Final = Benchmark(
    "radio_calls", "Radio calls", "mer", "radio", HIT_RATE, MOODS, None, "radio", speaker_pattern=r"^(\w+)-"
)


RECIPE: Final = """
name: radio
phases:
  only:
    trainable: [lora]
    lora: {r: 2, alpha: 4, dropout: 0.0}
    mixture: {radio/mer: 1}
    lr: 1.0e-3
    steps: 2
    micro_batch: 2
"""


def test_new_corpus_and_benchmark_take_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, "radio", RADIO)  # the one line of the corpus
    monkeypatch.setitem(BENCHMARKS, "radio_calls", RECORD)  # the one line of the benchmark
    data = tmp_path / "data"
    (data / "radio").mkdir(parents=True)
    lines = [f"p{i % 3}-{i}|{'test' if i > 2 else 'train'}|{MOODS[i % 3]}|call number {i}" for i in range(9)]
    (data / "radio" / "calls.txt").write_text("\n".join(lines), "utf-8")

    summary = prepare("radio", data / "radio", tmp_path / "prepared")
    assert {split: part["samples"] for split, part in summary["splits"].items()} == {"train": 3, "test": 6}
    assert check("radio", data / "radio").samples == 9
    assert len(read_corpora(data, ["radio"])["radio"]) == 9

    (tmp_path / "radio.yaml").write_text(RECIPE)
    trained = run_train(tmp_path / "radio.yaml", data, tmp_path / "trained", save_tiny(tmp_path / "base"), show=False)
    assert trained["phases"]["only"]["steps"] == 2

    out, model = tmp_path / "run", tmp_path / "trained" / "model"
    summary = evaluate_run(
        EvaluateOptions(benchmarks=("radio_calls",), data_root=data, out=out, model=str(model), batch=2, device="cpu")
    )
    assert summary is not None
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == [f"p{i % 3}-{i}" for i in range(3, 9)]
    assert {row["parsed"]["label"] for row in rows} <= set(MOODS)
    told = json.dumps(summary, default=str)
    assert "radio_calls" in told
    assert "hit_rate" in told
