"""``nanoemox evaluate``: from clips to scores, resuming, blind rows."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanoemox.benchmarks.answerer import Reply
from nanoemox.benchmarks.engine_answerer import EngineAnswerer
from nanoemox.benchmarks.evaluate import EvaluateOptions, evaluate_run
from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.remote import RemoteOptions
from nanoemox.benchmarks.score_files import ScoreOptions, score_files
from nanoemox.cli import main
from nanoemox.data.manifest import Sample
from nanoemox.reporting import report as report_command
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import NanoEmoXError
from tests.tiny import save_tiny

NUM = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five noises with words, the last one broken; two words to train on."""
    root = tmp_path_factory.mktemp("data")
    rows: list[dict[str, Any]] = []
    for i in range(NUM):
        file = root / "clips" / f"{i}.wav"
        file.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(i).integers(-9000, 9000, 16_000, dtype=np.int16)
        with wave.open(str(file), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16_000)
            out.writeframes(noise.tobytes())
        rows.append({"id": f"c{i}", "split": "test", "media": f"clips/{i}.wav", "subtitle": f"number {i}"})
    (root / "clips" / f"{NUM - 1}.wav").write_bytes(b"\0" * 64)
    rows += [{"id": f"t{i}", "split": "train", "subtitle": "words"} for i in range(2)]
    lines = []
    for i, row in enumerate(rows):
        label = "anger" if row["split"] == "train" else LABEL_SETS["meld"][i % 3]
        labels = {"label": label, "candidates": LABEL_SETS["meld"]}
        lines.append(json.dumps(row | {"corpus": "meld", "task": "mer", "labels": labels}))
    (root / "manifests").mkdir()
    (root / "manifests" / "meld.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return root


def request(model: Path, data_root: Path, out: Path, **options: Any) -> EvaluateOptions:
    return EvaluateOptions(
        benchmarks=("meld",), data_root=data_root, out=out, model=str(model), batch=2, device="cpu", **options
    )


@pytest.fixture(scope="module")
def run(model: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    assert evaluate_run(request(model, data_root, out)) is not None
    return out


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text("utf-8").splitlines()]


def answers(out: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "timing_s"} for row in rows(out)]


def test_every_clip_has_a_row_and_broken_ones_a_reason(run: Path) -> None:
    found = rows(run)
    assert [row["id"] for row in found] == [f"c{i}" for i in range(NUM)]
    for row in found[:-1]:
        assert set(row["parsed"]["probabilities"]) == set(LABEL_SETS["meld"])
        assert row["raw"] == row["parsed"]["label"]
        assert len(row["prompt"]) == 64
        assert row["timing_s"]["total"] > 0
    assert found[-1]["parsed"] is None
    assert "4.wav" in found[-1]["error"]
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))["benchmarks"]["meld"]
    first = next(iter(metrics["rows"].values()))
    assert (first["n"], first["n_unanswered"]) == (NUM, 1)
    assert list(metrics["unanswered"]) == ["c4"]
    assert "`c4`" in (run / "report.md").read_text("utf-8")


def test_blind_rows_are_listed_with_the_model(run: Path) -> None:
    found = json.loads((run / "metrics.json").read_text("utf-8"))["benchmarks"]["meld"]["rows"]
    assert list(found)[1:] == ["majority", "text-only", "shuffled-media", "other-order"]
    for row in found.values():
        assert set(row["intervals"]) >= {"hit_rate"}
    assert found["majority"]["metrics"]["hit_rate"] == pytest.approx(2 / NUM)  # anger, counted in training
    assert "counted on the train part" in found["majority"]["notes"]
    assert found["text-only"]["n_unanswered"] == 0  # nobody opened the broken file
    assert all(f"| {name} |" in (run / "report.md").read_text("utf-8") for name in found)


def test_label_order_row_reports_changed_answers(run: Path) -> None:
    first, other = ({r["id"]: r for r in rows(out)} for out in (run, run / "baselines" / "other-order"))
    answered = [name for name, row in first.items() if row["parsed"] and other[name]["parsed"]]
    assert all(first[name]["prompt"] != other[name]["prompt"] for name in answered)
    assert set(first["c0"]["parsed"]["probabilities"]) == set(other["c0"]["parsed"]["probabilities"])
    changed = [first[name]["parsed"]["label"] != other[name]["parsed"]["label"] for name in answered]
    found = json.loads((run / "metrics.json").read_text("utf-8"))["benchmarks"]["meld"]
    row = found["rows"]["other-order"]
    assert len(answered) == NUM - 1
    assert row["metrics"]["order_sensitivity"] == pytest.approx(sum(changed) / len(changed))
    low, high = row["intervals"]["order_sensitivity"]
    assert 0 <= low <= row["metrics"]["order_sensitivity"] <= high <= 1
    assert found["headline"][-1] == "order_sensitivity"
    assert "order_sensitivity" in (run / "report.md").read_text("utf-8")


def test_report_page_is_written_or_its_absence_explained(
    run: Path, model: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run / "report.html"
    assert report_command.write_html(run) is None
    assert "MELD" in page.read_text("utf-8")
    page.unlink()
    monkeypatch.setattr(report_command, "find_spec", lambda name: None)
    args = ["evaluate", "--benchmarks", "meld", "--data-root", data_root, "--out", run, "--model", model, "--json"]
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in [*args, "--device", "cpu"]])
    told = capsys.readouterr()
    assert done.value.code == 0
    assert "no report.html: pages and figures need matplotlib: pip install" in told.err
    assert json.loads(told.out)["benchmarks"].keys() == {"meld"}
    assert not page.exists()


def test_rescoring_is_deterministic(run: Path) -> None:
    told = json.loads((run / "metrics.json").read_text("utf-8"))["benchmarks"]["meld"]["rows"]
    again = json.loads(json.dumps(score_files(run, ScoreOptions())))
    assert next(iter(told.values())) == again


def test_resumed_run_equals_an_uninterrupted_one(
    run: Path, model: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, asked = EngineAnswerer.answer, []

    def dying(self: EngineAnswerer, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        if len(asked) == 2 * 2:
            raise KeyboardInterrupt
        asked.extend(s.id for s in samples)
        return usual(self, benchmark, samples)

    monkeypatch.setattr(EngineAnswerer, "answer", dying)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(request(model, data_root, tmp_path))
    file = tmp_path / "predictions.jsonl"
    assert len(rows(tmp_path)) == 4
    with file.open("a", encoding="utf-8") as torn:
        torn.write('{"benchmark": "meld", "id": "c4", "tru')
    again: list[str] = []

    def listening(self: EngineAnswerer, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        if not (tmp_path / "baselines" / "majority").exists():
            again.extend(s.id for s in samples)
        return usual(self, benchmark, samples)

    monkeypatch.setattr(EngineAnswerer, "answer", listening)
    evaluate_run(request(model, data_root, tmp_path))
    assert again == ["c4"]
    assert answers(tmp_path) == answers(run)
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads((run / "metrics.json").read_text())


def test_run_is_not_resumed_with_another_model(run: Path, data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(NanoEmoXError, match="give another --out"):
        evaluate_run(request(save_tiny(tmp_path / "tiny", seed=1), data_root, run))


@pytest.mark.parametrize("part", ["templates", "configuration", "weights"])
def test_run_is_not_resumed_with_other_answer_settings(
    run: Path, model: Path, data_root: Path, tmp_path: Path, part: str
) -> None:
    changed = ""
    copy = Path(shutil.copytree(model, tmp_path / model.name))
    if part == "templates":
        file = copy / "templates.yaml"
        changed = file.read_text("utf-8").replace("emotion", "mood", 1)
    elif part == "configuration":
        file = copy / "config.json"
        found = json.loads(file.read_text("utf-8"))
        found["speech"]["normalise"] = "window" if found["speech"]["normalise"] != "window" else "clip"
        changed = json.dumps(found)
    else:
        file = copy / "model.safetensors"
        data = bytearray(file.read_bytes())
        data[-2] ^= 1  # in the last row of one matrix
        file.write_bytes(data)
    if part != "weights":
        assert changed != file.read_text("utf-8")
        file.write_text(changed, "utf-8")
    before = (run / "predictions.jsonl").read_bytes()
    with pytest.raises(NanoEmoXError, match=rf"holds answers of {part} .*give another --out"):
        evaluate_run(request(copy, data_root, run))
    assert (run / "predictions.jsonl").read_bytes() == before


def test_run_is_not_resumed_with_changed_data(run: Path, model: Path, data_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(data_root, tmp_path / "data"))
    out = Path(shutil.copytree(run, tmp_path / "run"))
    manifest = root / "manifests" / "meld.jsonl"
    assert evaluate_run(request(model, root, out)) is not None
    manifest.write_text(manifest.read_text("utf-8").replace("number 2", "another number"), "utf-8")
    with pytest.raises(NanoEmoXError, match="1 clips such as 'c2' were answered for another transcript"):
        evaluate_run(request(model, root, out))


def test_all_rows_use_the_manifest_transcripts(model: Path, data_root: Path, tmp_path: Path) -> None:
    """A subtitle beside the file is not read: the row without media could not see it."""
    root = Path(shutil.copytree(data_root, tmp_path / "data"))
    manifest = root / "manifests" / "meld.jsonl"
    rows_of = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    kept = [{k: v for k, v in row.items() if k != "subtitle" or row["split"] == "train"} for row in rows_of]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")
    plain = tmp_path / "plain"
    evaluate_run(request(model, root, plain))
    for i in range(NUM):
        cue = f"1\n00:00:00,000 --> 00:00:01,000\nI hate {i}.\n"
        (root / "clips" / f"{i}.srt").write_text(cue, "utf-8")
    beside = tmp_path / "beside"
    evaluate_run(request(model, root, beside))
    assert answers(beside) == answers(plain)
    assert answers(beside / "baselines" / "shuffled-media") == answers(plain / "baselines" / "shuffled-media")


def test_remote_options_are_refused_for_a_local_model(data_root: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(NanoEmoXError, match=r"--shots .* go with --model openai:"):
        evaluate_run(request(model, data_root, tmp_path, remote=RemoteOptions(shots=3)))


def test_the_command_prints_the_report(
    run: Path, model: Path, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["evaluate", "--benchmarks", "meld", "--data-root", data_root, "--out", run, "--model", model]
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in [*args, "--device", "cpu"]])
    assert done.value.code == 0
    assert "| shuffled-media |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("benchmarks", "said"),
    [
        ("", "--benchmarks is empty: name some of mer-unibench, intent, all, mer2023, "),
        (" ,", "--benchmarks is empty"),
        ("meld,nosuch", "unknown benchmark 'nosuch'; there are mer2023, "),
    ],
)
def test_mistaken_benchmarks_leave_no_run(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], benchmarks: str, said: str
) -> None:
    out = tmp_path / "run"
    args = ["evaluate", "--benchmarks", benchmarks, "--data-root", data_root, "--out", out, "--model", "/nowhere"]
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in args])
    assert done.value.code == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_file_is_no_run(data_root: Path, tmp_path: Path, model: Path) -> None:
    clip = tmp_path / "tone.wav"
    clip.write_bytes(b"clip")
    with pytest.raises(NanoEmoXError, match=r"--out .*tone\.wav: a file: give a folder"):
        evaluate_run(request(model, data_root, clip))


@pytest.mark.parametrize("name", ["metrics.json", "report.md", "report.html", "predictions.jsonl"])
def test_files_of_other_origin_are_not_overwritten(model: Path, data_root: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine", "utf-8")
    with pytest.raises(NanoEmoXError, match=rf"holds a {name} but no run.json: give another --out"):
        evaluate_run(request(model, data_root, tmp_path))
    assert (tmp_path / name).read_text("utf-8") == "mine"
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.json", "[]", "run.json: not written by this package"),
        ("predictions.jsonl", "[1]\n", "predictions.jsonl:1: not written by this package"),
        ("predictions.jsonl", "{}\n", "predictions.jsonl:1: not written by this package"),
        ("predictions.jsonl", "[" * 100_000 + "\n", "predictions.jsonl:1: not JSON"),
    ],
)
def test_foreign_folder_is_not_overwritten(
    run: Path, model: Path, data_root: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / "run.json").write_bytes((run / "run.json").read_bytes())
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(NanoEmoXError, match=message):
        evaluate_run(request(model, data_root, tmp_path))
    assert (tmp_path / name).read_text("utf-8") == text
