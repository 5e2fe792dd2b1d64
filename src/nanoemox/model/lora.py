"""LoRA on the language model, and the files of trained parameters.

A run never saves the frozen parts: ``save_adapters`` writes adapters, fusion and LoRA in one safetensors file
with strict names, and ``load_adapters`` loads them into a fresh base. The library's own ``add_adapter`` is not
used: it freezes adapters and fusion, and its ``save_pretrained`` then writes LoRA alone.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nanoemox.model.branches import BRANCHES
from nanoemox.model.packing import PackedLinear
from nanoemox.model.tensor_files import save_tensors
from nanoemox.types import CheckpointError

# Rooted at the language model: bare names such as q_proj would also put LoRA into the encoders.
_PROJECTIONS = r"(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
TARGETS = rf"language_model\..*\.{_PROJECTIONS}"
_LAYER = re.compile(r"\.layers\.(\d+)\.")
_META = "nanoemox_lora"


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """Size of the LoRA matrices.

    Attributes:
        r: Rank. Paper: 32. Reference: 16.
        alpha: Numerator of the scale alpha / r. Paper: 16. Reference: 32.
        dropout: Dropout before the first matrix.
        first_layer: Layers below have no LoRA; in text-only training, no gradient passes through them.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.05
    first_layer: int = 0


def group_names() -> tuple[str, ...]:
    """Return the trainable groups: the adapters of the branches, fusion, LoRA. A phase declares a subset."""
    return (*(f"{branch}_adapter" for branch in BRANCHES), "fusion", "lora")


def group_of(name: str) -> str | None:
    """Return the group of a parameter, or None for a frozen part."""
    if ".lora_" in name:
        return "lora"
    head = name.split(".", 1)[0]
    return head if head in group_names() else None


def lora_layers(model: nn.Module) -> dict[str, LoraLayer]:
    """List the LoRA layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def attach_lora(model: nn.Module, spec: LoraSpec, name: str = "default") -> None:
    """Add LoRA to every projection of the language model, in place; the output is unchanged until it is trained.

    Which parameters are trainable does not change: ``training.freeze`` sets that.

    Args:
        model: The model.
        spec: Size of the matrices.
        name: Name of the adapter; a second one is added to the first and becomes the active one.
    """
    attached = lora_layers(model)
    if any(name in layer.lora_A for layer in attached.values()):
        raise CheckpointError("LoRA is attached already: fold_lora(model) first")
    names = _projections(model, spec.first_layer)
    for n in names:
        layer = model.get_submodule(n)
        if isinstance(layer, PackedLinear):  # as an engine loads them; they take no LoRA
            model.set_submodule(n, layer.unpacked())
    before = {n: p.requires_grad for n, p in model.named_parameters()}
    # One pattern where all layers have LoRA: PEFT stores it as it is.
    targets = names if spec.first_layer else TARGETS
    config = LoraConfig(r=spec.r, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=targets)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)  # a second set is meant
        inject_adapter_in_model(config, model, adapter_name=name)
    for n, parameter in model.named_parameters():
        parameter.requires_grad_(before.get(n.replace(".base_layer", ""), before.get(n, True)))


def _projections(model: nn.Module, first_layer: int) -> list[str]:
    """Return the names of the projections with LoRA: those of the layers from ``first_layer`` on."""
    names = [n for n, _ in model.named_modules() if re.fullmatch(TARGETS, n)]
    return [n for n in names if not first_layer or ((found := _LAYER.search(n)) and int(found[1]) >= first_layer)]


def fold_lora(model: nn.Module) -> None:
    """Merge LoRA permanently, where it is in use: afterwards the model has the modules and names of a fresh base."""
    for name, layer in lora_layers(model).items():
        if not layer.merged and not layer.disable_adapters:
            layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())


def _spec_of(model: nn.Module) -> LoraSpec | None:
    layers = lora_layers(model)
    numbers = [int(found[1]) for name in layers if (found := _LAYER.search(name))]
    for layer in layers.values():
        if "default" not in layer.r:
            raise CheckpointError(f"named adapters are attached ({', '.join(layer.r)}): fold_lora(model) before saving")
        dropout = layer.lora_dropout["default"]
        return LoraSpec(
            layer.r["default"], layer.lora_alpha["default"], getattr(dropout, "p", 0.0), min(numbers, default=0)
        )
    return None


def whole(value: Any) -> Any:
    """Gather a sharded tensor (all processes must call it); other values are returned unchanged."""
    # Known by its method: importing DTensor would load all of torch.distributed, also for inference.
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def adapter_state(model: nn.Module, groups: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return the tensors of the groups, by default all: name -> tensor on the CPU.

    All processes that share the model must call it.
    """
    wanted = set(group_names() if groups is None else groups)
    state = {n: t for n, t in model.state_dict().items() if group_of(n) in wanted}
    return {n: whole(t.detach()).to("cpu", copy=True).contiguous() for n, t in state.items()}


def save_adapters(
    model: nn.Module,
    path: str | Path,
    groups: Iterable[str] | None = None,
    dtype: torch.dtype | None = None,
    *,
    write: bool = True,
) -> Path:
    """Write adapters, fusion and LoRA (or only some groups) into one safetensors file.

    Args:
        model: The model.
        path: The file.
        groups: Groups to write; all by default.
        dtype: Precision in the file; by default the model's. At full size bfloat16 is 180 MB, float32 twice that.
        write: Whether this process writes. All processes of a sharded model must call it.
    """
    state = adapter_state(model, groups)
    if not write:
        return Path(path)
    return write_adapters({n: t.to(dtype or t.dtype) for n, t in state.items()}, path, _spec_of(model))


def write_adapters(state: Mapping[str, Tensor], path: str | Path, spec: LoraSpec | None) -> Path:
    """Write tensors under the names of :func:`adapter_state` into a file for :func:`load_adapters`."""
    metadata = {"format": "pt"} | ({} if spec is None else {_META: json.dumps(asdict(spec))})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")  # atomic, even if this process is killed
    save_tensors({n: t.contiguous() for n, t in state.items()}, partial, metadata)
    partial.replace(path)
    return path


def load_adapters(model: nn.Module, path: str | Path, groups: Iterable[str] | None = None) -> frozenset[str]:
    """Load what :func:`save_adapters` wrote, attaching LoRA if the file holds it.

    Args:
        model: A base with the same branches and sizes.
        path: The file.
        groups: Exactly the groups that the file must contain; by default any.

    Returns:
        The loaded names.

    Raises:
        CheckpointError: A tensor is missing, unknown or of another shape; all are listed.
    """
    state, spec = read_adapters(path)
    if spec is not None and not lora_layers(model):
        attach_lora(model, spec)
    held = {group_of(name) or name for name in state}
    wanted = held if groups is None else set(groups)
    own = {n: t for n, t in model.state_dict().items() if group_of(n) in wanted}
    check_fit(path, state, own)
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)
    return frozenset(state)


def read_adapters(path: str | Path) -> tuple[dict[str, Tensor], LoraSpec | None]:
    """Read what :func:`save_adapters` wrote: name -> tensor, and the size of LoRA if it holds any.

    Raises:
        CheckpointError: The file does not exist, is no safetensors file, or its LoRA has no size or another one.
    """
    try:
        with safe_open(str(path), framework="pt") as handle:
            metadata = handle.metadata() or {}
            state = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error
    return state, _read_spec(path, metadata.get(_META), state)


def _read_spec(path: str | Path, text: str | None, state: Mapping[str, Tensor]) -> LoraSpec | None:
    """Read the size of LoRA and compare it with the matrices; None without any."""
    ranks = {len(t) for n, t in state.items() if ".lora_A." in n}
    if not ranks:
        return None
    try:
        spec = TypeAdapter(LoraSpec).validate_json(text or "", strict=True)
    except ValidationError as error:
        raise CheckpointError(f"{path}: holds LoRA, but not its size, as save_adapters writes it") from error
    if ranks != {spec.r}:
        raise CheckpointError(f"{path}: its LoRA has rank {', '.join(map(str, sorted(ranks)))}, but says {spec.r}")
    return spec


def check_fit(path: str | Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise with a list of all differences between a file's tensors and a model's."""
    unknown, missing = sorted(set(state) - set(own)), sorted(set(own) - set(state))
    shapes = [f"{n}: file {tuple(state[n].shape)}, model {tuple(own[n].shape)}" for n in set(state) & set(own)
              if state[n].shape != own[n].shape]  # fmt: skip
    if unknown or missing or shapes:
        raise CheckpointError(f"{path} does not fit: unknown {unknown}, missing {missing}, shapes {sorted(shapes)}")
