"""Recipes: strict YAML with overlays, found by name among the package's own or by path.

A recipe may say ``extends: NAME_OR_PATH``: mappings are merged key by key, everything else is replaced, and a key
set to null is removed. What the fields mean belongs to the reader (a frozen pydantic model that forbids unknown
keys), so a misspelt field is an error with a place and never silently ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from nanoemox.types import RecipeError

Kind = Literal["train", "model"]
MAX_OVERLAYS = 8
Recipe = TypeVar("Recipe", bound=BaseModel)


class _UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key given twice, of which YAML's own silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build one mapping."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


class Strict(BaseModel):
    """Base of every recipe's fields: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def recipe_names(kind: Kind) -> tuple[str, ...]:
    """List the package's own recipes."""
    folder = files("nanoemox") / "recipes" / kind
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def load_recipe(source: str | Path, kind: Kind, model: type[Recipe]) -> Recipe:
    """Read a recipe with all that it extends.

    Args:
        source: Name of one of the package's recipes, or path of a YAML file.
        kind: Which of the package's folders a name is looked up in.
        model: What the fields must fit.

    Raises:
        RecipeError: The recipe does not exist, is not YAML, extends in a circle, or a field does not fit.
    """
    fields = _resolve(source, kind, Path.cwd(), ())
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise RecipeError(f"recipe {source}: {describe(error)}") from error


def describe(error: ValidationError) -> str:
    """Name every field that does not fit, with its value, on one line."""
    parts = []
    for item in error.errors(include_url=False):
        place = ".".join(str(p) for p in item["loc"]) or "(whole)"
        parts.append(f"{place}: {item['msg']}, got {str(item['input'])[:80]!r}")
    return "; ".join(parts)


def write_resolved(recipe: BaseModel, path: Path) -> Path:
    """Write a recipe with every default filled in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(recipe.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)
    path.write_text(text, "utf-8")
    return path


def _resolve(source: str | Path, kind: Kind, folder: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    """Read one file and merge it over what it extends."""
    if len(seen) >= MAX_OVERLAYS or str(source) in seen:
        raise RecipeError(f"recipe {source}: extends in a circle or more than {MAX_OVERLAYS} deep: {' > '.join(seen)}")
    text, folder = _text(source, kind, folder)
    try:
        fields = yaml.load(text, _UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {source}: not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"recipe {source}: must be a mapping of fields, got {type(fields).__name__}")
    base = fields.pop("extends", None)
    if base is None:
        return fields
    if not isinstance(base, str):
        raise RecipeError(f"recipe {source}: extends: {base!r} is not the name or path of one recipe")
    return merge(_resolve(base, kind, folder, (*seen, str(source))), fields)


def _text(source: str | Path, kind: Kind, folder: Path) -> tuple[str, Path]:
    own = files("nanoemox") / "recipes" / kind / f"{source}.yaml"
    if isinstance(source, str) and "/" not in source and own.is_file():
        return own.read_text("utf-8"), folder
    path = folder / source
    if not path.is_file():
        raise RecipeError(f"no recipe {str(source)!r}: the package has {', '.join(recipe_names(kind))}; or give a file")
    try:
        return path.read_text("utf-8"), path.parent
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {source}: not UTF-8: {error}") from error


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another: mappings merge, null removes, all else replaces."""
    out = dict(base)
    for key, value in over.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = merge(out[key], value)
        else:
            out[key] = value
    return out
