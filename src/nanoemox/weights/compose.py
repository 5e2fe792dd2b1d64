"""Compose a model directory from the public parts and our own part of it, LoRA folded in.

What the package ships (``assets/small``) is copied as it is, but for its safetensors files: adapters, fusion, LoRA and
our own encoders under the names of our model. All other tensors come from the public parts.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.lora import read_adapters
from nanoemox.types import CheckpointError
from nanoemox.weights.assemble import add_placeholders
from nanoemox.weights.matching import match
from nanoemox.weights.presets import TEXT
from nanoemox.weights.sizes import tensor_table
from nanoemox.weights.sources import open_weights
from nanoemox.weights.writer import Reader, constant, write_shards

_DTYPE = torch.float16
_ONE_FILE = 1 << 40
_LORA = re.compile(r"(?P<target>language_model\..+)\.lora_(?P<side>[AB])\.default\.weight")


def compose(shipped: Path, backbones: Mapping[str, Path], out: Path) -> None:
    """Write a model directory.

    Args:
        shipped: Our part: ``config.json`` and its companions, and safetensors files.
        backbones: Part -> transformers directory; the tokenizer of the language model's becomes the model's.
        out: Folder to write, absent.

    Raises:
        CheckpointError: A tensor is missing, unknown, there twice or of another shape.
    """
    config = NanoEmoXConfig.from_pretrained(shipped, local_files_only=True)
    table = tensor_table(config)
    ours, updates = _shipped_tensors(shipped)
    plan: dict[str, Reader] = {}
    for part, folder in backbones.items():
        plan |= match(part, open_weights(folder), table, config).used
    if twice := sorted(plan.keys() & ours.keys()):
        raise CheckpointError(f"{shipped}: {twice[0]} comes with the public parts, so it must not be shipped")
    plan |= ours
    for target, update in updates.items():
        if target not in plan:
            raise CheckpointError(f"{shipped}: LoRA of {target}, which the language model has not")
        plan[target] = partial(_folded, plan[target], update)
    missing, unknown = sorted(table.keys() - plan.keys()), sorted(plan.keys() - table.keys())
    if missing or unknown:
        raise CheckpointError(f"{shipped} does not fit its config.json: missing {missing}, unknown {unknown}")
    out.mkdir(parents=True)
    for file in sorted(shipped.iterdir()):
        if file.is_file() and file.suffix != ".safetensors":
            shutil.copyfile(file, out / file.name)
    config.dtype = _DTYPE
    config.save_pretrained(out)
    _write_tokenizer(backbones[TEXT], config, out)
    write_shards(plan, table, out, _DTYPE, _ONE_FILE)


def _write_tokenizer(language_model: Path, config: NanoEmoXConfig, out: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(language_model, local_files_only=True)
    found = add_placeholders(tokenizer)
    wanted = {b: i for b, i in config.placeholder_token_ids.items() if i is not None}
    if wrong := {b for b in wanted if wanted[b] != found.get(b)}:
        raise CheckpointError(f"placeholders of {', '.join(sorted(wrong))} have other ids than config.json says")
    tokenizer.save_pretrained(out)


def _shipped_tensors(folder: Path) -> tuple[dict[str, Reader], dict[str, dict[str, Tensor | float]]]:
    """Return name -> reader of whole tensors, and name of a weight -> its LoRA: A, B and scale."""
    ours: dict[str, Reader] = {}
    updates: dict[str, dict[str, Tensor | float]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors, spec = read_adapters(file)
        for name, tensor in tensors.items():
            if (lora := _LORA.fullmatch(name)) is not None:
                if spec is None:
                    raise CheckpointError(f"{file}: holds LoRA but not its rank and alpha; write it by save_adapters")
                update = updates.setdefault(f"{lora['target']}.weight", {"scale": spec.alpha / spec.r})
                update[lora["side"]] = tensor
            elif name in ours:
                raise CheckpointError(f"{folder}: {name} is in two files")
            else:
                ours[name] = constant(tensor)
    return ours, updates


def _folded(read: Reader, update: Mapping[str, Tensor | float]) -> Tensor:
    """Add B A times alpha / r to a weight, in float32."""
    if not {"A", "B"} <= update.keys():
        raise CheckpointError("LoRA lacks one of its two matrices")
    a, b = torch.as_tensor(update["A"]).float(), torch.as_tensor(update["B"]).float()
    return read().float() + (b @ a) * float(torch.as_tensor(update["scale"]))
