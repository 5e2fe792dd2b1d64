"""Files of tensors that other users may read as they read every new file: safetensors' writer makes private ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from safetensors.torch import save_file
from torch import Tensor

_PYTORCH = MappingProxyType({"format": "pt"})


def save_tensors(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] = _PYTORCH) -> None:
    """Write a safetensors file with the permissions of every new file of this user."""
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(state), str(path), metadata=dict(metadata))
    path.chmod(mode)


def share_weights(folder: Path) -> None:
    """Give the weights of a directory that transformers saved the permissions of its ``config.json``."""
    mode = (folder / "config.json").stat().st_mode
    for weights in folder.glob("*.safetensors"):
        weights.chmod(mode)
