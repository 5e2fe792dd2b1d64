"""Helpers for readers: finding files, reading tables, matching labels, locating clips."""

from __future__ import annotations

import csv
import errno
import json
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Final

from nanoemox.data.files import files_below
from nanoemox.tasks import format_label
from nanoemox.types import RecipeError

VIDEO_SUFFIXES: Final = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".flv")
AUDIO_SUFFIXES: Final = (".wav", ".flac", ".mp3", ".m4a", ".ogg")
_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_SYNONYMS: Final = {
    "anger": "angry", "fear": "fearful", "joy": "happy", "happiness": "happy", "sadness": "sad",
    "surprise": "surprised", "disgusted": "disgust",
}  # fmt: skip


def family(label: str) -> str:
    """Return the common form of a label: ``anger`` and ``angry`` are the same."""
    label = label.lower()
    return _SYNONYMS.get(label, label)


def find_or_none(root: Path, *names: str) -> Path | None:
    """Return the first of these files under ``root`` that exists."""
    return next((root / name for name in names if (root / name).is_file()), None)


def find(root: Path, *names: str) -> Path:
    """Return the first of these files under ``root`` that exists.

    Raises:
        FileNotFoundError: None exists; its ``filename`` lists them.
    """
    path = find_or_none(root, *names)
    if path is None:
        raise missing(root, *names)
    return path


def missing(root: Path, *names: str) -> FileNotFoundError:
    """Return the error for missing files, any of which would suffice."""
    return FileNotFoundError(errno.ENOENT, "no such file", f"{' or '.join(names)} in {root}")


def read_text(path: Path) -> str:
    """Read UTF-8, with or without a byte order mark.

    Raises:
        RecipeError: The file is in another encoding.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 at byte {error.start}: save it as UTF-8") from error


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        RecipeError: The file is not JSON.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:  # too deep, or a number with thousands of digits
        raise RecipeError(f"{path}: not JSON: {error}; download it again") from error


def parse_json(text: str) -> Any:
    """Parse JSON; lone surrogates, which cannot be encoded, become question marks.

    Raises:
        ValueError: The text is not JSON.
        RecursionError: It is nested too deeply.
    """
    value = json.loads(text)
    if _HALF.search(text):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def read_json_lines(path: Path) -> list[Any]:
    """Read JSON lines.

    Raises:
        RecipeError: A line is not JSON.
    """
    out = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                out.append(parse_json(line))
            except (ValueError, RecursionError) as error:
                raise RecipeError(f"{path}:{number}: not JSON: {error}; download it again") from error
    return out


def read_table(path: Path, *columns: str) -> list[dict[str, str]]:
    """Read a CSV or TSV file whose first line names the columns; names are converted to lower case.

    Args:
        path: The file; ``.tsv`` is separated by tabs, without quotes.
        columns: Required columns, in lower case.

    Raises:
        RecipeError: A column is missing or the file is not UTF-8.
    """
    text = read_text(path)
    first = text.partition("\n")[0]
    if path.suffix.lower() == ".tsv":
        reader = csv.DictReader(StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:  # spreadsheets in locales with a decimal comma write semicolons
        reader = csv.DictReader(StringIO(text, newline=""), delimiter="," if "," in first else ";")
    names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    absent = [column for column in columns if column not in names]
    if absent:
        raise RecipeError(f"{path}: no column {', '.join(absent)}; its columns are {', '.join(names)[:200] or 'none'}")
    reader.fieldnames = names
    rows = list(reader)
    for row in rows:
        if any(cell.strip() for cell in row.get(None) or ()):
            raise RecipeError(
                f"{path}: the row of {row[names[0]]!r} has more cells than the {len(names)} columns: a comma in a text "
                "needs quotes around it"
            )
    return [{k: v or "" for k, v in row.items() if isinstance(k, str)} for row in rows]


def match_label(label: str, candidates: Sequence[str], where: str) -> str:
    """Return the candidate that matches a label: ``Happy``, ``happiness`` and ``joy`` are the same.

    Raises:
        RecipeError: None matches; the message names ``where``.
    """
    folded = format_label(label)
    if folded in candidates:
        return folded
    for candidate in candidates:
        if family(candidate) == family(folded):
            return candidate
    raise RecipeError(f"{where}: label {label[:80]!r} is none of {', '.join(candidates)}")


def open_labels(text: str) -> tuple[str, ...]:
    """Parse a printed list of emotion words, ``['a', 'b']`` or ``[a, b]``; an empty one means ``neutral``."""
    words = (format_label(part.strip(" '\"")) for part in text.strip(" []").split(","))
    return tuple(dict.fromkeys(filter(None, words))) or ("neutral",)


class Clips:
    """The media files under a root, by name without suffix; of a name with video and audio, the video.

    Args:
        root: Folder that paths are relative to; searched recursively.
        expected: Path of a missing clip, with ``{name}``.
    """

    def __init__(self, root: Path, expected: str) -> None:
        self._expected = expected
        self._found: dict[str, str] = {}
        rank = {suffix: i for i, suffix in enumerate((*VIDEO_SUFFIXES, *AUDIO_SUFFIXES))}
        best: dict[str, int] = {}
        self._places: set[str] = set()
        for file in files_below(root):
            order = rank.get(file.suffix.lower())
            if order is not None:
                place = file.relative_to(root).as_posix()
                self._places.add(place)
                if order < best.get(file.stem, len(rank)):
                    best[file.stem] = order
                    self._found[file.stem] = place

    def path(self, name: str, *others: str) -> str:
        """Return the path of a clip under any of these names; if there is none, the expected path."""
        found = (self._found[n] for n in (name, *others) if n in self._found)
        return next(found, self._expected.format(name=name))

    def at(self, *places: str) -> str:
        """Return the first of these paths that exists, else the first; for names that repeat between folders."""
        return next((place for place in places if place in self._places), places[0])
