"""Checks before a model directory is opened: no code, no files outside, and no more memory than there is.

Model directories are handed around, so they are checked before any library reads them. Links out of the directory are
refused, but for those of the hub's cache, whose snapshots are links into its blobs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.types import CheckpointError

WEIGHTS: Final = "model.safetensors"
INDEX: Final = f"{WEIGHTS}.index.json"
MAX_TEXT_BYTES: Final = 200_000_000
"""Largest JSON or YAML file; the tokenizers of the largest vocabularies have 40 MB."""
_TEXTS: Final = frozenset({".json", ".yaml", ".txt", ".jinja"})
_FOREIGN: Final = {
    "auto_map": "code of its own",
    "gguf_file": "a file of another kind",
    "transformers_weights": "weights of another name",
}
"""Keys that make a library run code or read files which are not checked here."""
_SLACK: Final = 1.5
"""Parameters that a configuration may claim for each one in the files: a subset of branches may lack its weights."""


def weight_names(folder: Path) -> list[str]:
    """Return the weight files of a directory, as its index names them.

    Raises:
        CheckpointError: The index is none, or names a file outside the directory.
    """
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return [WEIGHTS]
    return indexed_files(index)


def indexed_files(index: Path, suffix: str = ".safetensors") -> list[str]:
    """Return the weight files that an index names.

    Raises:
        CheckpointError: The index is none, or names a file outside its directory or of another kind.
    """
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index}: not a usable index of weight files") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or not name.endswith(suffix):
            raise CheckpointError(
                f"{index}: names {str(name)[:80]!r} as weights: only {suffix} files of the same directory are read"
            )
    return names


def check_directory(folder: Path) -> None:
    """Check what a directory holds before a library reads it; its files must be there.

    Raises:
        CheckpointError: A file lies elsewhere, is too large, asks for code, the weights do not fit this machine's
            memory, or the configuration describes a model far larger than they are.
    """
    home = folder.resolve()
    homes = (home, home.parent.parent / "blobs") if home.parent.name == "snapshots" else (home,)
    for path in sorted(folder.rglob("*")):  # templates may lie deeper
        if path.is_symlink() and not any(path.resolve().is_relative_to(place) for place in homes):
            raise CheckpointError(f"{path}: is a link out of the model directory: copy the file itself here")
        if path.parent != folder:
            continue
        if path.suffix in _TEXTS and path.is_file() and path.stat().st_size > MAX_TEXT_BYTES:
            raise CheckpointError(
                f"{path}: {path.stat().st_size:,} bytes, limit {MAX_TEXT_BYTES:,}: this is no file of a model"
            )
        if path.suffix == ".json" and path.name not in {INDEX, "tokenizer.json"}:
            for key in _FOREIGN.keys() & _keys(path):
                raise CheckpointError(
                    f"{path}: asks for {_FOREIGN[key]} ({key}), which is never run or read: remove that key if the "
                    "model works without it"
                )
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder}: holds adapter_config.json, so its weights are another model's: fold the adapter into it first"
        )
    _check_size(folder)


def _keys(path: Path) -> frozenset[str]:
    try:
        return frozenset(_walk(json.loads(path.read_text("utf-8"))))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {str(error)[:200]}") from error


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)


def _check_size(folder: Path) -> None:
    """Compare the model that the configuration describes, built without memory, with what the files hold."""
    held, tensors = 0, 0
    size = sum((folder / name).stat().st_size for name in weight_names(folder))
    if (memory := _memory_bytes()) is not None and size > memory:
        raise CheckpointError(
            f"{folder}: its weights have {size / 1e9:,.1f} GB, this machine's memory {memory / 1e9:,.1f} GB: name a "
            "smaller model, or use a larger machine"
        )
    for name in weight_names(folder):
        try:
            with safe_open(str(folder / name), framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (not a dict)
                    held += torch.Size(file.get_slice(key).get_shape()).numel()
                    tensors += 1
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{folder / name}: not a readable safetensors file (is it whole?): {error}"
            ) from error
    config = json.loads((folder / "config.json").read_text("utf-8"))
    deep = max([n for n in _layers(config) if isinstance(n, int)], default=0)
    claimed = 0 if deep > tensors else _parameters(folder)
    if deep > tensors or claimed > _SLACK * held + 1_000_000:
        what = f"{deep:,} layers" if deep > tensors else f"{claimed:,} parameters"
        raise CheckpointError(
            f"{folder}: config.json describes a model of {what}, but the weights are {tensors:,} tensors with {held:,} "
            "parameters: they do not belong together"
        )


def _memory_bytes() -> int | None:
    """Return the size of this machine's memory, if known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _layers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key.endswith("_layers") or key == "depths":
                yield from item if isinstance(item, list) else [item]
            yield from _layers(item)


def _parameters(folder: Path) -> int:
    from nanoemox.model.modeling import NanoEmoXForConditionalGeneration

    try:
        config = NanoEmoXConfig.from_pretrained(str(folder))
        with torch.device("meta"):
            model = NanoEmoXForConditionalGeneration(config)
    except CheckpointError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ZeroDivisionError, OverflowError) as error:
        first = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{folder}: config.json does not describe a model: {first}") from error
    return sum(p.numel() for p in model.parameters())
