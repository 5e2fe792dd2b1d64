"""Untrusted model directories: clear errors, and no access outside the folder."""

from __future__ import annotations

import json
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from nanoemox.inference.checkpoints import find_checkpoint, load_checkpoint
from nanoemox.types import CheckpointError
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("directories") / "tiny")


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | fields))


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder, device="cpu")
    return str(error.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_custom_code_is_refused(folder: Path, name: str) -> None:
    (folder / "own.py").write_text("raise SystemExit('ran')")
    edit(folder / name, auto_map={"AutoConfig": "own.Config", "AutoTokenizer": ["own.T", None]})
    assert "asks for code of its own (auto_map), which is never run" in refused(folder)


def test_custom_code_of_a_part_is_refused(folder: Path) -> None:
    text = json.loads((folder / "config.json").read_text())["text_config"] | {"auto_map": {"AutoConfig": "x--own.C"}}
    edit(folder / "config.json", text_config=text)
    assert "auto_map" in refused(folder)


@pytest.mark.parametrize("key", ["gguf_file", "transformers_weights"])
def test_keys_that_refer_to_other_files_are_refused(folder: Path, key: str) -> None:
    edit(folder / "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer", **{key: str(folder.parent / "secret")})
    assert f"({key}), which is never run or read" in refused(folder)


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('ran')",))


def test_a_pickle_is_never_read(folder: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "model.pt"):
        (folder / name).write_bytes(pickle.dumps(Runs()))
    load_checkpoint(folder, device="cpu")
    (folder / "model.safetensors").unlink()
    assert "it lacks model.safetensors" in refused(folder)


@pytest.mark.parametrize(
    "place", ["../other.safetensors", "/etc/passwd", "sub/x.safetensors", "..\\x.safetensors", "pytorch_model.bin", 3]
)
def test_weights_outside_the_folder_are_refused(folder: Path, place: Any) -> None:
    shutil.copy(folder / "model.safetensors", folder.parent / "other.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}))
    message = refused(folder)
    assert "only .safetensors files of the same directory are read" in message


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "templates.yaml", "tokenizer.json"])
def test_symlinks_out_of_the_folder_are_refused(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)
    assert "is a link out of the model directory" in refused(folder)


def test_symlinks_out_of_subfolders_are_refused(folder: Path) -> None:
    """Libraries read chat templates from there."""
    (folder.parent / "secret").write_text("mine")
    templates = folder / "additional_chat_templates"
    templates.mkdir()
    (templates / "x.jinja").symlink_to(folder.parent / "secret")
    assert "is a link out of the model directory" in refused(folder)
    shutil.rmtree(templates)
    templates.symlink_to(folder.parent)
    assert "is a link out of the model directory" in refused(folder)


def test_fake_hub_cache_folder_cannot_reach_siblings(tiny: Path, tmp_path: Path) -> None:
    snapshot = Path(shutil.copytree(tiny, tmp_path / "snapshots/model"))
    (snapshot / "templates.yaml").rename(tmp_path / "private.yaml")
    (snapshot / "templates.yaml").symlink_to(tmp_path / "private.yaml")
    assert "is a link out of the model directory" in refused(snapshot)


def test_symlinks_in_the_hub_cache_are_followed(tiny: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--me--tiny/snapshots/0123"
    blobs = tmp_path / "models--me--tiny/blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(tiny, blobs)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    assert find_checkpoint(snapshot)[2]


def test_an_adapter_of_another_model_is_refused(folder: Path) -> None:
    edit(folder / "adapter_config.json", base_model_name_or_path="/etc", peft_type="LORA")
    assert "its weights are another model's" in refused(folder)


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("text_config", {"hidden_size": 10**6, "num_attention_heads": 4}),
        ("text_config", {"vocab_size": 10**12}),
        ("text_config", {"num_hidden_layers": 10**9, "layer_types": None}),
        ("vision", {"hidden_size": 10**6}),
        ("speech", {"max_positions": 10**12}),
    ],
)
def test_configuration_larger_than_the_weights_is_refused(folder: Path, part: str, fields: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", **{part: config[part] | fields})
    started = time.monotonic()
    assert "do not belong together" in refused(folder)
    assert time.monotonic() - started < 20


def test_weights_larger_than_memory_are_refused(folder: Path) -> None:
    """A sparse file takes no disk, but would take all memory, and its configuration may fit it."""
    number = 10**12
    header = json.dumps({"a": {"dtype": "F32", "shape": [number], "data_offsets": [0, 4 * number]}}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 4 * number)
    assert "its weights have 4,000.0 GB, this machine's memory" in refused(folder)


def test_large_or_invalid_json_files_are_refused(folder: Path) -> None:
    kept = (folder / "config.json").read_bytes()
    with (folder / "config.json").open("r+b") as file:
        file.truncate(10**12)  # sparse
    assert "this is no file of a model" in refused(folder)
    (folder / "config.json").write_bytes(b"[" * 100_000)
    assert "not JSON" in refused(folder)
    (folder / "config.json").write_bytes(kept)
    load_checkpoint(folder, device="cpu")
