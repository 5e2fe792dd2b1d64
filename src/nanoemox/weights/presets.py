"""Model recipes: which backbones, which branches, and every choice in which paper, code and we differ.

A recipe holds the sections of :class:`~nanoemox.model.configuration.NanoEmoXConfig` as they are; sizes of encoders and
language model come with the backbones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from transformers import AutoConfig, PreTrainedConfig

from nanoemox.model.backbones import SIZES
from nanoemox.model.branches import BRANCHES
from nanoemox.model.configuration import PAPER_BRANCHES, NanoEmoXConfig
from nanoemox.recipes import Strict, load_recipe
from nanoemox.tasks.templates import Layout
from nanoemox.types import RecipeError

Part = Literal["vision", "speech", "face", "text"]
PARTS: tuple[Part, ...] = ("vision", "speech", "face", "text")
"""Parts of the model that have a public backbone."""


class Backbones(Strict):
    """Hub id of each public backbone, or id and file such as ``owner/name/folder/model.pt``."""

    vision: str | None = None
    speech: str | None = None
    face: str | None = None
    text: str | None = None


class ModelRecipe(Strict):
    """A model as data.

    Attributes:
        vision, speech, face, fusion: Fields of the configuration's section of that name; another branch of
            :data:`nanoemox.model.branches.BRANCHES` has one under its own name.
        branches: Media branches of the model.
        backbones: Where the frozen parts come from.
        templates: Layout of the prompt.
    """

    model_config = ConfigDict(extra="allow")

    vision: dict[str, Any] = Field(default_factory=dict)
    speech: dict[str, Any] = Field(default_factory=dict)
    face: dict[str, Any] = Field(default_factory=dict)
    fusion: dict[str, Any] = Field(default_factory=dict)
    branches: tuple[str, ...] = PAPER_BRANCHES
    backbones: Backbones = Backbones()
    templates: Layout = "chatml"

    @model_validator(mode="after")
    def _check(self) -> Self:
        sections = self.model_extra or {}
        if unknown := sorted(set(sections) - set(BRANCHES)):
            raise ValueError(f"{', '.join(unknown)}: no field of a model recipe, and no branch")
        if wrong := sorted(name for name, section in sections.items() if not isinstance(section, dict)):
            raise ValueError(f"{', '.join(wrong)}: a section holds fields by name")
        return self

    def section(self, branch: str) -> dict[str, Any]:
        """Return the fields of a branch's section."""
        return dict(getattr(self, branch, {}))

    def parts(self) -> tuple[Part, ...]:
        """Name the parts that need a backbone."""
        needless = {"face"} if self.face.get("kind") in ("precomputed", "expression") else set()
        return tuple(p for p in PARTS if p == "text" or (p in self.branches and p not in needless))


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
        if config is None and (part == "text" or "encoder" not in sections[part]):
            config = known_sizes(getattr(recipe.backbones, part), part)
        if part == "text":
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
    return "lm" if part == "text" else part
