"""``nanoemox export-task``: a folder that other harnesses load and that gives the same scores."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nanoemox.benchmarks.records import BENCHMARKS, get_benchmark
from nanoemox.benchmarks.score_files import ScoreOptions, score_files
from nanoemox.cli import main
from nanoemox.interop import export
from nanoemox.interop.export import ExportOptions, export_task
from nanoemox.interop.export_scores import metric_names
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import NanoEmoXError

IDS = ['a "b"', "c/../d é", "e", "f"]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of MELD: two voices in files with spaces, two of words; and a dialogue to reply to."""
    root = tmp_path_factory.mktemp("data root")
    rows: list[dict[str, Any]] = []
    for i, name in enumerate(IDS):
        labels = {"label": LABEL_SETS["meld"][i], "candidates": LABEL_SETS["meld"]}
        row = {"id": name, "corpus": "meld", "split": "test", "task": "mer", "labels": labels}
        row |= {"subtitle": f'He said "{i}",\nand {{{{ left }}}}.'}
        if i < 2:
            row["media"] = f"some clips/voice {i}.wav"
            file = root / row["media"]
            file.parent.mkdir(exist_ok=True)
            with wave.open(str(file), "wb") as out:
                out.setparams((1, 2, 16_000, 0, "NONE", ""))
                out.writeframes(np.random.default_rng(i).integers(-9000, 9000, 8_000, dtype=np.int16).tobytes())
        rows.append(row)
    write(root, "meld", rows)
    write(root, "mintrec", [intent(i) for i in range(3)])
    think = {"scenario": "s", "emotion": "sad", "cause": "c", "goal": "g"}
    reply = {"id": "x", "corpus": "avamerg", "split": "test", "task": "erg", "labels": {"think": think, "reply": "Oh."}}
    write(root, "avamerg", [reply | {"history": [{"role": "listener", "text": "How are you?"}], "subtitle": "Bad."}])
    return root


def intent(i: int) -> dict[str, Any]:
    labels = {"label": ("ask for help", "joke", "leave")[i], "candidates": LABEL_SETS["mintrec"]}
    return {"id": f"m{i}", "corpus": "mintrec", "split": "test", "task": "mir", "labels": labels, "subtitle": "words"}


def write(root: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (root / "manifests").mkdir(parents=True, exist_ok=True)
    (root / "manifests" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.fixture(scope="module")
def folder(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tasks") / "meld"
    told = export_task(ExportOptions(benchmark="meld", data_root=data_root, out=out))
    assert told == {"benchmark": "meld", "task": "nanoemox_meld", "clips": 4, "media": 2, "out": str(out)}
    return out


def docs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]


class Named(yaml.SafeLoader):
    """Reads `!function utils.x` as its name."""


Named.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def in_folder(folder: Path, code: str) -> Any:
    check = "assert not {'torch', 'transformers'} & set(sys.modules)"
    script = f"import json, sys, utils\n{code}\n{check}\nprint(json.dumps(out))"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_exported_manifest_has_questions_and_answers(folder: Path, data_root: Path) -> None:
    rows = docs(folder)
    assert [row["id"] for row in rows] == IDS
    assert [row["truth"] for row in rows] == list(LABEL_SETS["meld"][:4])
    assert all(row["labels"] == list(LABEL_SETS["meld"]) for row in rows)
    assert [row["media"] for row in rows] == ["media/00000.wav", "media/00001.wav", None, None]
    assert (folder / "media/00001.wav").read_bytes() == (data_root / "some clips/voice 1.wav").read_bytes()
    assert json.dumps(rows[0]["subtitle"]) in rows[0]["prompt"]
    assert rows[0]["prompt"].endswith(rows[0]["question"])
    assert "disgust" in rows[0]["question"]


def test_task_files_name_existing_functions(folder: Path) -> None:
    given = set(in_folder(folder, "out = dir(utils)"))
    for name, visual in (("nanoemox_meld", False), ("nanoemox_meld_clips", True)):
        found = yaml.load((folder / f"{name}.yaml").read_text("utf-8"), Named)
        assert found["task"] == name
        assert (folder / found["dataset_kwargs"]["data_files"]["test"]).is_file()
        assert ("doc_to_visual" in found) == visual
        assert [m["metric"] for m in found["metric_list"]] == list(metric_names(get_benchmark("meld")))
        named = [found[key] for key in ("doc_to_text", "doc_to_target", "process_results")]
        named += [m["aggregation"] for m in found["metric_list"]]
        assert {n.removeprefix("utils.") for n in named} <= given


def test_the_harness_scores_as_the_command_does(folder: Path, tmp_path: Path) -> None:
    answers = {IDS[0]: "I think it is Anger.", IDS[1]: "sadness", IDS[2]: "who knows"}
    (tmp_path / "answers.json").write_text(json.dumps(answers), "utf-8")
    code = (
        f"answers = {answers!r}\n"
        "docs = [json.loads(line) for line in open('manifest.jsonl', encoding='utf-8')]\n"
        "items = [utils.process_results(doc, [answers.get(doc['id'], '')]) for doc in docs]\n"
        "out = {name: getattr(utils, name)([item[name] for item in items]) for name in utils.METRICS}\n"
        f"utils.main({str(tmp_path / 'answers.json')!r}, {str(tmp_path / 'predictions.jsonl')!r})"
    )
    found = in_folder(folder, code)
    ours = score_files(tmp_path / "predictions.jsonl", ScoreOptions())
    assert found == {name: ours["metrics"][name] for name in metric_names(get_benchmark("meld"))}
    assert (found["hit_rate"], ours["n"], ours["n_unanswered"]) == (0.25, 4, 2)


def test_exported_media_besides_text(folder: Path) -> None:
    code = (
        "docs = [json.loads(line) for line in open('manifest.jsonl', encoding='utf-8')]\n"
        "heard = [[(len(x['array']), x['sampling_rate']) for x in utils.doc_to_visual(doc)] for doc in docs]\n"
        "out = [heard, [utils.doc_to_target(doc) for doc in docs]]"
    )
    assert in_folder(folder, code) == [[[[8000, 16000]], [[8000, 16000]], [], []], list(LABEL_SETS["meld"][:4])]


def test_exported_files_contain_no_local_path(folder: Path) -> None:
    for file in folder.iterdir():
        if file.is_file():
            text = file.read_text("utf-8")
            assert not re.search(r"(?<![\w.:/])/(?:\w+/)+\w", text), file.name
            assert str(folder.parent) not in text


def test_labels_with_quotes_and_spaces_survive(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ("ask for help", 'it\'s "fine"', "a: {b} # $c !function")
    monkeypatch.setattr(export, "get_benchmark", lambda key: replace(BENCHMARKS[key], labels=labels))
    export_task(ExportOptions(benchmark="mintrec", data_root=data_root, out=tmp_path / "out"))
    assert {tuple(row["labels"]) for row in docs(tmp_path / "out")} == {labels}
    assert all(label.lower() in docs(tmp_path / "out")[0]["prompt"] for label in labels)


def test_exported_samples_contain_the_dialogue(data_root: Path, tmp_path: Path) -> None:
    export_task(ExportOptions(benchmark="avamerg", data_root=data_root, out=tmp_path / "out"))
    (row,) = docs(tmp_path / "out")
    assert row["history"] == [{"role": "listener", "text": "How are you?"}]
    assert row["prompt"].index("How are you?") < row["prompt"].index("Bad.") < row["prompt"].index(row["question"])


def test_clips_are_linked_or_skipped(data_root: Path, tmp_path: Path) -> None:
    export_task(ExportOptions(benchmark="meld", data_root=data_root, out=tmp_path / "linked", media="link"))
    link = tmp_path / "linked/media/00000.wav"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.read_bytes() == (data_root / "some clips/voice 0.wav").read_bytes()
    export_task(ExportOptions(benchmark="meld", data_root=data_root, out=tmp_path / "words", media="none", limit=3))
    assert [row["media"] for row in docs(tmp_path / "words")] == [None] * 3
    assert not (tmp_path / "words/media").exists()


def test_export_command_and_its_errors(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    args = ["export-task", "mintrec", "--data-root", str(data_root), "--out", str(tmp_path / "empty"), "--json"]
    with pytest.raises(SystemExit) as done:
        main(args)
    assert not done.value.code
    assert json.loads(capsys.readouterr().out)["clips"] == 3
    with pytest.raises(SystemExit) as done:
        main(args)
    assert done.value.code == 2
    assert "is no empty folder: give another --out" in capsys.readouterr().err
    with pytest.raises(NanoEmoXError, match="--media all: there are copy, link, none"):
        export_task(ExportOptions(benchmark="meld", data_root=data_root, out=tmp_path / "x", media="all"))


@pytest.mark.parametrize("media", ["../secret.mp4", "/etc/hostname", "clips/../../secret.mp4"])
def test_files_outside_the_folder_are_refused(data_root: Path, tmp_path: Path, media: str) -> None:
    write(tmp_path / "data", "mintrec", [intent(0) | {"media": media}])
    with pytest.raises(NanoEmoXError, match="must stay below"):
        export_task(ExportOptions(benchmark="mintrec", data_root=tmp_path / "data", out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_missing_clip_is_reported_before_writing(data_root: Path, tmp_path: Path) -> None:
    row = json.loads((data_root / "manifests/meld.jsonl").read_text("utf-8").split("\n")[0])
    write(tmp_path, "meld", [row | {"media": "gone.wav"}])
    with pytest.raises(NanoEmoXError, match=r"1 of 1 media files are not there, such as .*gone\.wav: .*--media none"):
        export_task(ExportOptions(benchmark="meld", data_root=tmp_path, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
