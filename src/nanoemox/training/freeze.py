"""What trains is a set of names."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from nanoemox.model.lora import GROUPS, group_of
from nanoemox.types import RecipeError


def set_trainable(model: nn.Module, groups: Collection[str]) -> frozenset[str]:
    """Let the parameters of these groups train and freeze all others.

    Returns:
        The names that train.

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
            f"nothing to train in {', '.join(empty)}: groups are {', '.join(GROUPS)}; does the model have it?"
        )
    return frozenset().union(*found.values())
