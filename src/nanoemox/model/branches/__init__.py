"""The branches: one object per modality, one file per object. ``BRANCHES`` is the only list of them.

Fusion (:mod:`nanoemox.model.fusion`) and text are not branches: they have no media of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from nanoemox.model.branches.branch import Branch
from nanoemox.model.branches.face import FACE
from nanoemox.model.branches.physiology import PHYSIOLOGY
from nanoemox.model.branches.speech import SPEECH
from nanoemox.model.branches.vision import VISION
from nanoemox.types import Clip

__all__ = ["BRANCHES", "Branch", "branch_of", "media_keys", "present", "read_branches", "sidecars"]

BRANCHES: Final[dict[str, Branch]] = {b.name: b for b in (VISION, SPEECH, FACE, PHYSIOLOGY)}
"""Name -> branch; a line added here adds a modality."""


def branch_of(key: str) -> str:
    """Return the branch of a key of a batch, raw or encoded.

    Raises:
        KeyError: It belongs to none.
    """
    return {k: name for name, branch in BRANCHES.items() for k in (branch.raw, *branch.features)}[key]


def media_keys() -> frozenset[str]:
    """Return all keys of media in a batch, raw or encoded."""
    return frozenset(key for branch in BRANCHES.values() for key in (branch.raw, *branch.features))


def present(config: Any) -> dict[str, Branch]:
    """Return the branches of a configuration, in their order."""
    return {name: BRANCHES[name] for name in config.branches if name in BRANCHES}


def sidecars(config: Any, paths: Mapping[str, str], root: Path = Path()) -> dict[str, str]:
    """Return branch -> sidecar file, for those that have one (:meth:`Branch.sidecar`)."""
    named = ((name, branch.sidecar(paths, config, root)) for name, branch in present(config).items())
    return {name: file for name, file in named if file is not None}


def read_branches(
    clip: Clip,
    config: Any,
    files: Mapping[str, str] | None = None,
    *,
    without: Collection[str] = (),
    start_s: float = 0.0,
    person: int = 0,
) -> Clip:
    """Add the other inputs of the branches to a loaded clip (:meth:`Branch.read`).

    Args:
        clip: The clip.
        config: The configuration.
        files: Branch -> file, from :func:`sidecars`.
        without: Branches that are not used.
        start_s: Where the clip starts in its recording, in seconds.
        person: Which person, 0 the largest.
    """
    for name, branch in present(config).items():
        if name not in without:
            file = (files or {}).get(name)
            path = None if file is None else Path(file)
            clip = branch.read(clip, config, file=path, start_s=start_s, person=person)
    return clip
