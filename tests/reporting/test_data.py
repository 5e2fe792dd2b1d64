"""Reports: reading, comparing and counting."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nanoemox.benchmarks.corrected_measures import CorrectedMeasures
from nanoemox.benchmarks.published import PRINTED, PUBLISHED, published_results
from nanoemox.benchmarks.records import BENCHMARKS, get_benchmark
from nanoemox.benchmarks.runs import METRICS
from nanoemox.reporting.build import build
from nanoemox.reporting.cases import confusions, examples, is_right, reliability
from nanoemox.reporting.compare import compare_answers, comparisons
from nanoemox.reporting.data import EvaluatedRun, read_runs
from nanoemox.scoring.metrics.bootstrap import bootstrap_difference, mean_statistic
from nanoemox.types import NanoEmoXError
from tests.reporting.report_runs import NUM, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[EvaluatedRun]:
    root = tmp_path_factory.mktemp("runs")
    return read_runs(
        [write_run(root / "a", "ours", good=0.9), write_run(root / "b", "theirs", good=0.2, clips=range(4, NUM))]
    )


def test_a_run_is_read_with_its_baselines(runs: list[EvaluatedRun]) -> None:
    assert [run.name for run in runs] == ["ours", "theirs"]
    assert list(runs[0].parts) == ["ours", "majority"]
    assert len(runs[0].rows["meld"]) == NUM
    assert list(runs[0].score_rows("meld")) == ["ours", "majority"]


def test_runs_of_one_name_are_distinguished_by_folder(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, "mini", benchmarks=["meld"]) for name in ("x", "y")]
    found = read_runs(folders)
    assert [run.name for run in found] == ["mini (x)", "mini (y)"]
    assert [list(run.parts) for run in found] == [["mini (x)", "majority"], ["mini (y)", "majority"]]
    assert len({run.name for run in read_runs([folders[0], folders[0]])}) == 2


def test_unfinished_runs_are_refused(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", benchmarks=["meld"])
    (tmp_path / "begun").mkdir()
    told = json.loads((good / METRICS).read_text("utf-8"))
    bad = {
        "nan": '{"model": "m", "scorer": "corrected", "benchmarks": {"meld": {"title": "t", "headline": ["x"], '
        '"rows": {"m": {"metrics": {"x": NaN}, "n": 1, "n_unanswered": 0}}}}}',
        "list": "[]",
        "torn": '{"model": ',
        "other": json.dumps(told | {"benchmarks": {"nosuch": told["benchmarks"]["meld"]}}),
        "more": json.dumps(told | {"benchmarks": {"mintrec": told["benchmarks"]["meld"]}}),
    }
    for name, text in bad.items():
        write_run(tmp_path / name, benchmarks=["meld"])
        (tmp_path / name / METRICS).write_text(text, "utf-8")
    messages = {
        "absent": "no such folder",
        "begun": "holds no metrics.json.*with the same --out to resume it",
        "nan": r"benchmarks\.meld\.rows\.m\.metrics\.x: .*finite",
        "list": "not written by this package",
        "torn": "not JSON",
        "other": "unknown benchmark 'nosuch'; there are mer2023",
        "more": "scores of mintrec, predictions.jsonl holds no answers with truths",
    }
    for name, message in messages.items():
        with pytest.raises(NanoEmoXError, match=message):
            read_runs([good, tmp_path / name])
    legacy = tmp_path / "legacy"
    write_run(legacy, benchmarks=["mintrec"], scorer="legacy")
    with pytest.raises(NanoEmoXError, match=r"scored by the legacy scorer, .* by the corrected one"):
        read_runs([good, legacy])


def test_difference_uses_common_clips(runs: list[EvaluatedRun]) -> None:
    found = comparisons(get_benchmark("meld"), runs, CorrectedMeasures())
    assert [(c.first, c.second) for c in found] == [
        ("ours", "majority"), ("ours", "theirs"), ("theirs", "majority"),
    ]  # fmt: skip
    ours = found[1]
    assert ours.num_clips == NUM - 4
    names = [f"meld{i}" for i in range(4, NUM)]
    parts = [run.parts[run.name]["meld"] for run in runs]
    right = [mean_statistic([part.labels.get(n) == part.truth[n] for n in names]) for part in parts]
    wanted = bootstrap_difference(right[0], right[1], len(names))
    assert (ours.difference, ours.p_value) == (pytest.approx(wanted.interval.estimate), wanted.p_value)
    assert ours.interval == pytest.approx((wanted.interval.low, wanted.interval.high))
    assert ours.p_value is not None
    assert ours.p_value < 0.01
    assert f"on the {NUM - 4} common clips" in ours.note


def test_the_published_protocol_is_compared_on_clips_that_both_answered(tmp_path: Path) -> None:
    silent = {"parsed": None, "raw": None, "error": "broken"}
    first = write_run(tmp_path / "a", "a", benchmarks=["mintrec"], scorer="legacy", changes={"mintrec0": silent})
    second = write_run(tmp_path / "b", "b", benchmarks=["mintrec"], scorer="legacy", changes={"mintrec1": silent})
    section = next(iter(build(read_runs([first, second]))))
    assert section.comparisons[1].num_clips == NUM - 3  # the last is answered by neither
    assert section.comparisons[1].difference == 0.0


def test_self_comparison_is_zero_and_other_truths_are_excluded(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", benchmarks=["meld"])
    changed = {f"meld{i}": {"truth": "fear"} for i in range(NUM)}
    second = write_run(tmp_path / "b", "other", benchmarks=["meld"], changes=changed)
    one, other = read_runs([first, second])
    benchmark, part = get_benchmark("meld"), one.parts["ours"]["meld"]
    same = compare_answers(benchmark, {"ours": part, "again": part}, CorrectedMeasures())
    assert (same.difference, same.p_value, same.note) == (0.0, 1.0, "")
    none = compare_answers(benchmark, {"ours": part, "other": other.parts["other"]["meld"]}, CorrectedMeasures())
    assert (none.difference, none.p_value) == (None, None)
    assert "no common clip" in none.note


def test_confusions_and_reliability_agree_with_the_scores(runs: list[EvaluatedRun]) -> None:
    for key, metric in (("meld", "hit_rate"), ("mintrec", "accuracy")):
        for run in runs:
            benchmark, part = get_benchmark(key), run.parts[run.name][key]
            scores = run.score_rows(key)[run.name].metrics
            found = confusions(benchmark, part)
            assert found is not None
            assert found.counts.diagonal().sum() / found.counts.sum() == pytest.approx(scores[metric])
            curve = reliability(benchmark, part)
            assert curve is not None
            assert curve.error == pytest.approx(scores["expected_calibration_error"])
    assert confusions(get_benchmark("emer"), runs[0].parts["ours"]["emer"]) is None
    assert reliability(get_benchmark("ov_merd"), runs[0].parts["ours"]["ov_merd"]) is None


def test_example_selection_is_deterministic(runs: list[EvaluatedRun]) -> None:
    benchmark = get_benchmark("meld")
    found = examples(benchmark, runs)
    assert found == examples(benchmark, runs)
    verdicts = [e.answers[0].right for e in found]
    assert verdicts == sorted(verdicts, reverse=True)
    assert verdicts.count(True) == 3
    for e in found:
        assert (e.answers[0].raw == e.truth) is e.answers[0].right
    open_ended = examples(get_benchmark("emer"), runs)
    assert len(open_ended) == 6
    assert {answer.right for e in open_ended for answer in e.answers} == {None}


def test_definition_of_a_right_answer() -> None:
    assert is_right(get_benchmark("meld"), "joy", ("happy",), "") is True
    assert is_right(get_benchmark("meld"), "joy", None, "") is False
    assert is_right(get_benchmark("mintrec"), "Ask for help", "The intent is ask for help.", "") is True
    assert is_right(get_benchmark("cmu_mosi"), "negative", "positive", "") is False
    assert is_right(get_benchmark("ov_merd"), ("sad", "angry"), ("unhappy",), "") is True
    assert is_right(get_benchmark("ov_merd"), ("sad",), ("joyful", "angry", "calm"), "") is False
    assert is_right(get_benchmark("ov_merd"), ("positive",), ("sad",), "") is None
    chain = "<think>\nscenario: a\nemotion: sad\ncause: b\ngoal: c\n</think>\nOh."
    assert is_right(get_benchmark("avamerg"), "sad", chain, chain) is True
    assert is_right(get_benchmark("emer"), "She is sad.", ("sad",), "") is None


def test_sections_cover_all_benchmarks_and_note_incomparable_ones(runs: list[EvaluatedRun]) -> None:
    sections = {s.benchmark.id: s for s in build(runs)}
    assert list(sections) == [key for key in BENCHMARKS if key in ("meld", "ov_merd", "emer", "mintrec")]
    assert sections["emer"].metrics[0] == "f1"  # no judge has spoken
    assert not sections["meld"].legacy
    assert any("--wheel-tables" in remark for remark in sections["meld"].remarks)
    assert any("any emotion words" in remark for remark in sections["meld"].remarks)
    assert set(sections["mintrec"].legacy) == {"ours", "theirs"}  # needs no tables
    assert sections["meld"].unanswered["ours"] == {f"meld{NUM - 1}": "no such file"}
    assert sections["meld"].abstained("ours") == 0
    assert json.loads(json.dumps(sections["meld"].to_dict()))["published"][0]["protocol"] == "legacy"


def test_wheel_tables_add_the_published_protocol(shared: Path, tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "run", benchmarks=["meld"])])
    (meld,) = build(runs, shared / "data" / "emotion_wheel")
    assert len(meld.legacy["ours"].per_wheel) == 5
    assert meld.legacy["ours"].metrics["hit_rate"] is not None
    assert not any("--wheel-tables" in remark for remark in meld.remarks)


def test_printed_numbers_match_the_reference_notes(shared: Path) -> None:
    text = (shared / "reference.md").read_text("utf-8")
    line = next(x for x in text.splitlines() if "Baselines to beat (paper, Nano-EmoX P2E)" in x)
    told = {float(number) for number in re.findall(r"\d+\.\d+", line)}
    ours = [row for row in PUBLISHED if row.system == "Nano-EmoX (P2E)"]
    points = {"clue_overlap", "label_overlap"}
    numbers = {round(v if k in points else 100 * v, 2) for row in ours for k, v in row.metrics.items()}
    assert numbers <= told
    assert len(ours) == 9 + 2 + 1 + 1
    mean = sum(next(iter(row.metrics.values())) for row in ours[:9]) / 9
    assert round(100 * mean, 2) == 74.01  # as printed


def test_printed_rows_name_a_metric_and_a_table() -> None:
    for row in PUBLISHED:
        assert set(row.metrics) <= set(BENCHMARKS[row.benchmark].metrics)
        assert row.table
    assert {p.benchmark: p.metrics for p in PUBLISHED if p.system == "AffectGPT"} == {
        key: {BENCHMARKS[key].metrics[0]: number} for key, number in PRINTED.items()
    }
    assert published_results("meld")[0].system == "Nano-EmoX (P2E)"
    assert published_results("mintrec2") == ()
