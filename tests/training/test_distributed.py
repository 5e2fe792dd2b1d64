"""Training in several processes equals one process."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from tests.training.toy import steady_root

LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data root, base model, and recipes of the same steps for one process and for two, without dropout."""
    folder = tmp_path_factory.mktemp("ranks")
    fields = steady_root(folder)
    lora = fields["phases"]["second"]
    fields["phases"]["third"] = lora | {"from": ["second"], "trainable": ["lora"], "steps": 3}
    for processes, name in ((1, "one.yaml"), (2, "two.yaml")):
        for phase in fields["phases"].values():
            phase |= {"accumulation": 2 // processes, "save_every": 1}  # one process writes each checkpoint
        (folder / name).write_text(yaml.safe_dump(fields))
    return folder


def train(place: Path, recipe: str, out: str, *launch: str) -> None:
    options = ["--data-root", place / "data", "--out", place / out, "--model", place / "base", "--json"]
    command = [sys.executable, *launch, "-m", "nanoemox", "train", place / recipe, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-5000:]


def losses(folder: Path) -> list[float]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.slow
def test_two_processes_equal_one(place: Path) -> None:
    train(place, "one.yaml", "alone")
    train(place, "two.yaml", "together", *LAUNCH)
    for phase in ("first", "second", "third"):  # where LoRA alone trains, nobody looks for parameters without gradients
        assert losses(place / "together" / phase) == pytest.approx(losses(place / "alone" / phase), abs=1e-4)
        # Not the weights: Adam makes a whole step of a gradient that is zero but for rounding.
    one, two = (json.loads((place / out / "third/result.json").read_text()) for out in ("alone", "together"))
    assert one["validation"] == pytest.approx(two["validation"], abs=1e-3)
    NanoEmoXForConditionalGeneration.from_pretrained(place / "together" / "model")


@pytest.mark.slow
def test_randomly_killed_run_resumes_to_the_same_result(place: Path) -> None:
    """SIGKILL, which nothing can catch, at moments that differ from run to run; then the same curve, to the bit."""
    fields = yaml.safe_load((place / "one.yaml").read_text())
    del fields["phases"]["third"]
    for phase in fields["phases"].values():
        phase |= {"steps": 12, "save_every": 1}
    (place / "long.yaml").write_text(yaml.safe_dump(fields))
    train(place, "long.yaml", "unkilled")
    options = ["--data-root", place / "data", "--out", place / "killed", "--model", place / "base", "--json"]
    options += ["--features", place / "unkilled" / "features", "--resume"]
    command = [sys.executable, "-m", "nanoemox", "train", place / "long.yaml", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kills = 0
    for steps in (2, 7, 14, 20):  # over both phases
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment) as run:
            while run.poll() is None and taken(place / "killed") < steps:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.2))
            run.send_signal(signal.SIGKILL)
            kills += run.wait() == -signal.SIGKILL
    assert kills >= 3
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    for phase in ("first", "second"):
        assert losses(place / "killed" / phase) == losses(place / "unkilled" / phase)
        one, two = (load_file(place / out / phase / "adapters.safetensors") for out in ("unkilled", "killed"))
        assert all(torch.equal(one[k], two[k]) for k in one)


def taken(run: Path) -> int:
    """Count the steps that a run has logged."""
    files = [run / phase / "metrics.jsonl" for phase in ("first", "second")]
    return sum(f.read_text().count('"loss"') for f in files if f.is_file())


def launch(folder: Path, mode: str, processes: int) -> dict:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "tests.training.sharded", mode, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads((folder / f"{mode}-{processes}.json").read_text())


@pytest.mark.slow
def test_sharded_training_equals_unsharded_and_checkpoints_are_portable(tmp_path: Path) -> None:
    """Asked of ``fully_shard`` itself: on a CPU the Trainer's way to it silently trains without splitting."""
    two = launch(tmp_path, "train", 2)
    assert two["dtensor"]
    assert two["gathered"]  # what a split model would save is what the whole one has
    assert two["here"] < 0.6 * two["whole"]
    one = launch(tmp_path, "load", 1)  # 2 -> 1: another seed, so that nothing but the checkpoint can bring the loss
    assert not one["dtensor"]
    assert one["losses"][0] == pytest.approx(two["after"], abs=1e-4)
    alone = launch(tmp_path, "train", 1)
    assert alone["losses"] == pytest.approx(two["losses"], abs=1e-4)
    again = launch(tmp_path, "load", 2)  # 1 -> 2
    assert again["dtensor"]
    assert again["losses"][0] == pytest.approx(alone["after"], abs=1e-4)


@pytest.mark.slow
def test_text_alone_beside_clips_in_two_processes(place: Path) -> None:
    """One process has nothing to train in a step where the other has; the loss must still be that of one process."""
    fields = yaml.safe_load((place / "one.yaml").read_text())
    first = fields["phases"]["first"] | {"mixture": {"composed/mer": 1, "said/mir": 1}, "micro_batch": 1, "steps": 6}
    for processes, name in ((1, "mixed-one"), (2, "mixed-two")):
        fields["phases"] = {"first": first | {"modality_dropout": {}, "accumulation": 2 // processes}}
        (place / f"{name}.yaml").write_text(yaml.safe_dump(fields))
    train(place, "mixed-one.yaml", "mixed-alone")
    train(place, "mixed-two.yaml", "mixed-together", *LAUNCH)
    alone, together = losses(place / "mixed-alone/first"), losses(place / "mixed-together/first")
    assert together == pytest.approx(alone, abs=1e-4)
