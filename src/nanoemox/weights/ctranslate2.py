"""Read Whisper weights out of a CTranslate2 container: exactly one layout, anything else is refused.

The container (version 6) is: version, name and revision of the specification, number of variables; for each variable
its name, shape, type, bytes; then pairs of aliases. Numbers are little-endian, names end with a zero byte. CTranslate2
fuses query, key and value into one matrix; here they are cut apart again and named as transformers names them.

Letters: ``D`` width, ``F`` inner width, ``V`` vocabulary, ``M`` mel bands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from nanoemox.types import CheckpointError

_VERSION, _SPEC, _REVISION = 6, "WhisperSpec", 3
_NAME_BYTES = 128  # the longest name of the layout has 47
TYPES: dict[int, np.dtype] = {
    1: np.dtype("<i1"),
    2: np.dtype("<i2"),
    4: np.dtype("<f2"),
}
Slot = tuple[tuple[int, ...], int, int | None]
"""Shape, type, and the value that a flag or count must have."""
_INT8, _INT16, _FLOAT16 = 1, 2, 4
_OPTIONAL = ("decoder/alibi_use_positive_positions", "decoder/scale_alibi")
"""Flags that earlier converters did not write."""
_ALIASES = {"decoder/projection/weight": "decoder/embeddings/weight"}


@dataclass(frozen=True, slots=True)
class WhisperSizes:
    """Sizes of a Whisper model; the default is that of ``base``.

    Attributes:
        layers: Layers of the encoder, and of the decoder.
        width: D.
        inner: F, width inside the feed-forward part.
        heads: Attention heads of each layer.
        vocabulary: V.
        mels: M, bands of the log-mel picture.
        source_positions: Steps of the encoder, 20 ms each.
        target_positions: Longest transcript in tokens.
    """

    layers: int = 6
    width: int = 512
    inner: int = 2048
    heads: int = 8
    vocabulary: int = 51865
    mels: int = 80
    source_positions: int = 1500
    target_positions: int = 448


BASE = WhisperSizes()


def read_whisper(path: Path, sizes: WhisperSizes = BASE) -> dict[str, Tensor]:
    """Read a container as the state of a ``WhisperForConditionalGeneration``.

    Every variable is checked against the layout before its bytes are read, so a hostile file allocates nothing that
    the layout does not have.

    Args:
        path: The file ``model.bin``.
        sizes: What it has to be.

    Returns:
        Name in transformers -> float16 tensor; ``proj_out.weight`` is left out, being tied to the embeddings.

    Raises:
        CheckpointError: The file is not exactly this layout, is cut off, or goes on after its end.
    """
    layout = layout_of(sizes)
    with path.open("rb") as file:
        try:
            count = _check_head(file, len(layout))
            variables = dict(_variables(file, layout, count))
            aliases = _read_aliases(file)
        except CheckpointError as error:
            raise CheckpointError(f"{path.name}: not the Whisper container this reader knows: {error}") from None
        rest = file.read(1)
    if missing := sorted(layout.keys() - variables.keys() - set(_OPTIONAL)):
        raise CheckpointError(f"{path.name}: not the Whisper container this reader knows: it lacks {missing[0]}")
    if aliases != _ALIASES or rest:
        raise CheckpointError(
            f"{path.name}: not the Whisper container this reader knows: after the variables it has aliases {aliases}"
            f"{' and further bytes' if rest else ''}, expected {_ALIASES} and the end of the file"
        )
    return _renamed(variables, sizes, path.name)


# ---------------------------------------------------------------- the layout


def layout_of(sizes: WhisperSizes) -> dict[str, Slot]:
    """Name -> shape, type, and the value that a flag or count must have."""
    d = sizes.width
    out: dict[str, Slot] = {}

    def add(name: str, *shape: int) -> None:
        out[name] = (shape, _FLOAT16, None)

    def linear(name: str, outputs: int, inputs: int) -> None:
        add(f"{name}/weight", outputs, inputs)
        add(f"{name}/bias", outputs)

    def norm(name: str) -> None:
        add(f"{name}/gamma", d)
        add(f"{name}/beta", d)

    for side, positions in (("encoder", sizes.source_positions), ("decoder", sizes.target_positions)):
        add(f"{side}/position_encodings/encodings", positions, d)
        norm(f"{side}/layer_norm")
        out[f"{side}/num_heads"] = ((), _INT16, sizes.heads)
        for i in range(sizes.layers):
            at = f"{side}/layer_{i}"
            norm(f"{at}/self_attention/layer_norm")
            linear(f"{at}/self_attention/linear_0", 3 * d, d)
            linear(f"{at}/self_attention/linear_1", d, d)
            norm(f"{at}/ffn/layer_norm")
            linear(f"{at}/ffn/linear_0", sizes.inner, d)
            linear(f"{at}/ffn/linear_1", d, sizes.inner)
            if side == "decoder":
                norm(f"{at}/attention/layer_norm")
                linear(f"{at}/attention/linear_0", d, d)
                linear(f"{at}/attention/linear_1", 2 * d, d)
                linear(f"{at}/attention/linear_2", d, d)
    add("encoder/conv1/weight", d, sizes.mels, 3)
    add("encoder/conv1/bias", d)
    add("encoder/conv2/weight", d, d, 3)
    add("encoder/conv2/bias", d)
    add("decoder/embeddings/weight", sizes.vocabulary, d)
    flags = {"alibi": 0, "alibi_use_positive_positions": 0, "pre_norm": 1, "scale_alibi": 0, "scale_embeddings": 0}
    flags |= {"activation": 3, "start_from_zero_embedding": 0}  # 3 is GELU
    out |= {f"decoder/{name}": ((), _INT8, value) for name, value in flags.items()}
    out["decoder/alignment_heads"] = ((), _INT16, 1)
    out["decoder/alignment_layer"] = ((), _INT16, -1)
    return out


# ---------------------------------------------------------------- the bytes


def _check_head(file: BinaryIO, variables: int) -> int:
    """Return the number of variables."""
    version = _number(file, "<I")
    if version != _VERSION:
        raise CheckpointError(f"version {version} of the container, expected {_VERSION}")
    spec, revision = _name(file), _number(file, "<I")
    if (spec, revision) != (_SPEC, _REVISION):
        raise CheckpointError(f"specification {spec!r} revision {revision}, expected {_SPEC!r} revision {_REVISION}")
    count = _number(file, "<I")
    if not variables - len(_OPTIONAL) <= count <= variables:
        raise CheckpointError(f"{count} variables, expected {variables}")
    return count


def _variables(file: BinaryIO, layout: Mapping[str, Slot], count: int) -> Iterator[tuple[str, Tensor]]:
    seen: set[str] = set()
    for _ in range(count):
        name = _name(file)
        if name not in layout or name in seen:
            raise CheckpointError(f"variable {name!r} is {'there twice' if name in seen else 'not one of the layout'}")
        seen.add(name)
        shape, kind, value = layout[name]
        found = tuple(_number(file, "<I") for _ in range(min(_number(file, "<B"), 8)))
        found_kind, found_bytes = _number(file, "<B"), _number(file, "<I")
        size = TYPES[kind].itemsize * int(np.prod(shape, dtype=np.int64))
        if (found, found_kind, found_bytes) != (shape, kind, size):
            raise CheckpointError(
                f"{name} has shape {found}, type {found_kind} and {found_bytes} bytes, expected {shape}, {kind}, {size}"
            )
        array = np.frombuffer(bytearray(_take(file, size)), TYPES[kind]).reshape(shape)
        if value is not None and int(array) != value:
            raise CheckpointError(f"{name} is {int(array)}, expected {value}")
        yield name, torch.from_numpy(array)


def _read_aliases(file: BinaryIO) -> dict[str, str]:
    count = _number(file, "<I")
    if count > len(_ALIASES):
        raise CheckpointError(f"{count} aliases, expected {len(_ALIASES)}")
    return {_name(file): _name(file) for _ in range(count)}


def _take(file: BinaryIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) != size:
        raise CheckpointError(f"it is cut off: {size} bytes wanted at its end, {len(found)} there")
    return found


def _number(file: BinaryIO, kind: str) -> int:
    return int(struct.unpack(kind, _take(file, struct.calcsize(kind)))[0])


def _name(file: BinaryIO) -> str:
    size = _number(file, "<H")
    if not 1 < size <= _NAME_BYTES:
        raise CheckpointError(f"a name of {size} bytes, limit {_NAME_BYTES}")
    text = _take(file, size)
    if text[-1] != 0 or not text[:-1].isascii():
        raise CheckpointError(f"{text[:40]!r} is not a name")
    return text[:-1].decode("ascii")


# ---------------------------------------------------------------- the names of transformers

_OUTER = {
    "encoder/conv1": "conv1", "encoder/conv2": "conv2",
    "encoder/position_encodings/encodings": "embed_positions.weight",
    "decoder/embeddings": "embed_tokens", "decoder/position_encodings/encodings": "embed_positions.weight",
}  # fmt: skip
_INNER = {
    "self_attention/layer_norm": "self_attn_layer_norm", "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm", "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm", "ffn/linear_0": "fc1", "ffn/linear_1": "fc2",
}  # fmt: skip
_FUSED = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
_LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def _renamed(variables: Mapping[str, Tensor], sizes: WhisperSizes, file: str) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, tensor in variables.items():
        if tensor.dtype != torch.float16:
            continue  # a flag or a count, already checked
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{file}: {name} holds values that are not finite")
        side, *rest = name.split("/")
        if name in _OUTER:
            out[f"model.{side}.{_OUTER[name]}"] = tensor
            continue
        stem, leaf = name.rpartition("/")[::2]
        if stem in _OUTER:
            out[f"model.{side}.{_OUTER[stem]}.{_LEAVES[leaf]}"] = tensor
        elif rest[0].startswith("layer_") and rest[0] != "layer_norm":
            at, inner = f"model.{side}.layers.{rest[0].removeprefix('layer_')}", "/".join(rest[1:-1])
            if inner in _INNER:
                out[f"{at}.{_INNER[inner]}.{_LEAVES[leaf]}"] = tensor
            else:
                out |= _cut(tensor, [f"{at}.{part}" for part in _FUSED[inner]], leaf, sizes.width, f"{file}: {name}")
        else:
            out[f"model.{side}.layer_norm.{_LEAVES[leaf]}"] = tensor
    return out


def _cut(tensor: Tensor, parts: list[str], leaf: str, width: int, where: str) -> dict[str, Tensor]:
    """Cut a fused matrix or bias; Whisper's keys have no bias, so theirs must be zero."""
    out: dict[str, Tensor] = {}
    for part, piece in zip(parts, tensor.split(width), strict=True):
        if leaf == "bias" and part.endswith("k_proj"):
            if bool(piece.any()):
                raise CheckpointError(f"{where}: the keys have a bias, which Whisper has not")
        else:
            out[f"{part}.{leaf}"] = piece.contiguous()
    return out
