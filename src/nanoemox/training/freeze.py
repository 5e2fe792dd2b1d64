"""Selection of trainable parameters, and memory savings for the frozen ones."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from nanoemox.model.branches import BRANCHES
from nanoemox.model.lora import group_names, group_of
from nanoemox.types import RecipeError


def set_trainable(model: nn.Module, groups: Collection[str]) -> frozenset[str]:
    """Make the parameters of these groups trainable and freeze all others.

    Returns:
        The names of the trainable parameters.

    Raises:
        RecipeError: A group is unknown or the model has no parameter in it.
    """
    found: dict[str, set[str]] = {group: set() for group in groups}
    for name, parameter in model.named_parameters():
        group = group_of(name)
        trains = group is not None and group in found
        parameter.requires_grad_(trains)
        if trains and group is not None:
            found[group].add(name)
    empty = sorted(group for group, names in found.items() if not names)
    if empty:
        raise RecipeError(
            f"nothing to train in {', '.join(empty)}: groups are {', '.join(group_names())}; does the model have it?"
        )
    return frozenset().union(*found.values())


def lighten(model: nn.Module, dtype: torch.dtype | None) -> None:
    """Drop the frozen encoders, whose features are cached, and store frozen matrices in the type of autocast.

    Autocast would round them at every step, from a copy of twice the size; the result is identical to the
    bit. Embeddings, a head tied to them, norms and trainable parameters keep their precision.

    Args:
        model: The model, frozen except for the trainable parameters.
        dtype: Type of autocast; None without it.
    """
    for name in BRANCHES:
        setattr(model, f"{name}_encoder", None)
    if dtype is None:
        return
    shared = {id(p) for p in model.get_input_embeddings().parameters()}
    for name, module in model.named_modules():
        if name.startswith("language_model.") and ".lora_" not in name and isinstance(module, nn.Linear):
            for parameter in module.parameters(recurse=False):
                if not parameter.requires_grad and id(parameter) not in shared:
                    parameter.data = parameter.data.to(dtype)
