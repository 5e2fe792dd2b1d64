"""Checks of ``--resume`` against the resumed run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from nanoemox.training.command import run_train
from nanoemox.types import RecipeError
from tests.tiny import save_tiny
from tests.training.toy import RECIPE, toy_place, write_wav


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one step a phase, with its data, base model and recipe."""
    folder = toy_place(tmp_path_factory.mktemp("resume"))
    train(folder)
    return folder


def train(place: Path, recipe: str = "toy.yaml", model: str = "base", data: str = "data", **options: Any) -> dict:
    arguments: dict[str, Any] = {"max_steps": 1, "features": place / "features", "show": False} | options
    return run_train(place / recipe, place / data, place / "out", place / model, **arguments)


def test_the_same_run_is_resumed(place: Path) -> None:
    shutil.rmtree(place / "out/model")
    fields = yaml.safe_load(RECIPE) | {"log_every": 2, "keep_checkpoints": 1}  # these change no result
    fields["phases"]["second"] |= {"save_every": 1, "workers": 1}
    (place / "quiet.yaml").write_text(yaml.safe_dump(fields))
    assert train(place, "quiet.yaml", resume=True)["seed"] == 3
    assert (place / "out/model/model.safetensors").is_file()


def test_another_seed_is_refused(place: Path) -> None:
    with pytest.raises(RecipeError, match=r"these differ: seed 99, was 3\. Resume with .* another --out"):
        train(place, seed=99, resume=True)


def test_another_precision_is_refused(place: Path) -> None:
    assert json.loads((place / "out/run.json").read_text())["recipe"]["precision"] == "float32"
    with pytest.raises(RecipeError, match="precision bf16, was float32"):
        train(place, precision="bf16", resume=True)


@pytest.mark.parametrize(("instructions", "chosen"), [(True, "bf16"), (False, "float32")])
def test_auto_precision_uses_bf16_if_the_cpu_supports_it(
    place: Path, instructions: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanoemox.training.command.has_bfloat16", lambda device: instructions)
    run_train(
        place / "toy.yaml", place / "data", place / chosen, place / "base", max_steps=1, precision="auto",
        features=place / "features", show=False,
    )  # fmt: skip
    assert json.loads((place / chosen / "run.json").read_text())["recipe"]["precision"] == chosen


def test_other_steps_are_refused(place: Path) -> None:
    with pytest.raises(RecipeError, match=r"phases\.first\.steps 2, was 1; phases\.second\.steps 4, was 1"):
        train(place, max_steps=None, resume=True)


def test_another_recipe_is_refused(place: Path) -> None:
    fields = yaml.safe_load(RECIPE)
    fields["phases"]["second"] |= {"trainable": ["fusion", "lora"], "lr": 5e-4}
    (place / "other.yaml").write_text(yaml.safe_dump(fields))
    with pytest.raises(RecipeError, match=r"trainable fusion, lora, was .*speech_adapter; .*\.lr 0\.0005, was"):
        train(place, "other.yaml", resume=True)


def test_another_model_is_refused(place: Path) -> None:
    save_tiny(place / "another", seed=1)
    with pytest.raises(RecipeError, match="the base model is another one"):
        train(place, model="another", resume=True)
    shutil.copytree(place / "base", place / "reworded")
    words = place / "reworded/templates.yaml"
    words.write_text(words.read_text().replace("suffix:", "# other words\nsuffix:"))
    with pytest.raises(RecipeError, match="the base model is another one"):
        train(place, model="reworded", resume=True)


def test_other_samples_are_refused(place: Path) -> None:
    shutil.copytree(place / "data", place / "edited")
    manifest = place / "edited/manifests/said.jsonl"
    first, *rest = manifest.read_text().splitlines()
    manifest.write_text("\n".join([first.replace("word 0", "other words"), *rest[1:]]) + "\n")
    with pytest.raises(RecipeError, match=r"corpus said: of 12 samples 1 are gone, 1 changed, 0 are new"):
        train(place, data="edited", resume=True)


def test_moved_data_root_is_accepted(place: Path) -> None:
    shutil.copytree(place / "data", place / "moved")
    train(place, data="moved", resume=True)


def test_other_media_are_refused(place: Path) -> None:
    shutil.copytree(place / "data", place / "louder")
    write_wav(place / "louder/v0.wav", 777)
    with pytest.raises(RecipeError, match=r"the content of 1 media file\(s\): v0\.wav"):
        train(place, data="louder", resume=True)


def test_a_run_without_a_record_is_compared_by_its_recipe(place: Path) -> None:
    record = place / "out/run.json"
    kept = record.read_text()
    assert json.loads(kept)["processes"] == 1
    record.unlink()
    try:
        with pytest.raises(RecipeError, match="seed 99, was 3"):
            train(place, seed=99, resume=True)
    finally:
        record.write_text(kept)


@pytest.mark.parametrize(("option", "value"), [("max_steps", 0), ("max_steps", -5), ("seed", -1), ("seed", 2**32)])
def test_numbers_out_of_range_are_refused(place: Path, option: str, value: int) -> None:
    with pytest.raises(RecipeError, match=rf"--{option.replace('_', '-')} {value}: "):
        train(place, **{option: value})


def test_a_resumed_run_saves_and_logs_as_its_recipe_says_now(place: Path) -> None:
    fields = yaml.safe_load(RECIPE)
    fields["phases"] = {"first": fields["phases"]["first"] | {"steps": 4, "save_every": 2}}
    (place / "rare.yaml").write_text(yaml.safe_dump(fields | {"log_every": 2}))
    fields["phases"]["first"] |= {"save_every": 1}
    (place / "often.yaml").write_text(yaml.safe_dump(fields | {"log_every": 1, "keep_checkpoints": 5}))
    often = {"features": place / "features", "show": False}
    run_train(place / "rare.yaml", place / "data", place / "kept", place / "base", **often)
    folder = place / "kept/first"
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "checkpoints/checkpoint-4")
    (folder / "checkpoints/checkpoint-2-backup").mkdir()  # is none of the run's
    run_train(place / "often.yaml", place / "data", place / "kept", place / "base", resume=True, **often)
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == [
        "checkpoint-2", "checkpoint-2-backup", "checkpoint-3", "checkpoint-4"
    ]  # fmt: skip
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert [row["step"] for row in rows if "loss" in row] == [2, 3, 4]


def test_a_manifest_may_name_another_corpus(place: Path) -> None:
    shutil.copy(place / "data/manifests/composed.jsonl", place / "data/manifests/mine.jsonl")
    fields = yaml.safe_load(RECIPE)
    fields["phases"] = {"first": fields["phases"]["first"] | {"mixture": {"mine/mer": 1}}}
    (place / "mine.yaml").write_text(yaml.safe_dump(fields))
    run_train(place / "mine.yaml", place / "data", place / "renamed", place / "base", max_steps=1, show=False)
    assert (place / "renamed/data/mine.jsonl").stat().st_size


def test_workers_change_nothing(place: Path) -> None:
    (place / "workers.yaml").write_text(RECIPE.replace("save_every: 2", "save_every: 2\n    workers: 2"))
    trained = []
    for recipe, out in (("toy.yaml", place / "alone"), ("workers.yaml", place / "together")):
        run_train(place / recipe, place / "data", out, place / "base", features=place / "features", show=False)
        trained.append(load_file(out / "second" / "adapters.safetensors"))
    alone, together = trained
    assert alone.keys() == together.keys()
    assert all(torch.equal(alone[n], together[n]) for n in alone)
