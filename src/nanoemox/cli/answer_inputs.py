"""Inputs of ``nanoemox answer``: files, folders, and URIs of object stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nanoemox.data.files import files_below
from nanoemox.scaling.sources import is_remote, list_clips
from nanoemox.types import NanoEmoXError

_VIDEO = "mp4 m4v mov mkv webm avi mpg mpeg ts flv 3gp wmv ogv gif"
_AUDIO = "wav mp3 m4a aac flac ogg oga opus wma"
_PICTURE = "jpg jpeg png webp bmp tif tiff"
MEDIA_SUFFIXES: Final = frozenset(f".{end}" for end in f"{_VIDEO} {_AUDIO} {_PICTURE}".split())
"""Suffixes read from a folder; a file given by name is tried whatever its suffix."""
Source = Path | str
"""A file on this machine, or a URI."""


def expand(named: Sequence[Source]) -> tuple[list[Source], dict[Source, str]]:
    """Return the clips to read, each once, folders searched; and the reasons why inputs cannot be used."""
    found: dict[Source, None] = {}
    problems: dict[Source, str] = {}
    for one in named:
        try:
            found |= dict.fromkeys(_inside(one))
        except NanoEmoXError as error:
            problems[one] = str(error).removeprefix(f"{one}: ")
    return list(found), problems


def _inside(named: Source) -> Sequence[Source]:
    if isinstance(named, str):
        return list_clips(named, MEDIA_SUFFIXES)
    if named.is_dir():
        inside = [p for p in files_below(named) if p.suffix.lower() in MEDIA_SUFFIXES]
        if not inside:
            raise NanoEmoXError("the folder holds no video, audio or picture file")
        return inside
    if named.is_file():
        return [named]
    raise NanoEmoXError("not a file" if named.exists() else "no such file")


def as_sources(named: Sequence[str], *, remote: bool) -> list[Source]:
    """Parse paths and URIs.

    Args:
        named: Paths and URIs.
        remote: Whether URIs can be read.

    Raises:
        NanoEmoXError: A URI that cannot.
    """
    for one in named:
        if is_remote(one) and not remote and not Path(one).exists():
            raise NanoEmoXError(f"{one}: clips in an object store are read with --ray and --csv FILE")
    return [one if remote and is_remote(one) else Path(one) for one in named]
