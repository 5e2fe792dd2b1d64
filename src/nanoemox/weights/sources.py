"""Location and tensors of public backbones: a directory, a file, or a hub id in the local cache.

Only the requested tensor is loaded, and no pickle is ever executed.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils import cached_file

from nanoemox.types import CheckpointError
from nanoemox.weights.directories import indexed_files

CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_EXTRAS = (
    "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
"""Fetched where the hub has them."""
MAX_TORCH_BYTES = 20_000_000_000
"""No torch file of a backbone or a checkpoint is larger, packed or unpacked."""
_HUB = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(?:/(?P<file>\w[\w./-]*))?")
_FACE_FILE = "ckpts/model.pt"  # where FaceXFormer's repository keeps its weights


def locate(source: str | Path) -> Path:
    """Return the folder or file of a source; a hub id is fetched if possible.

    Args:
        source: A folder, a file, a hub id ``owner/name``, or a file of one, ``owner/name/folder/model.pt``.

    Raises:
        CheckpointError: There is none and it cannot be fetched; the message names the command to fetch it elsewhere.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        only_face = (path / _FACE_FILE).is_file() and not (path / CONFIG).is_file()
        return path / _FACE_FILE if only_face else path
    match = _HUB.fullmatch(str(source))
    if match is None:
        raise CheckpointError(f"{source}: no such file or directory, and not a hub id of the form owner/name")
    if match["file"]:
        return _fetch(match["id"], match["file"])
    folder = _fetch(match["id"], CONFIG).parent
    for name in _EXTRAS:
        _cached(match["id"], name)
    _fetch_weights(match["id"])
    return folder


def _fetch(hub_id: str, name: str) -> Path:
    found = _cached(hub_id, name)
    if found is None:
        whole = name in (CONFIG, *_WEIGHTS)
        command = f"hf download {hub_id}{'' if whole else f' {name}'} --local-dir DIR"
        raise CheckpointError(
            f"{hub_id}: {name} is neither in the local cache nor could it be fetched. On a machine with network run "
            f"`{command}`, copy DIR here and name {'DIR' if whole else f'DIR/{name}'} instead"
        )
    return found


def _cached(hub_id: str, name: str) -> Path | None:
    try:
        found = cached_file(hub_id, name, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):
        return None
    return Path(found) if found else None


def _fetch_weights(hub_id: str) -> None:
    """Fetch the weights into the cache, safetensors if there are any."""
    for name in _WEIGHTS:
        if _cached(hub_id, name):
            return
        if index := _cached(hub_id, f"{name}.index.json"):
            for shard in indexed_files(Path(index), Path(name).suffix):
                _fetch(hub_id, shard)
            return
    _fetch(hub_id, _WEIGHTS[0])


def weight_files(place: Path) -> list[Path]:
    """List the weight files of a folder, or the file itself."""
    if place.is_file():
        return [place]
    for name in _WEIGHTS:
        if (place / name).is_file():
            return [place / name]
        if (place / f"{name}.index.json").is_file():
            return [place / shard for shard in indexed_files(place / f"{name}.index.json", Path(name).suffix)]
    raise CheckpointError(f"{place}: holds no weights: expected {' or '.join(_WEIGHTS)}, whole or in shards")


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of one backbone.

    Attributes:
        place: Folder or file they come from.
        shapes: Name -> shape.
        files: Name -> safetensors file that holds it.
        mapped: Name -> tensor of a torch file, mapped from the disk.
    """

    place: Path
    shapes: dict[str, torch.Size] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    mapped: dict[str, Tensor] = field(default_factory=dict)

    def read(self, name: str) -> Tensor:
        """Return one tensor; nothing keeps it or its file open afterwards."""
        if name in self.mapped:
            return self.mapped[name]
        try:
            with safe_open(str(self.files[name]), framework="pt") as handle:
                return handle.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self.files[name]}: {name} cannot be read: {error}") from error


def open_weights(place: Path) -> Weights:
    """List the tensors of a folder or file without reading them.

    Raises:
        CheckpointError: A file is missing, cut off, not a file of weights, or a pickle that would run code.
    """
    out = Weights(place)
    for file in weight_files(place):
        if file.suffix == ".safetensors":
            _list_safetensors(file, out)
        else:
            state, _ = load_torch(file, "state_dict_backbone")  # as in FaceXFormer's
            out.mapped.update(state)
            out.shapes.update({n: t.shape for n, t in state.items()})
    return out


def _list_safetensors(file: Path, out: Weights) -> None:
    try:
        with safe_open(str(file), framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 (not a dict)
                out.shapes[name] = torch.Size(handle.get_slice(name).get_shape())
                out.files[name] = file
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: not a readable safetensors file (is it whole?): {error}") from error


def load_torch(file: Path, key: str) -> tuple[dict[str, Tensor], dict[Any, Any]]:
    """Read a torch file of plain tensors, mapped from the disk, without running anything in it.

    Args:
        file: The file.
        key: Where the tensors are if they are not at the top.

    Returns:
        Name -> tensor, and everything in the file.

    Raises:
        CheckpointError: The file is too large, no file of torch, cut off, holds code, or anything but plain tensors.
    """
    _check_size(file)
    try:
        # Files of torch before 1.6 are no zip archives and cannot be mapped.
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except UnpicklingError:  # whose text advises to load it all the same
        raise CheckpointError(
            f"{file}: not a file of plain tensors, so it is not loaded: it is no file of torch, or holds objects that "
            "would run code"
        ) from None
    except Exception as error:  # whatever a damaged file makes of the reader
        first = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise CheckpointError(f"{file}: not a file of plain tensors, so it is not loaded: {first}") from error
    whole = loaded if isinstance(loaded, dict) else {}
    state = whole.get(key, whole)
    if not isinstance(state, dict) or not state or not all(map(_is_plain, state.items())):
        raise CheckpointError(
            f"{file}: holds no weights: expected name -> plain tensor, at the top or under the key {key!r}"
        )
    return state, whole


def _check_size(file: Path) -> None:
    """Raise if a torch file is too large, packed or unpacked."""
    size = file.stat().st_size
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            size = max(size, sum(entry.file_size for entry in archive.infolist()))
    if size > MAX_TORCH_BYTES:
        raise CheckpointError(f"{file}: {size:,} bytes, limit {MAX_TORCH_BYTES:,}: this is no file of a model")


def _is_plain(entry: tuple[Any, Any]) -> bool:
    """Say whether an entry is a name and a tensor whose values are all in the file: a view may claim any size."""
    name, tensor = entry
    if not isinstance(name, str) or not isinstance(tensor, Tensor):
        return False
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
        return False
    return tensor.nbytes <= tensor.untyped_storage().nbytes()
