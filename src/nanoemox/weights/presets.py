"""Model recipes: which backbones, which branches, and every choice in which paper, code and we differ.

A recipe holds the sections of :class:`~nanoemox.model.configuration.NanoEmoXConfig` as they are; sizes of encoders and
language model come with the backbones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator
from transformers import AutoConfig, PreTrainedConfig

from nanoemox.model.backbones import SIZES
from nanoemox.model.branches import BRANCHES
from nanoemox.model.configuration import FUSION, PAPER_BRANCHES, NanoEmoXConfig
from nanoemox.recipes import Strict, load_recipe
from nanoemox.tasks.templates import Layout
from nanoemox.types import RecipeError

TEXT = "text"
"""The part that is the language model; the other parts are branches."""


def parts() -> tuple[str, ...]:
    """Name the parts of a model that can have a public backbone."""
    return (*(name for name, branch in BRANCHES.items() if branch.backbone is not None), TEXT)


class ModelRecipe(Strict):
    """A model as data; the section of a branch, or of the fusion, is a further field under its name.

    Attributes:
        branches: Media branches of the model.
        backbones: Part -> hub id of its public backbone, or id and file such as ``owner/name/folder/model.pt``.
        templates: Layout of the prompt.
    """

    model_config = ConfigDict(extra="allow")

    branches: tuple[str, ...] = PAPER_BRANCHES
    backbones: dict[str, str] = Field(default_factory=dict)
    templates: Layout = "chatml"

    @model_validator(mode="after")
    def _check(self) -> Self:
        sections = self.model_extra or {}
        if unknown := sorted(set(sections) - {*BRANCHES, FUSION}):
            raise ValueError(f"{', '.join(unknown)}: no field of a model recipe, and no branch")
        if wrong := sorted(name for name, section in sections.items() if not isinstance(section, dict)):
            raise ValueError(f"{', '.join(wrong)}: a section holds fields by name")
        if unknown := sorted(set(self.backbones) - set(parts())):
            raise ValueError(f"backbones.{unknown[0]}: the parts with a backbone are {', '.join(parts())}")
        return self

    def section(self, branch: str) -> dict[str, Any]:
        """Return the fields of a branch's section."""
        return dict((self.model_extra or {}).get(branch, {}))

    def parts(self) -> tuple[str, ...]:
        """Name the parts that need a backbone."""
        built = (name for name in BRANCHES if name in self.branches)
        return (*(name for name in built if BRANCHES[name].needs_backbone(self.section(name))), TEXT)


def load_preset(source: str | Path) -> ModelRecipe:
    """Read a model recipe by name or path."""
    return load_recipe(source, "model", ModelRecipe)


def model_config(
    recipe: ModelRecipe, encoders: Mapping[str, PreTrainedConfig] | None = None, **fields: Any
) -> NanoEmoXConfig:
    """Build the configuration of a recipe.

    Args:
        recipe: The recipe.
        encoders: Part -> configuration of its backbone; by default the known sizes of the recipe's ids.
        fields: Further fields of the configuration, such as placeholder ids.

    Raises:
        RecipeError: A section does not fit, or the sizes of a backbone are not known without its files.
    """
    known = dict(encoders or {})
    sections: dict[str, Any] = {b: recipe.section(b) for b in dict.fromkeys([*PAPER_BRANCHES, *recipe.branches])}
    for part in recipe.parts():
        config = known.get(part)
        if config is None and (part == TEXT or "encoder" not in sections[part]):
            config = known_sizes(recipe.backbones.get(part), part)
        if part == TEXT:
            fields["text_config"] = config
        elif config is not None:
            sections[part]["encoder"] = config
    try:
        return NanoEmoXConfig(**sections, branches=list(recipe.branches), **fields)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"model recipe: {error}") from error


def known_sizes(source: str | None, part: str) -> PreTrainedConfig:
    """Return the configuration of a public backbone without its files.

    Raises:
        RecipeError: Its sizes are not in the table.
    """
    if source is None:
        raise RecipeError(f"the recipe names no backbone for {part}: give backbones.{part}, or --{option(part)} DIR")
    if source not in SIZES:
        raise RecipeError(
            f"sizes of {source!r} are not known without its files: give a directory that holds its config.json, or one "
            f"of {', '.join(SIZES)}"
        )
    sizes = dict(SIZES[source])
    return AutoConfig.for_model(sizes.pop("model_type"), **sizes)


def option(part: str) -> str:
    """Return the command-line option of a part."""
    return "lm" if part == TEXT else part
