"""Load samples with their media folder from a manifest, a prepared folder or a released corpus."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoemox.data.corpora import MANIFESTS, SUMMARY, reader
from nanoemox.data.corpora.releases import read_json
from nanoemox.data.manifest import Sample, read_manifest
from nanoemox.types import RecipeError


@dataclass(frozen=True, slots=True)
class SampleSource:
    """Samples of one source.

    Attributes:
        name: Display name.
        root: Folder that media paths of the samples are relative to.
        samples: The samples.
    """

    name: str
    root: Path
    samples: list[Sample]


def media_root(manifest: Path, data_root: Path | None = None) -> Path:
    """Return the folder that media paths of a manifest are relative to.

    Args:
        manifest: The file, or the folder that ``nanoemox prepare`` wrote.
        data_root: Where given, this; else what ``summary.json`` beside the manifest says; else the manifest's folder.
    """
    folder = manifest if manifest.is_dir() else manifest.parent
    if data_root is not None:
        return data_root
    if (folder / SUMMARY).is_file():
        summary: dict[str, Any] = read_json(folder / SUMMARY)
        return Path(summary.get("root", folder))
    return folder


def manifest_files(path: Path) -> list[Path]:
    """Return the manifests that a path stands for: itself, or those of a prepared folder.

    Raises:
        RecipeError: There is none.
    """
    if path.is_dir():
        files = [path / file for file in MANIFESTS.values() if (path / file).is_file()]
        if not files:
            raise RecipeError(f"{path} holds none of {', '.join(MANIFESTS.values())}: name a manifest")
        return files
    if not path.is_file():
        raise RecipeError(
            f"{path}: no such file: name a manifest or prepared folder (check: or a corpus and its folder)"
        )
    return [path]


def open_manifests(path: Path, data_root: Path | None = None) -> SampleSource:
    """Read a manifest, or those of a prepared folder."""
    samples = [sample for file in manifest_files(path) for sample in read_manifest(file)]
    return SampleSource(str(path), media_root(path, data_root), samples)


def open_corpus(name: str, root: Path, *, trust_npz: bool = False) -> SampleSource:
    """Read a released corpus."""
    return SampleSource(name, root, reader(name).read(root, trust_npz=trust_npz))


def absolute(source: SampleSource) -> list[Sample]:
    """Return the samples with absolute media paths."""
    out = []
    for sample in source.samples:
        found = {field: os.path.abspath(source.root / path) for field, path in sample.paths.items()}
        out.append(sample.model_copy(update=found))
    return out


def content_key(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
