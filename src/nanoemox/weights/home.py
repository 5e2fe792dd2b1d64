"""Pulled models on this machine: their folder and list. No torch, no network.

The folder is ``NANOEMOX_HOME``, or the user's cache folder. In it: ``models/NAME/`` (a model directory with its
``pulled.json``), ``downloads-NAME/`` while a pull is unfinished, and a lock file.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from nanoemox.types import CheckpointError

EMBEDDED = "mini"
"""Model inside the package."""
SMALL, AUTHORS = "small", "authors"
PULLABLE = (SMALL, AUTHORS)
"""Models that ``nanoemox pull`` makes."""
PULLED = "pulled.json"
"""Record of the origin of a pulled model; written last, so it marks a complete directory."""
WHISPER = "whisper"
"""Folder inside a pulled model that holds the speech recogniser."""


@dataclass(frozen=True, slots=True)
class PulledPart:
    """A public part inside a pulled model.

    Attributes:
        part: Its name, such as ``SmolLM2-135M-Instruct``.
        licence: SPDX identifier.
        source: Its origin: packages with versions, or hub id with revision.
        sha256: Hash of the file, or of the tensors.
    """

    part: str
    licence: str
    source: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PulledModel:
    """A pulled model.

    Attributes:
        name: Its name for ``--model``.
        folder: The model directory.
        size_bytes: Size of all its files.
        parts: Its public parts.
    """

    name: str
    folder: Path
    size_bytes: int
    parts: tuple[PulledPart, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the object of ``nanoemox models --json``."""
        parts = [asdict(p) for p in self.parts]
        return {"name": self.name, "folder": str(self.folder), "size_bytes": self.size_bytes, "parts": parts}


def home() -> Path:
    """Return the folder for pulled models; it need not exist."""
    if named := os.environ.get("NANOEMOX_HOME"):
        return Path(named).expanduser()
    from platformdirs import user_cache_path

    return Path(user_cache_path("nanoemox", appauthor=False))


def models_folder() -> Path:
    """Return the folder of the finished models."""
    return home() / "models"


def find_pulled(name: str) -> Path | None:
    """Return the directory of a pulled model, or None if it is not there or incomplete."""
    folder = models_folder() / name
    return folder if name and Path(name).name == name and (folder / PULLED).is_file() else None


def find_whisper() -> Path | None:
    """Return the directory of the speech recogniser that came with ``small``, or None."""
    folder = find_pulled(SMALL)
    return folder / WHISPER if folder is not None and (folder / WHISPER / "config.json").is_file() else None


def pulled_models() -> list[PulledModel]:
    """List the pulled models by name.

    Raises:
        CheckpointError: A record cannot be read.
    """
    root = models_folder()
    if not root.is_dir():
        return []
    names = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))
    return [read_record(folder) for name in names if (folder := find_pulled(name)) is not None]


def work_folders(name: str) -> tuple[Path, Path]:
    """Return the folders of a pull that has not ended: what it fetched, and the model it was writing."""
    return home() / f"downloads-{name}", models_folder() / f".{name}.unfinished"


def old_folder(name: str) -> Path:
    """Return where the model before is while a new one takes its place."""
    return models_folder() / f".{name}.old"


def shipped_model(name: str) -> Path | None:
    """Return the package's folder of a model (of ``small`` only our part), or None if this build has none."""
    folder = Path(str(files("nanoemox") / "assets" / name))
    return folder if (folder / "config.json").is_file() else None


def write_record(folder: Path, name: str, parts: tuple[PulledPart, ...]) -> None:
    """Write the record of a finished directory."""
    text = json.dumps({"name": name, "parts": [asdict(p) for p in parts]}, indent=1)
    (folder / PULLED).write_text(text + "\n", "utf-8")


def read_record(folder: Path) -> PulledModel:
    """Read the record of a pulled model."""
    try:
        found = json.loads((folder / PULLED).read_text("utf-8"))
        parts = tuple(PulledPart(**p) for p in found["parts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / PULLED}: not a record of a pulled model: delete {folder}") from error
    return PulledModel(folder.name, folder, folder_size(folder), parts)


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
