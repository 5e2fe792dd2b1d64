"""Sharded training with ``fsdp: true``: refused if impossible, else equal to unsharded training."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from nanoemox.model.lora import group_of, load_adapters
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.training.command import run_train
from nanoemox.training.sharding import block_lists, check_fsdp, process_mesh
from nanoemox.types import RecipeError
from tests.tiny import save_tiny, tiny_model
from tests.training.toy import RECIPE, steady_root, toy_root

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def test_without_cuda_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    save_tiny(tmp_path / "base")
    toy_root(tmp_path)
    (tmp_path / "split.yaml").write_text(RECIPE + "fsdp: true\n")
    with pytest.raises(RecipeError, match="there is none: leave fsdp out of the recipe"):
        run_train(tmp_path / "split.yaml", tmp_path, tmp_path / "out", tmp_path / "base", show=False)
    assert not (tmp_path / "out").exists()


def test_one_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(RecipeError, match=r"there is 1: start two or more with torchrun --nproc-per-node N"):
        process_mesh()


def test_launcher_fsdp_settings_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError, match="set fsdp: true in the recipe"):
        check_fsdp(False)


def test_sharding_units_are_blocks_of_every_process() -> None:
    model = tiny_model()
    units = {name for name, module in model.named_modules() if any(module is unit for unit in block_lists(model))}
    assert "language_model.model.layers" in units
    assert any(name.startswith("vision_encoder.") for name in units)
    assert not any(group_of(name) for name in units)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data root, base model without dropout, and one recipe with whole models and with split ones."""
    folder = tmp_path_factory.mktemp("split")
    fields = steady_root(folder)
    # Measured in the middle of training, but nothing follows from it.
    fields["phases"]["second"]["balance"] = {"every": 2, "strength": 0, "samples": 2}
    for name, fsdp in (("whole.yaml", False), ("split.yaml", True)):
        (folder / name).write_text(yaml.safe_dump(fields | {"fsdp": fsdp}))
    return folder


def start(*arguments: str | Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-5000:]


def split(place: Path, out: str, *options: str) -> list[list[dict]]:
    """Train split over two processes; return what each saw."""
    start("tests.training.split", place / "split.yaml", place / "data", place / out, place / "base", *options)
    return [json.loads((place / out / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


def logged(folder: Path, what: str) -> list[float]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row[what] for row in rows if what in row]


@pytest.fixture(scope="module")
def seen(place: Path) -> list[list[dict]]:
    """Train whole and split models, two processes each; what each process of the split run saw."""
    whole(place, "whole")
    return split(place, "split")


def whole(place: Path, out: str, *more: str) -> None:
    options = ("--data-root", place / "data", "--out", place / out, "--model", place / "base", "--json")
    start("nanoemox", "train", place / "whole.yaml", *options, *more)


def halved(place: Path, out: str) -> None:
    """Copy the split run as if it had been killed in the middle of its second phase."""
    shutil.copytree(place / "split", place / out)
    for lost in ("second/result.json", "second/adapters.safetensors"):
        (place / out / lost).unlink()
    shutil.rmtree(place / out / "second/checkpoints/checkpoint-4")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sharded_run_takes_the_steps_of_an_unsharded_one(place: Path, seen: list[list[dict]]) -> None:
    assert [len(rows) for rows in seen] == [2 + 4 * 2] * 2  # micro-batches of both phases
    assert all(row["split"] and row["gradients"] and row["states"] for rows in seen for row in rows)
    assert all(row["here"] < 0.6 for rows in seen for row in rows)
    assert any(one["media"] != two["media"] for one, two in zip(*seen, strict=True))  # where collectives could differ
    for phase in ("first", "second"):
        for what in ("loss", "grad_norm"):
            logs = [logged(place / out / phase, what) for out in ("split", "whole")]
            assert logs[0] == pytest.approx(logs[1], abs=1e-5)
    one, two = (json.loads((place / out / "second/result.json").read_text()) for out in ("whole", "split"))
    assert one["validation"] == pytest.approx(two["validation"], abs=1e-4)
    assert one["trainable_parameters"] == two["trainable_parameters"]
    alone = NanoEmoXForConditionalGeneration.from_pretrained(place / "base")
    load_adapters(alone, place / "split/second/adapters.safetensors")
    NanoEmoXForConditionalGeneration.from_pretrained(place / "split/model")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sharded_run_resumes_bit_for_bit(place: Path, seen: list[list[dict]]) -> None:
    halved(place, "again")
    assert [len(rows) for rows in split(place, "again", "--resume")] == [2 * 2] * 2  # the last two steps of the second
    assert logged(place / "again/second", "loss") == logged(place / "split/second", "loss")
    one, two = (load_file(place / out / "second/adapters.safetensors") for out in ("split", "again"))
    assert all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_unsharded_run_resumes_from_a_sharded_checkpoint(place: Path, seen: list[list[dict]]) -> None:
    halved(place, "back")
    whole(place, "back", "--resume")
    assert logged(place / "back/second", "loss") == pytest.approx(logged(place / "split/second", "loss"), abs=1e-5)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bf16", 5e-2)])
def test_sharded_over_two_devices(place: Path, precision: str, tolerance: float) -> None:
    for name in ("whole", "split"):
        fields = yaml.safe_load((place / f"{name}.yaml").read_text()) | {"precision": precision}
        (place / f"{name}-{precision}.yaml").write_text(yaml.safe_dump(fields))
    arguments = {
        n: (place / f"{n}-{precision}.yaml", place / "data", place / f"{n}-{precision}") for n in ("whole", "split")
    }
    for recipe, data, out in arguments.values():
        start("tests.training.split", recipe, data, out, place / "base", "--cuda")
    rows = [row for rank in (0, 1) for row in json.loads((arguments["split"][2] / f"seen-{rank}.json").read_text())]
    assert rows
    assert all(row["split"] and row["gradients"] and row["states"] for row in rows)
    for phase in ("first", "second"):
        split_losses, whole_losses = (logged(arguments[n][2] / phase, "loss") for n in ("split", "whole"))
        assert split_losses == pytest.approx(whole_losses, abs=tolerance)
