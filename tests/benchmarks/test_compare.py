"""Paired comparison of two systems on the same clips."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanoemox import cli
from nanoemox.benchmarks.align import AlignedAnswers
from nanoemox.benchmarks.compare import compare_files, differences, format_comparison
from nanoemox.benchmarks.corrected_measures import CorrectedMeasures
from nanoemox.benchmarks.measures import LegacyMeasures
from nanoemox.benchmarks.records import get_benchmark
from nanoemox.benchmarks.score import measure
from nanoemox.benchmarks.score_files import ScoreOptions, score_files
from nanoemox.scoring.legacy.words import LegacyScorer
from nanoemox.types import NanoEmoXError

LABELS = ("joke", "care", "inform", "praise")


def run_of(folder: Path, answers: dict[str, str | None], truth: dict[str, str], benchmark: str = "mintrec") -> Path:
    folder.mkdir(exist_ok=True)
    rows = [
        {"benchmark": benchmark, "id": name, "truth": truth[name], "raw": text,
         "parsed": None if text is None else {"label": text, "probabilities": {text: 0.5}}}
        for name, text in answers.items()
    ]  # fmt: skip
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def pair_of(tmp_path: Path, n: int = 120) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    truth = {str(i): LABELS[i % 4] for i in range(n)}

    def answer(true: str, skill: float) -> str:
        return true if rng.random() < skill else str(rng.choice(LABELS))

    paths = (run_of(tmp_path / name, {k: answer(v, skill) for k, v in truth.items()}, truth)
             for name, skill in (("a", 0.8), ("b", 0.4)))  # fmt: skip
    first, second = paths
    return first, second


def test_differences_are_those_of_the_two_scores(tmp_path: Path) -> None:
    a, b = pair_of(tmp_path)
    found = compare_files(a, b, ScoreOptions())
    ours, theirs = (score_files(path, ScoreOptions())["metrics"] for path in (a, b))
    assert (found["benchmark"], found["n"], found["notes"]) == ("mintrec", 120, [
        "first: 120 clips are scored; the evaluated split has 445",
        "second: 120 clips are scored; the evaluated split has 445",
    ])  # fmt: skip
    assert set(found["metrics"]) == set(ours)
    for name, row in found["metrics"].items():
        assert (row["first"], row["second"]) == (ours[name], theirs[name])
        assert row["difference"] == pytest.approx(ours[name] - theirs[name])
        if name != "expected_calibration_error":
            assert row["interval"][0] <= row["difference"] <= row["interval"][1]
            assert row["p_value"] < 0.01
    back = compare_files(b, a, ScoreOptions())["metrics"]["accuracy"]
    assert back["difference"] == -found["metrics"]["accuracy"]["difference"]
    assert back["p_value"] == found["metrics"]["accuracy"]["p_value"]


def test_every_metric_of_every_task_has_an_interval() -> None:
    chain = "<think>\nscenario: s\nemotion: {0}\ncause: c\ngoal: g\n</think>\nOh dear, oh {0}."
    answers: dict[str, list[tuple[Any, Any]]] = {
        "meld": [
            ("joy", ("happy", "sad")),
            ("anger", ("cross",)),
            ("neutral", None),
            ("sadness", ("glorpy",)),
            ("joy", ("gross",)),
        ],
        "ov_merd": [(("happy", "calm"), ("glad",)), (("sad",), ("sad", "angry")), (("angry",), None)],
        "cmu_mosi": [("positive", "positive"), ("negative", "neutral"), ("neutral", "neutral"), ("positive", None)],
        "mintrec": [("joke", "joke"), ("care", "joke"), ("joke", None)],
        "avamerg": [("sad", chain.format("sad")), ("angry", chain.format("happy")), ("sad", None)],
        "emer": [("She is sad. He cries.", ("sad",)), ("He is angry. He shouts.", ("angry", "sad"))],
    }
    without = {"corpus_distinct_1", "corpus_distinct_2"}  # they depend on how many texts there are
    for key, rows in answers.items():
        truth, given = zip(*rows, strict=True)
        names = tuple(map(str, range(len(rows))))
        found = measure(get_benchmark(key), AlignedAnswers(names, truth, given), CorrectedMeasures())
        assert set(found.metrics) - set(found.statistics) == without & set(found.metrics), key
        for name, (statistic, kept) in found.statistics.items():
            assert set(kept) <= set(range(len(rows)))
            assert statistic(np.arange(len(kept))[None])[0] == pytest.approx(found.metrics[name]), (key, name)


def test_p_value_and_interval_against_all_resamples() -> None:
    """Four clips have 256 resamples: the bootstrap must come near what all of them say."""
    truth, first, second = ["joke"] * 4, ["joke", "joke", "joke", "care"], ["care", "joke", "care", "joke"]
    scores = [
        measure(get_benchmark("mintrec"), AlignedAnswers(tuple("abcd"), tuple(truth), tuple(side)), CorrectedMeasures())
        for side in (first, second)
    ]
    row = differences(*scores, num_resamples=5_000)["accuracy"]
    gain = np.array([(x == t) - (y == t) for x, y, t in zip(first, second, truth, strict=True)])
    every = np.array([gain[list(draw)].mean() for draw in product(range(4), repeat=4)])
    assert row["difference"] == pytest.approx(gain.mean())
    assert row["p_value"] == pytest.approx(2 * min((every <= 0).mean(), (every >= 0).mean()), abs=0.02)
    assert row["interval"] == pytest.approx(np.quantile(every, [0.025, 0.975]).tolist(), abs=1e-9)


def test_comparison_uses_common_clips_only(tmp_path: Path) -> None:
    truth = dict.fromkeys("abcde", "joke")
    a = run_of(tmp_path / "a", {"a": "joke", "b": "joke", "c": None, "d": "care"}, truth)
    b = run_of(tmp_path / "b", {"d": "joke", "c": "joke", "b": "joke", "e": "joke"}, truth)
    found = compare_files(a, b, ScoreOptions())
    assert found["n"] == 3
    assert found["metrics"]["accuracy"]["first"] == pytest.approx(1 / 3)  # c, unanswered, is wrong
    assert found["notes"][0] == "only clips of both are compared; left out: 1 of the first, 1 of the second"
    legacy = compare_files(a, b, ScoreOptions(scorer="legacy"))
    assert (legacy["n"], legacy["metrics"]["accuracy"]["first"]) == (2, 0.5)
    assert "answered by both" in legacy["notes"][0]
    b = run_of(tmp_path / "b", {"a": "joke"}, {"a": "care"})
    with pytest.raises(NanoEmoXError, match="1 of 1 common clips have two truths"):
        compare_files(a, b, ScoreOptions())
    with pytest.raises(NanoEmoXError, match="no clip in common to compare on"):
        compare_files(a, run_of(tmp_path / "b", {"x": "joke"}, {"x": "joke"}), ScoreOptions())
    with pytest.raises(NanoEmoXError, match="answers meld, not mintrec"):
        compare_files(a, run_of(tmp_path / "b", {"a": "joy"}, {"a": "joy"}, "meld"), ScoreOptions())


def test_result_files_and_runs_of_several_benchmarks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "truth.json").write_text(json.dumps({"a": ["sad"], "b": ["happy"]}), "utf-8")
    for name, words in (("x", ["sad"]), ("y", ["angry", "sad"])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"a": words, "b": ["glad"]}), "utf-8")
    args = [tmp_path / "x.json", "--against", tmp_path / "y.json", "--benchmark", "ov_merd"]
    text = command(capsys, *args, "--truth", tmp_path / "truth.json")
    assert "ov_merd · corrected scorer · 2 common clips" in text
    assert "labels_per_answer               1.00    1.50    -0.50  [-1.00, +0.00]  p " in text
    found = json.loads(command(capsys, *args, "--truth", tmp_path / "truth.json", "--json"))
    assert found["metrics"]["precision"]["difference"] == pytest.approx(0.25)
    many = tmp_path / "predictions.jsonl"
    rows = [{"benchmark": key, "id": "a", "truth": "joke", "raw": "joke", "parsed": {"label": "joke"}}
            for key in ("mintrec", "mintrec2")]  # fmt: skip
    many.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    both = compare_files(many, many, ScoreOptions())
    assert list(both["benchmarks"]) == ["mintrec", "mintrec2"]
    row = both["benchmarks"]["mintrec2"]["metrics"]["accuracy"]
    assert (row["difference"], row["interval"], row["p_value"]) == (0, [0, 0], 1)
    assert format_comparison(both).count("common clips") == 2


def command(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(["score", *map(str, args)])
    assert not stop.value.code
    return capsys.readouterr().out


def test_legacy_scorer_supports_comparison() -> None:
    legacy = LegacyMeasures(LegacyScorer(({"sad": "sad", "joy": "happy"},)))
    sides = [
        measure(get_benchmark("meld"), AlignedAnswers(tuple("ab"), ("sad", "joy"), (("sad",), (word,))), legacy)
        for word in ("joy", "sad")
    ]
    row = differences(*sides)["hit_rate"]
    assert (row["first"], row["second"], row["difference"]) == (1.0, 0.5, 0.5)
