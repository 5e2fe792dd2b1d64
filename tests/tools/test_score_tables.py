"""The tables of docs/benchmarks.md match the tool's output, row by row on a few real files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nanoemox.benchmarks.score_files import ScoreOptions, score_files
from tools.score_tables import label, main

ROOT = Path(__file__).resolve().parents[2]


def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shared: Path, *args: object
) -> list[str]:
    tables = ("--wheel-tables", shared / "data" / "emotion_wheel")
    monkeypatch.setattr(sys, "argv", ["score_tables.py", *map(str, (*args, *tables))])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].count("---") == lines[0].count("|") - 1
    return lines[2:]


@pytest.fixture(scope="module")
def documented() -> set[str]:
    return set((ROOT / "docs" / "benchmarks.md").read_text("utf-8").splitlines())


@pytest.mark.parametrize("table", ["practice", "why"])
def test_rows_of_a_set(
    shared: Path,
    documented: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    table: str,
) -> None:
    results = shared / "data" / "predictions" / "affectgpt_mer_unibench"
    truth = f"ch_sims={shared / 'data' / 'annotations' / 'mmla' / 'swift' / 'Ch-sims' / 'test.jsonl'}"
    rows = printed(monkeypatch, capsys, shared, table, results, "--truth", truth)
    assert len(rows) == 1
    assert set(rows) <= documented


def test_rows_of_files(
    shared: Path,
    tmp_path: Path,
    documented: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predictions = shared / "data" / "predictions"
    baseline = next((predictions / "ovmerd_baselines").rglob("Otter/*-subtitle-eng-openset.npz"))
    checkpoint = next((predictions / "affectgpt_mer_unibench" / "results-ovmerdplus").rglob("*30_*-openset.npz"))
    (tmp_path / "Otter").mkdir()
    (tmp_path / "Otter" / baseline.name).symlink_to(baseline)
    (tmp_path / checkpoint.name).symlink_to(checkpoint)
    truth = f"ov_merd={shared / 'data' / 'annotations' / 'mer2024' / 'ov_store' / 'check-openset.csv'}"
    rows = printed(monkeypatch, capsys, shared, "move", tmp_path, "--truth", truth)
    assert len(rows) == 2
    assert set(rows) <= documented


def test_names_of_files() -> None:
    assert label(Path("a/checkpoint_000030_loss_0.602-openset-sentiment.npz")) == "epoch 30, loss 0.602"
    assert label(Path("Otter/output-reason-7b-subtitle-eng-openset.npz")) == "Otter, subtitle-eng"
    assert label(Path("x-openset.npz")) == "x"


def test_mistakes_give_a_one_line_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = ["x", "practice", str(tmp_path), "--wheel-tables", str(tmp_path), "--truth", "nope=x.csv"]
    monkeypatch.setattr(sys, "argv", args)
    with pytest.raises(SystemExit, match="unknown benchmark 'nope'"):
        main()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Nano-EmoX, epoch 60", "nano_emox/omniaffect_epochcheckpoint_000060_loss_0.286.csv"),
        ("R1-Omni", "r1omni/R1-Omni_for_EMER.csv"),
    ],
)
def test_rows_of_emer(shared: Path, documented: set[str], name: str, file: str) -> None:
    answers = shared / "data" / "predictions" / "nano_emox_repo" / "ov-merd-eval" / file
    truth, tables = answers.with_name("gt-eng.csv"), shared / "data" / "emotion_wheel"
    ours = score_files(answers, ScoreOptions("emer", truth))["metrics"]
    theirs = score_files(answers, ScoreOptions("emer", truth, "legacy", tables))["metrics"]
    scores = [100 * of[key] for key in ("f1", "precision") for of in (theirs, ours)]
    row = f"| {name} | {ours['labels_per_answer']:.1f} | " + " | ".join(f"{value:.2f}" for value in scores) + " |"
    assert row in documented
