"""The embedded model: it loads, answers the sample clip as in the README, and its card is complete."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from nanoemox import AnswerOptions, Engine, GenerationOptions
from nanoemox.model.calibration import load_calibration
from nanoemox.tasks import ALL_TASKS, DEFAULT_LABELS

ROOT = Path(__file__).resolve().parents[1]
ASSETS = Path(str(files("nanoemox"))) / "assets"
SAMPLE = ASSETS / "sample.mp4"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.from_pretrained("mini")


def test_embedded_model_is_small_and_stored_in_half_precision() -> None:
    assert sum(f.stat().st_size for f in (ASSETS / "mini").iterdir()) <= 25e6
    with safe_open(ASSETS / "mini" / "model.safetensors", "pt") as handle:
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    assert 5e6 <= sum(t.numel() for t in tensors.values()) <= 12e6
    assert not [n for n, t in tensors.items() if t.dtype != torch.float16]


def test_six_answers_for_the_sample_clip(engine: Engine) -> None:
    answer = engine.answer(SAMPLE)
    assert list(answer.tasks) == list(ALL_TASKS)
    assert set(answer.modalities) == {"vision", "speech", "face", "text"}
    assert answer.gate is not None
    assert sum(answer.gate) == pytest.approx(1, abs=1e-5)
    for task in ("msa", "mer", "mir"):
        reading = answer.tasks[task]
        assert set(reading.probabilities) == set(DEFAULT_LABELS[task])
        assert sum(reading.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert answer.tasks["ovmer"].labels
    assert answer.tasks["eri"].text
    assert answer.tasks["erg"].reply


def _as_a_user() -> dict[str, str]:
    """The environment without what other tests of the command line have set in this process."""
    set_here = {"TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "OPENCV_LOG_LEVEL", "PYTHONWARNINGS"}
    return {k: v for k, v in os.environ.items() if k not in set_here}


def run_make_demo() -> subprocess.CompletedProcess[str]:
    """Run the command that ``make demo`` ends with, as a user does."""
    made = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "--assume-old", "install", "demo"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    _, *arguments = shlex.split(made.stdout.strip().splitlines()[-1])
    command = [sys.executable, "-m", "nanoemox", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=_as_a_user())


def test_without_small_the_command_of_make_demo_prints_its_answer_and_one_line() -> None:
    done = run_make_demo()
    assert done.returncode == 0
    assert "sentiment" in done.stdout
    assert "mini read" in done.stdout
    assert done.stderr == "using mini; a better model is one command away: nanoemox pull small\n"


def test_verbose_shows_library_messages() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nanoemox", "--verbose", "answer", str(SAMPLE), "--task", "msa"],
        capture_output=True, text=True, env=_as_a_user(),
    )  # fmt: skip
    assert done.returncode == 0
    assert "Loading weights" in done.stderr


def test_four_threads_agree_with_one(engine: Engine, shared: Path) -> None:
    clips = sorted((shared / "data" / "media" / "clips").glob("sample_*.mp4"))[:6]
    short = AnswerOptions(generation=GenerationOptions(24))
    alone = [engine.answer(clip, options=short) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda clip: engine.answer(clip, options=short), clips * 4))
    for i, answer in enumerate(together):
        expected = alone[i % len(clips)]
        assert {k: r.raw for k, r in answer.tasks.items()} == {k: r.raw for k, r in expected.tasks.items()}
        assert answer.gate == pytest.approx(expected.gate, abs=1e-5)
        for task in ("msa", "mer", "mir"):
            assert answer.tasks[task].probabilities == pytest.approx(expected.tasks[task].probabilities, abs=1e-5)


def test_readme_shows_the_output_of_small() -> None:
    shown = re.search(r"<!-- demo:begin -->\n```text\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert shown, "the README's first screen shows the real output"
    words = " ".join(shown[1].split())
    assert "small read" in words
    # The card holds what the pulled model answered; tests/weights/test_real_small.py asks it again.
    answered = json.loads((ASSETS / "small" / "card.json").read_text("utf-8"))["sample"]
    for text in answered.values():
        assert all(word in words for word in text.split())


def test_shipped_part_of_small_is_small_and_documented() -> None:
    folder = ASSETS / "small"
    assert sum(f.stat().st_size for f in folder.glob("*.safetensors")) <= 30e6
    assert "Permission is hereby granted" in (folder / "NOTICE").read_text("utf-8")
    assert set(load_calibration(folder / "calibration.json").tasks) == {"msa", "mer", "mir"}
    assert "cc-by-nc-sa-4.0" in (folder / "README.md").read_text("utf-8")


def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    lines = [c for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for c in block.splitlines()]
    answers = [line for line in lines if line.startswith("nanoemox answer") or line.startswith("nanoemox env")]
    assert len(answers) >= 4
    (tmp_path / "clips").mkdir()
    for name in ("clip.mp4", "talk.mp4", "clips/one.mp4"):
        (tmp_path / name).write_bytes(SAMPLE.read_bytes())
    shutil.copytree(ASSETS / "mini", tmp_path / "runs" / "mine" / "model")
    for line in answers:
        command = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, (line, done.stderr)
        assert done.stdout.strip() or "--csv" in line or "--html" in line
    assert (tmp_path / "answers.csv").read_text().count("\n") == 2
    assert "<html" in (tmp_path / "answer.html").read_text("utf-8")


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert code
    for name in ("clip.mp4", "talk.mp4"):
        (tmp_path / name).write_bytes(SAMPLE.read_bytes())
    done = subprocess.run([sys.executable, "-c", code[1]], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_model_card_figures_hold() -> None:
    card = json.loads((ASSETS / "mini" / "card.json").read_text("utf-8"))
    shown = (ASSETS / "mini" / "README.md").read_text("utf-8")
    closed, free = card["closed"], card["open"]
    for name, least in (("ravdess: voice", 0.50), ("photographs: face", 0.45), ("goemotions: words", 0.55)):
        row = closed[name]
        assert row["accuracy"]["value"] >= least
        assert row["accuracy"]["low"] > row["majority"], "better than always naming the most frequent label"
    for name in ("ravdess: voice", "photographs: face"):
        assert closed[name]["shuffled_media"]["high"] < closed[name]["accuracy"]["low"]
    assert all(row["format"]["value"] >= 0.95 for row in free.values())
    assert "**Marks missed by this checkpoint:** none." in shown
    assert free["erg"]["repeats_training_reply"]["value"] <= 0.20
    assert free["eri"]["conclusion_accuracy_shuffled"]["high"] < free["eri"]["conclusion_accuracy"]["low"]
    assert free["erg"]["word_f1_shuffled"]["value"] < free["erg"]["word_f1"]["value"]
    for row in [*closed.values()]:
        assert f"{100 * row['accuracy']['value']:.1f}" in shown


def test_every_real_clip_gets_six_answers(engine: Engine, shared: Path) -> None:
    clips = sorted((shared / "data" / "media" / "clips").glob("*.mp4"))
    answers = list(engine.answer_many(clips))
    assert len(answers) == len(clips)
    for answer in answers:
        assert list(answer.tasks) == list(ALL_TASKS)
        json.dumps(answer.to_dict())
