"""Kinds of findings, their levels, and their remedies."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Level = Literal["error", "warning", "note"]
LEVELS: Final[tuple[Level, ...]] = ("error", "warning", "note")
"""``error``: it breaks or spoils training; ``warning``: check it; ``note``: for information."""

REMEDIES: Final = MappingProxyType(
    {
        "line": "correct the line, or write the manifest again with `nanoemox prepare`",
        "missing": "download or unpack the file, or correct the path (is --data-root right?)",
        "unreadable": "download it again (git lfs pull for LFS pointers), else remove the sample",
        "truncated": "download it again or recut it, else remove the sample",
        "long": "check whether it was cut wrongly; if so, remove the sample",
        "silent": "none if it was recorded so: the voice is left out; else extract the sound again",
        "faceless": "none if no person is visible: the face is left out; else recut it",
        "duplicate": "keep one of the copies; where their labels differ, find out which is right",
        "leak by name": "remove the clip from the training part",
        "leak by content": "remove the clip from the training part, whatever its name there",
        "leak by speaker": "split by speaker, or report with the result that speakers are shared",
        "leak by words": "remove the sample from the training part",
        "label": "correct the spelling",
        "encoding": "save the source as UTF-8 and prepare it again; take lost characters from the original",
        "known": "see the sample's line: remove it from the training part, keep it in official test sets",
    }
)
"""Kind of finding -> remedy."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        kind: One of :data:`REMEDIES`.
        level: Severity.
        where: Sample, file or line.
        what: Description, with the value.
    """

    kind: str
    level: Level
    where: str
    what: str
