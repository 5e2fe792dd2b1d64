"""``nanoemox score`` on runs, result files and folders of checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanoemox import cli
from nanoemox.benchmarks.checkpoint_scores import checkpoint_files
from nanoemox.benchmarks.published import PRINTED
from nanoemox.benchmarks.records import get_benchmark
from nanoemox.benchmarks.score_files import format_scores
from nanoemox.types import NanoEmoXError

RUN = "emercoarse_highlevelfilter4_outputhybird_bestsetup_bestfusion_lz_20250110100"


def command(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = 0
    try:
        cli.main(["score", *map(str, args)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def row(name: str, label: str | None, chance: float = 1.0, **other: Any) -> dict[str, Any]:
    parsed = None if label is None else {"label": label, "probabilities": {label: chance}}
    return {"benchmark": "mintrec", "id": name, "raw": label, "parsed": parsed} | other


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = [
        row("a", "joke", 0.5, truth="joke"), row("b", "care", 1.0, truth="joke"), row("c", None, truth="care"),
        {"benchmark": "cmu_mosi", "id": "a", "truth": "positive", "raw": "positive", "parsed": {"label": "positive"}},
    ]  # fmt: skip
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    return tmp_path


def test_scoring_a_run_needs_no_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, run, "--json")
    assert code == 0
    scores = json.loads(out)["benchmarks"]
    assert list(scores) == ["mintrec", "cmu_mosi"]
    intent = scores["mintrec"]
    assert intent["metrics"]["accuracy"] == pytest.approx(1 / 3)
    assert intent["metrics"]["expected_calibration_error"] == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert (intent["n"], intent["n_unanswered"]) == (3, 1)
    assert intent["baselines"]["majority"]["accuracy"] == pytest.approx(2 / 3)
    code, out, _ = command(capsys, run / "predictions.jsonl", "--benchmark", "mintrec", "--scorer", "legacy")
    assert code == 0
    assert "mintrec · legacy scorer · 3 clips" in out
    assert "accuracy                       50.00" in out  # the published protocol leaves unanswered clips out


def test_run_keeps_all_unanswered_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = (get_benchmark("mintrec").num_samples or 0) + 5
    rows = [row(str(i), None if i < 10 else "joke", truth="joke") for i in range(many)]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    found = json.loads(command(capsys, tmp_path, "--json")[1])
    assert (found["n"], found["n_unanswered"]) == (many, 10)
    assert found["metrics"]["accuracy"] == pytest.approx((many - 10) / many)


def test_label_file_may_contain_more_clips(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "truth.json").write_text(json.dumps({name: "joke" for name in "abcdef"}), "utf-8")
    (tmp_path / "x.json").write_text(json.dumps({"a": "joke", "b": "care"}), "utf-8")
    args = ["--truth", tmp_path / "truth.json", "--benchmark", "mintrec", "--json"]
    counts = {}
    for path in (run, tmp_path / "x.json"):
        for option in ([], ["--common"]):
            found = json.loads(command(capsys, path, *args, *option)[1])
            counts[path.name, bool(option)] = (found["n"], found["n_unanswered"])
    assert list(counts.values()) == [(6, 4), (3, 1), (6, 4), (2, 0)]


def test_group_scores_the_benchmarks_of_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(command(capsys, run, "--benchmark", "intent", "--json")[1])["benchmark"] == "mintrec"
    assert set(json.loads(command(capsys, run, "--benchmark", "all", "--json")[1])["benchmarks"]) == {
        "mintrec",
        "cmu_mosi",
    }


def test_truth_file_can_be_overridden(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = [{"messages": [{"content": ""}, {"content": "Care"}], "videos": [f"x/{name}.mp4"]} for name in "abc"]
    (tmp_path / "truth.json").write_text(json.dumps(truth), "utf-8")
    args = (run, "--benchmark", "mintrec", "--truth", tmp_path / "truth.json", "--json")
    assert json.loads(command(capsys, *args)[1])["metrics"]["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["absent"], "no such file or folder"),
        ([".", "--scorer", "best"], "there are corrected and legacy"),
        (["run", "--benchmark", "meld"], "answers mintrec, cmu_mosi, not meld"),
        (["run", "--truth", "x.csv"], "name it with --benchmark"),
        (["x-openset.npz"], "does not say which benchmark"),
        (["x-openset.npz", "--benchmark", "meld"], "name a label file of meld with --truth"),
        (["x-openset.npz", "--benchmark", "nope"], "unknown benchmark"),
        (["empty", "--benchmark", "meld", "--truth", "t.csv", "--scorer", "legacy"], "holds neither predictions.jsonl"),
    ],
)
def test_mistakes_give_a_one_line_message(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    monkeypatch.chdir(run)
    (run / "run").symlink_to(run)
    (run / "empty").mkdir()
    (run / "t.csv").write_text("name,discrete\na,joy\n", "utf-8")
    np.savez(run / "x-openset.npz", filenames=np.array(["a"]), fileitems=np.array(["[joy]"]))
    code, _, error = command(capsys, *args)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("folder", "benchmark", "truth", "mean"),
    [
        ("meld", "meld", "derived_npz/meld_label.npz", 0.5440),
        ("iemocapfour", "iemocap", "derived_npz/iemocap_label_4way.npz", 0.5846),
        ("sims", "ch_sims", "mmla/swift/Ch-sims/test.jsonl", 0.8685),
    ],
)
def test_printed_numbers_are_the_best_test_scores(
    shared: Path, capsys: pytest.CaptureFixture[str], folder: str, benchmark: str, truth: str, mean: float
) -> None:
    data = shared / "data"
    args = [data / "predictions" / "affectgpt_mer_unibench" / f"results-{folder}" / RUN]
    args += ["--truth", data / "annotations" / truth, "--wheel-tables", data / "emotion_wheel"]
    _, out, _ = command(capsys, *args, "--scorer", "legacy", "--trust-npz", "--json")
    found = json.loads(out)
    assert (found["benchmark"], len(found["checkpoints"])) == (benchmark, 7)
    headline = found["metrics"]["weighted_f1" if folder == "sims" else "hit_rate"]
    assert round(headline["best"], 4) == PRINTED[benchmark]
    assert round(headline["mean"], 4) == mean
    assert headline["sd"] > 0.005
    assert f"printed {100 * PRINTED[benchmark]:.2f}" in format_scores(found)


def test_published_intents_and_replies(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = json.loads((shared / "golden" / "erg_metrics.json").read_text("utf-8"))
    for record in (r for r in golden["mintrec"] if r["intent_mapping"] is None):
        np.savez(tmp_path / "x.npz", name2reason=np.array(record["predictions"], dtype=object))
        args = ["--truth", shared / "data" / record["ground_truth"], "--benchmark", "mintrec", "--scorer", "legacy"]
        found = json.loads(command(capsys, tmp_path / "x.npz", *args, "--trust-npz", "--json")[1])
        assert found["n"] == record["n_scored"]
        assert 100 * found["metrics"]["weighted_f1"] == pytest.approx(record["weighted_f1_unrounded"], abs=1e-9)
    samples = {s["id"]: s for s in golden["samples"]}
    for record in golden["aggregates"][:-1]:
        truth = {name: samples[name]["ground_truth"] for name in record["ground_truth_ids"]}
        (tmp_path / "truth.json").write_text(json.dumps(truth), "utf-8")
        replies = {name: samples[name]["response"] for name in record["response_ids"]}
        np.savez(tmp_path / "x.npz", name2reason=np.array(replies, dtype=object))
        args = ["--truth", tmp_path / "truth.json", "--benchmark", "avamerg", "--scorer", "legacy"]
        found = json.loads(command(capsys, tmp_path / "x.npz", *args, "--trust-npz", "--json")[1])["metrics"]
        names = {"accuracy": "accuracy", "hit_rate": "hitrate", "distinct_1": "dist1", "distinct_2": "dist2"}
        expected = {ours: record[f"{theirs}_unrounded"] for ours, theirs in names.items()}
        assert found == {k: v if v is None else pytest.approx(v / 100, abs=1e-9) for k, v in expected.items()}


def test_checkpoints_are_found_by_kind(tmp_path: Path) -> None:
    for end in ("", "-openset", "-openset-sentiment"):
        for epoch in (5, 30):
            (tmp_path / f"checkpoint_{epoch:06d}_loss_0.5{end}.npz").touch()
    for key, end in (("meld", "-openset"), ("cmu_mosi", "-openset-sentiment"), ("mintrec", "")):
        found = checkpoint_files(tmp_path, get_benchmark(key))
        assert {epoch: path.name.removesuffix(".npz").split("0.5")[1] for epoch, path in found.items()} == {
            5: end,
            30: end,
        }
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checkpoint_000005_loss_0.4-openset.npz").touch()
    with pytest.raises(NanoEmoXError, match="holds epoch 5 twice"):
        checkpoint_files(tmp_path, get_benchmark("meld"))
    with pytest.raises(NanoEmoXError, match="holds neither"):
        checkpoint_files(tmp_path / "absent", get_benchmark("meld"))


def test_scoring_loads_no_torch(run: Path) -> None:
    code = (
        "import sys\nfrom nanoemox.cli import main\ntry:\n    main(['score', sys.argv[1], '--json'])\n"
        "except SystemExit as e:\n    assert not e.code\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'sklearn', 'openpyxl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
