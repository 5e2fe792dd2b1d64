from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nanoemox.cli import app
from nanoemox.data.corpora import MANIFESTS, READERS, SUMMARY, Corpus, read_corpora
from nanoemox.data.manifest import Sample, read_manifest
from nanoemox.data.prepare import format_summary, prepare, summarise
from nanoemox.types import RecipeError


def clips(root: Path) -> Path:
    rows = [
        "a.mp4,happy,Yes!,train,ann,mer,", "a.mp4,happy,Yes!,train,ann,mer,", "b.wav,sad,,train,bob,mer,de",
        "c.jpg,sad,,train,,mer,", "a.mp4,cross; sad,Yes!,train,ann,ovmer,", "d.mp4,sad,No.,test,ann,mer,",
    ]  # fmt: skip
    (root / "labels.csv").write_text("file,label,subtitle,split,speaker,task,language\n" + "\n".join(rows))
    (root / "a.mp4").touch()
    return root


def test_manifests_and_summary(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "val.jsonl").write_text("of an earlier run\n")
    summary = prepare("table", clips(tmp_path), out)
    assert sorted(p.name for p in out.iterdir()) == ["summary.json", "test.jsonl", "train.jsonl"]
    assert json.loads((out / SUMMARY).read_text()) == summary
    assert (summary["corpus"], summary["licence"], summary["repeated"]) == ("table", "yours", 1)
    assert summary["splits"]["train"] == {
        "samples": 4,
        "clips": 3,
        "tasks": {"mer": 3, "ovmer": 1},
        "labels": {"mer": {"sad": 2, "happy": 1}, "ovmer": {"cross": 1, "sad": 1}},
        "languages": {"en": 2, "de": 1},
        "speakers": 2,
        "clips_without": {"picture": 1, "sound": 1, "words": 2},
        "files": 3,
        "files_missing": 2,
    }
    assert [s.media for s in read_manifest(out / MANIFESTS["train"])] == ["a.mp4", "b.wav", "c.jpg", "a.mp4"]
    assert summary["splits"]["test"]["samples"] == len(read_manifest(out / MANIFESTS["test"])) == 1


def test_contradictory_labels_of_a_release_are_counted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def sample(name: str, label: str) -> Sample:
        labels = {"label": label, "candidates": ["happy", "sad"]}
        row = {"id": name, "corpus": "meld", "split": "train", "task": "mer", "labels": labels, "subtitle": "Hm."}
        return Sample.model_validate(row)

    rows = [sample(name, label) for name in "abcd" for label in ("happy", "happy", "sad")]
    monkeypatch.setattr(Corpus, "read", lambda *_, **__: rows)
    summary = prepare("meld", tmp_path, tmp_path / "out")
    assert [s.id for s in read_manifest(tmp_path / "out/train.jsonl")] == ["a", "b", "c", "d"]
    assert summary["repeated"] == 4
    assert summary["contradictions"][0] == {"id": "a", "task": "mer", "kept": "happy", "left_out": "sad"}
    text = format_summary(summary, tmp_path / "out")
    assert "4 samples came again with another label; the first was kept: a 'happy', then 'sad'; b" in text
    assert "; ..." in text
    (tmp_path / "meld").mkdir()
    assert len(read_corpora(tmp_path, ["meld"])["meld"]) == 4
    assert "corpus meld: 4 samples come again with another label" in caplog.text


def test_a_table_of_which_nothing_is_held_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\na.mp4,x\nb.mp4,y\n")
    summary = prepare("table", tmp_path, tmp_path / "out")
    assert list(summary["splits"]) == ["train"]
    warning = "no validation samples: no file was held out; give some rows the split val"
    assert warning in format_summary(summary, tmp_path / "out")
    (tmp_path / "labels.csv").write_text("file,label,split\na.mp4,x,val\nb.mp4,y,train\n")
    assert warning not in format_summary(prepare("table", tmp_path, tmp_path / "out"), tmp_path / "out")


def test_text_only_samples(tmp_path: Path) -> None:
    labels = {"label": "x", "candidates": ["x", "y"]}
    row = {"id": "1", "corpus": "c", "split": "train", "task": "mer", "labels": labels, "subtitle": "w"}
    counted = summarise([Sample.model_validate(row)], tmp_path)
    assert counted["clips_without"] == {"picture": 1, "sound": 1, "words": 0}
    assert (counted["files"], counted["files_missing"], counted["speakers"]) == (0, 0, 0)


def test_failed_read_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"labels\.csv in .* is missing; write labels\.csv"):
        prepare("table", tmp_path, tmp_path / "out")
    (tmp_path / "SentenceFilenames.csv").write_text("Stimulus_Number,Filename\n")
    with pytest.raises(RecipeError, match="holds no sample of crema_d"):
        prepare("crema_d", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_real_annotations(shared: Path, tmp_path: Path) -> None:
    summary = prepare("mintrec", shared / "data/annotations", tmp_path)
    parts = {split: part["samples"] for split, part in summary["splits"].items()}
    assert parts == {"train": 1334, "validation": 445, "test": 445}
    assert summary["splits"]["test"]["labels"]["mir"]["complain"] == 57
    for split, file in MANIFESTS.items():
        assert len(read_manifest(tmp_path / file)) == parts[split]


def run(*args: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["prepare", *map(str, args)])
    return done.exit_code, done.output


def test_command(tmp_path: Path) -> None:
    code, text = run("table", clips(tmp_path), "--out", tmp_path / "out")
    assert code == 0
    for part in (
        "table  (yours)",
        "train.jsonl: 4 samples of 3 clips: 3 mer, 1 ovmer",
        "mer: sad 2, happy 1",
        "languages: 2 en, 1 de; speakers: 2",
        "clips: 1 without picture, 1 without sound, 2 without words",
        "files: 2 of 3 are not in",
        "1 samples came twice",
    ):
        assert part in text
    code, text = run("table", tmp_path, "--out", tmp_path / "out", "--json")
    assert (code, json.loads(text)["splits"]["test"]["samples"]) == (0, 1)


def test_command_lists_corpora() -> None:
    code, text = run("--list", "--json")
    assert (code, [c["corpus"] for c in json.loads(text)]) == (0, list(READERS))
    code, text = run("--list")
    assert code == 0
    assert "crema_d" in text
    assert "ODbL 1.0" in text


def test_mistakes_on_the_command_line(tmp_path: Path) -> None:
    assert run("table")[0] == 2
    code = "from nanoemox.cli import main\nmain(['prepare', 'cremad', '.', '--out', 'x'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("nanoemox: corpus 'cremad' has no reader; the readers are caer")
    assert "Example:  nanoemox prepare crema_d" in run("--help")[1]
