"""Prediction files of this package."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nanoemox.benchmarks.runs import read_run
from nanoemox.benchmarks.score_files import ScoreOptions, score_files
from nanoemox.benchmarks.words import as_words
from nanoemox.types import NanoEmoXError


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_rows_become_truth_and_answers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "predictions.jsonl",
        {"benchmark": "meld", "id": "a", "truth": "joy", "raw": "joy", "parsed": {"label": "anger"}},
        {"benchmark": "meld", "id": "b", "truth": "fear", "parsed": None, "error": "broken"},
        {"benchmark": "meld", "id": "a", "truth": "joy", "raw": "joy",
         "parsed": {"label": "joy", "probabilities": {"joy": 0.75, "fear": 0.25}}},
        {"benchmark": "ov_merd", "id": "a", "truth": ["sad"], "raw": "sad, low", "parsed": {"labels": ["sad", "low"]}},
        {"benchmark": "mintrec", "id": "a", "truth": "joke", "raw": "joke", "parsed": {"label": "joke"}},
    )  # fmt: skip
    parts = read_run(tmp_path)
    assert list(parts) == ["meld", "ov_merd", "mintrec"]
    meld = parts["meld"]
    assert meld.truth == {"a": "joy", "b": "fear"}
    assert dict(meld.predictions.texts) == {"a": "joy"}  # the later row of a resumed run
    assert (dict(meld.labels), dict(meld.confidences)) == ({"a": "joy"}, {"a": 0.75})
    assert as_words(parts["ov_merd"].predictions) == {"a": ("sad", "low")}
    assert parts["ov_merd"].truth == {"a": ("sad",)}
    assert (parts["mintrec"].predictions.kind, dict(parts["mintrec"].predictions.texts)) == ("text", {"a": "joke"})
    assert read_run(path).keys() == parts.keys()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no predictions"),
        ([{"id": "a"}], "row 1 has no benchmark and id"),
        ([[1]], "row 1 has no benchmark and id"),
        ([{"benchmark": "nope", "id": "a"}], "unknown benchmark 'nope'"),
        ([{"benchmark": "meld", "id": "a", "truth": 3}], "neither a text nor a list"),
        ([{"benchmark": "meld", "id": "a", "parsed": {"label": ["x"]}}], "clip 'a': parsed.label"),
        ([{"benchmark": "meld", "id": "a", "parsed": {"labels": "sad"}}], "parsed.labels"),
        ([{"benchmark": "meld", "id": "a", "parsed": {"label": "joy", "probabilities": [1]}}], "parsed.probabilities"),
        ([{"benchmark": "meld", "id": "a", "parsed": {"label": "joy", "probabilities": {"joy": 7}}}], "or equal to 1"),
        ([{"benchmark": "meld", "id": "a", "truth": "x"}, {"benchmark": "meld", "id": "b"}], "1 clips of meld have no"),
    ],
)
def test_hostile_runs(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(NanoEmoXError, match=message):
        read_run(write(tmp_path / "predictions.jsonl", *rows))
    with pytest.raises(NanoEmoXError, match="No such file"):
        read_run(tmp_path / "absent.jsonl")


def test_incomplete_run_names_the_resume_command(tmp_path: Path) -> None:
    row = {"benchmark": "mintrec", "id": "a", "truth": "joke", "raw": "joke", "parsed": {"label": "joke"}}
    file = tmp_path / "predictions.jsonl"
    (tmp_path / "run.json").write_text("{}", "utf-8")
    go_on = "run nanoemox evaluate again with the same --out"
    with pytest.raises(NanoEmoXError, match=f"has not written predictions.jsonl yet; {go_on}"):
        score_files(tmp_path, ScoreOptions())
    file.write_text(json.dumps(row) + "\n" + json.dumps(row)[:40], "utf-8")
    for path in (tmp_path, file):
        with pytest.raises(NanoEmoXError, match=f"the last line is cut: .*; {go_on}"):
            score_files(path, ScoreOptions())
    file.write_text(json.dumps(row)[:40] + "\n" + json.dumps(row) + "\n", "utf-8")
    with pytest.raises(NanoEmoXError, match=f"predictions.jsonl:1: not JSON: .*{go_on}") as told:
        score_files(tmp_path, ScoreOptions())
    assert "download" not in str(told.value)
    file.write_text(json.dumps(row) + "\n", "utf-8")
    unfinished = "the run has not ended: these are scores of the 1 clips so far"
    assert unfinished in score_files(tmp_path, ScoreOptions())["notes"]
    (tmp_path / "metrics.json").write_text("{}", "utf-8")
    assert unfinished not in score_files(tmp_path, ScoreOptions())["notes"]


def test_report_escapes_foreign_markup() -> None:
    from nanoemox.benchmarks.tables import format_report

    hostile = "a|b<script>alert(1)</script>\n# [x](javascript:y) ![i](z) `c` \\"
    row = {"metrics": {"accuracy": 0.5}, "intervals": {}, "n": 1, "n_unanswered": 1, "notes": [hostile]}
    found = {"title": hostile, "headline": ["accuracy"], "rows": {hostile: row}, "unanswered": {hostile: hostile}}
    settings = {"x": hostile}
    report = format_report({"model": hostile, "scorer": "c", "benchmarks": {"own": found}, "settings": settings})
    outside = [line for line in report.split("\n") if not line.startswith("- `")]
    assert not any("<" in line for line in outside)
    assert "](javascript" not in "".join(outside).replace("]\\(", "")
    table = [line for line in report.split("\n") if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5}
    assert sum(line.startswith("# ") for line in report.split("\n")) == 1
    shown = next(line for line in report.split("\n") if line.startswith("- `"))
    assert shown.startswith("- `a|b<script>alert(1)</script> # [x](javascript:y) ![i](z) 'c' \\`: a\\|b&lt;script")
