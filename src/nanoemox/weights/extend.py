"""Add a branch to a model that was trained without it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nanoemox.model.branches import BRANCHES
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.types import CheckpointError


def add_branch(
    model: str | Path, branch: str, out: Path, section: Mapping[str, Any] | None = None, *, seed: int = 0
) -> Path:
    """Write a model directory with one more branch, whose adapter is initialised at random.

    All other weights are unchanged. Until a phase trains the group ``{branch}_adapter``, the engine leaves the
    branch out.

    Args:
        model: Model directory; the encoder of the new branch, if it has weights, is initialised at random too.
        branch: Key of :data:`nanoemox.model.branches.BRANCHES`.
        out: Folder to write, empty or absent.
        section: Fields of the branch's section of the configuration.
        seed: Seed of the initialisation.

    Returns:
        ``out``.

    Raises:
        CheckpointError: There is no such branch, the model has it, or ``out`` is not empty.
        ValueError: A field of the section does not fit.
    """
    config = NanoEmoXConfig.from_pretrained(str(model))
    if branch not in BRANCHES or branch in config.branches:
        free = ", ".join(b for b in BRANCHES if b not in config.branches) or "none"
        raise CheckpointError(f"branch {branch!r} cannot be added to {model}: choose {free}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} exists and is not an empty folder: name another one")
    added = {"branches": [*config.branches, branch], branch: dict(section or {})}
    wider = NanoEmoXConfig.from_dict(config.to_dict() | added)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        loaded, info = NanoEmoXForConditionalGeneration.from_pretrained(
            str(model), config=wider, use_safetensors=True, output_loading_info=True
        )
    if strange := sorted(n for n in info["missing_keys"] if not n.startswith(f"{branch}_")):
        raise CheckpointError(f"{model} lacks {', '.join(strange)}: it is incomplete")
    loaded.save_pretrained(out)
    processor = NanoEmoXProcessor.from_pretrained(model)
    processor.config = wider
    processor.save_pretrained(out)
    return out
