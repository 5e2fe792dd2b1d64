"""Results of a study: means by hand, intervals, agreement, the table, the command."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from contextlib import closing
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from nanoemox import cli
from nanoemox.scoring.metrics.agreement import fleiss_kappa, krippendorff_alpha
from nanoemox.study.plan import plan_study
from nanoemox.study.results import COLUMNS, export_ratings, format_study, measure_study
from nanoemox.study.store import RatingStore, create_study
from nanoemox.types import NanoEmoXError
from tests.study.rated_runs import CRITERIA, reply_row, two_runs, write_run

Given = dict[str, dict[str, int]]
"""Rater -> text of a reply -> score."""


def study_of(folder: Path, runs: list[Path], given: Given, criteria: tuple[str, ...] = CRITERIA) -> Path:
    path = folder / "study.sqlite"
    create_study(path, plan_study(runs, 200, 0))
    with closing(RatingStore(path)) as store:
        for rater, scores in given.items():
            store.join(rater)
            shown = [store.show(rater, i) for i in range(store.progress(rater).total)]
            for one in shown:
                for criterion in criteria if one.text in scores else ():
                    store.rate(rater, one.key, criterion, scores[one.text])
    return path


def small(folder: Path) -> Path:
    first = write_run(folder / "x", [reply_row("a", "xa"), reply_row("b", "xb"), reply_row("c", "xc")])
    second = write_run(folder / "y", [reply_row("a", "ya"), reply_row("b", None), reply_row("c", "yc")])
    given = {
        "ann": {"xa": 5, "xb": 4, "xc": 3, "ya": 2, "yc": 1},
        "bob": {"xa": 4, "xb": 4, "ya": 1},
        "=cy": {"xa": 5, "xb": 2, "xc": 3, "ya": 2, "yc": 3},
        "late": {},
    }
    return study_of(folder, [first, second], given)


def test_means_by_hand(tmp_path: Path) -> None:
    result = measure_study(small(tmp_path))
    x, y = (result["runs"][run]["empathy"] for run in "xy")
    assert x["mean"] == pytest.approx((14 / 3 + 10 / 3 + 3) / 3)
    assert y["mean"] == pytest.approx((5 / 3 + 1 + 2) / 3)  # b, without a reply, has the lowest score
    assert (x["n"], x["n_unanswered"], x["n_ratings"]) == (3, 0, 8)
    assert (y["n"], y["n_unanswered"], y["n_ratings"]) == (3, 1, 5)
    assert result["runs"]["y"]["unanswered"] == 1
    assert x["interval"][0] <= x["mean"] <= x["interval"][1]
    assert result["raters"] == {"ann": 5, "bob": 3, "=cy": 5, "late": 0}
    assert (result["clips"], result["replies"], result["finished"]) == (3, 5, 2)
    row = next(row for row in result["differences"] if row["criterion"] == "safety")
    assert (row["first"], row["second"], row["n"]) == ("x", "y", 3)
    assert row["difference"] == pytest.approx(x["mean"] - y["mean"])


def test_agreement_by_hand(tmp_path: Path) -> None:
    row = measure_study(small(tmp_path))["agreement"]["insight"]
    _ = np.nan
    table = [[5, 4, 3, 2, 1], [4, 4, _, 1, _], [5, 2, 3, 2, 3]]  # xa xb xc ya yc
    assert row["krippendorff_alpha"] == pytest.approx(krippendorff_alpha(table, "ordinal"))
    assert row["fleiss_kappa"] == pytest.approx(fleiss_kappa([table[0], table[2]]))  # those who have finished
    assert (row["n_raters"], row["n_replies"], row["n_raters_kappa"], row["n_replies_kappa"]) == (3, 5, 2, 5)


def test_kappa_before_anyone_has_finished(tmp_path: Path) -> None:
    given = {"ann": {"Hm, c0": 3, "Oh, c0": 4, "Hm, c1": 5}, "bob": {"Hm, c0": 3, "Oh, c0": 2, "Oh, c1": 5}}
    row = measure_study(study_of(tmp_path, two_runs(tmp_path), given))["agreement"]["empathy"]
    assert row["n_replies_kappa"] == 2
    assert row["fleiss_kappa"] == pytest.approx(fleiss_kappa([[3, 4], [3, 2]]))


def test_only_clips_that_were_rated_count(tmp_path: Path) -> None:
    runs = two_runs(tmp_path)
    write_run(runs[1], [reply_row(f"c{i}", None if i else "Oh, c0") for i in range(6)])
    result = measure_study(study_of(tmp_path, runs, {"ann": {"Hm, c0": 4, "Hm, c1": 2}}, ("safety",)))
    alpha, omega = result["runs"]["alpha"]["safety"], result["runs"]["omega"]["safety"]
    assert (alpha["mean"], alpha["n"]) == (3, 2)
    assert (omega["mean"], omega["n"], omega["n_unanswered"]) == (1, 1, 1)
    assert result["runs"]["alpha"]["empathy"]["mean"] is None
    assert "empathy    -" in format_study(result)


def test_no_ratings(tmp_path: Path) -> None:
    result = measure_study(study_of(tmp_path, two_runs(tmp_path), {}))
    assert result["differences"] == []
    assert result["agreement"]["safety"]["fleiss_kappa"] is None
    assert "none yet" in format_study(result)


def test_ratings_table_round_trip(tmp_path: Path) -> None:
    study, path = small(tmp_path), tmp_path / "ratings.csv"
    assert export_ratings(study, path) == 39
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    with closing(RatingStore(study)) as store:
        told = [tuple(map(str, astuple(rating))) for rating in store.ratings()]
    assert [tuple(value.removeprefix("'") for value in row.values()) for row in rows] == told
    assert {row["rater"] for row in rows} == {"ann", "bob", "'=cy"}  # no formula for a spreadsheet
    with pytest.raises(NanoEmoXError, match="none"):
        export_ratings(study, tmp_path / "none" / "ratings.csv")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = str(small(tmp_path))

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            cli.main(["rate", *words, "--out", study])
        assert end.value.code == 0
        return capsys.readouterr().out

    assert json.loads(run("--results", "--json")) == json.loads(json.dumps(measure_study(Path(study))))
    shown = run("--results", "--export", str(tmp_path / "r.csv"))
    assert "y · 1 clips without a reply, scored 1" in shown
    assert "x - y  empathy" in shown
    assert len((tmp_path / "r.csv").read_text("utf-8").splitlines()) == 40
    for words in (["runs/a", "--results"], ["--json"], ["--out", str(tmp_path / "none"), "--results"]):
        with pytest.raises(SystemExit) as end:
            cli.main(["rate", "--out", study, *words])
        assert end.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_export_overwrites_neither_clips_nor_the_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = small(tmp_path)
    table = study.rename(tmp_path / "study.csv")
    clip = tmp_path / "tone.wav"
    clip.write_bytes(b"clip")
    (tmp_path / "tables.csv").mkdir()
    for path, said in (
        (clip, "give a name that ends in .csv"),
        (tmp_path / "tables.csv", "a folder: give a file in it"),
        (table, "is the study itself: give another name"),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(["rate", "--out", str(table), "--export", str(path)])
        err = capsys.readouterr().err
        assert (end.value.code, err.count("\n")) == (2, 1)
        assert f"--export {path}" in err
        assert said in err
    assert clip.read_bytes() == b"clip"
    assert export_ratings(table, tmp_path / "r.csv") == 39


def test_without_the_extra(tmp_path: Path) -> None:
    code = "import sys\nsys.modules['fastapi'] = None\nfrom nanoemox.cli import main\nmain(['rate'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "nanoemox: the page needs fastapi: pip install 'nanoemox[serve]'\n"


def test_results_need_no_torch_and_no_server(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom nanoemox.cli import main\n"
        "try:\n    main(['rate', '--results', '--json', '--out', sys.argv[1]])\nexcept SystemExit as end:\n"
        "    assert not end.code\nassert not {'torch', 'transformers', 'fastapi', 'uvicorn'} & set(sys.modules)"
    )
    study = str(small(tmp_path))
    done = subprocess.run([sys.executable, "-c", code, study], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
