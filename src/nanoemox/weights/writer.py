"""Write a model's tensors to sharded safetensors one at a time: never more than one tensor is in memory.

The library's own writer needs all tensors of a file at once. Written both ways, 671 MB in files of 320 MB are the same
tensors, but take 347 MB of memory by the library and 114 MB here (tensors of 17 MB).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from nanoemox.types import CheckpointError
from nanoemox.weights.directories import WEIGHTS

Reader = Callable[[], Tensor]
"""Brings one tensor into memory."""

_NAMES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64",
    torch.int64: "I64", torch.int32: "I32", torch.bool: "BOOL",
}  # fmt: skip
_ALIGN = 8  # bytes, of the format


def constant(tensor: Tensor) -> Reader:
    """Return a reader of a tensor that is in memory."""
    return lambda: tensor


def write_shards(
    readers: Mapping[str, Reader], table: Mapping[str, Tensor], out: Path, dtype: torch.dtype, max_bytes: int
) -> list[str]:
    """Write all tensors in the order of the table.

    Args:
        readers: Name -> how to get it.
        table: Name -> meta tensor that gives its shape, and its type where that is not a floating one.
        out: Folder.
        dtype: Type of all floating tensors.
        max_bytes: Limit of a file; a larger tensor has a file of its own.

    Returns:
        Names of the files written.
    """
    kinds = {n: dtype if t.is_floating_point() else t.dtype for n, t in table.items()}
    sizes = {n: t.numel() * kinds[n].itemsize for n, t in table.items()}
    shards = _cut(sizes, max_bytes)
    files = [WEIGHTS] if len(shards) == 1 else [_shard_name(i, len(shards)) for i in range(len(shards))]
    for file, names in zip(files, shards, strict=True):
        _write({n: readers[n] for n in names}, {n: (kinds[n], table[n].shape) for n in names}, out / file)
    if len(shards) == 1:
        return files
    index = {
        "metadata": {"total_size": sum(sizes.values())},
        "weight_map": {n: file for file, names in zip(files, shards, strict=True) for n in names},
    }
    (out / f"{WEIGHTS}.index.json").write_text(json.dumps(index, indent=1) + "\n", "utf-8")
    return [*files, f"{WEIGHTS}.index.json"]


def _cut(sizes: Mapping[str, int], max_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    room = max_bytes
    for name, size in sizes.items():
        if shards[-1] and size > room:
            shards.append([])
            room = max_bytes
        shards[-1].append(name)
        room -= size
    return shards


def _shard_name(index: int, count: int) -> str:
    return f"model-{index + 1:05}-of-{count:05}.safetensors"


def _write(readers: Mapping[str, Reader], kinds: Mapping[str, tuple[torch.dtype, torch.Size]], path: Path) -> None:
    """Write one safetensors file: length of the header, header, bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (kind, shape) in kinds.items():
        end = at + shape.numel() * kind.itemsize
        header[name] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-len(text) % _ALIGN)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name, (kind, shape) in kinds.items():
            tensor = readers[name]()
            if tensor.shape != shape:
                raise CheckpointError(f"{name}: read {tuple(tensor.shape)}, the model has {tuple(shape)}")
            flat = tensor.detach().to(kind).contiguous().flatten()
            file.write(flat.view(torch.uint8).numpy().data)


def draw(name: str, like: Tensor, dtype: torch.dtype, seed: int) -> Tensor:
    """Draw a tensor from its name and a seed: norms 1, biases 0, matrices from N(0, 1 / inputs).

    Args:
        name: Its name; two tensors of one model differ by it.
        like: Meta tensor that gives the shape, and the type where that is not a floating one.
        dtype: Type of a floating tensor.
        seed: The seed.
    """
    if not like.is_floating_point() or name.endswith(("bias", "running_mean")):
        return torch.zeros(like.shape, dtype=dtype if like.is_floating_point() else like.dtype)
    if like.ndim <= 1 and name.endswith(("weight", "running_var")):
        return torch.ones(like.shape, dtype=dtype)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    inputs = max(1, like[0].numel()) if like.ndim > 1 else max(1, like.numel())
    # Drawn in float32: torch 2.8 draws other numbers in half precision than later versions do.
    return torch.empty(like.shape).normal_(0.0, inputs**-0.5, generator=generator).to(dtype)
