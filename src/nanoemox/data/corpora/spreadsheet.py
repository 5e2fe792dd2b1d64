"""Reader of the first sheet of an ``.xlsx`` file with the standard library, for DFEW's votes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from xml.etree import ElementTree  # expat, which limits entity expansion
from zipfile import BadZipFile, ZipFile

from nanoemox.types import RecipeError

_NAMESPACE: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
MAX_BYTES: Final = 256 * 2**20
"""Limit of an unpacked part, against decompression bombs."""


def read_sheet(path: Path) -> list[dict[str, str]]:
    """Return the rows below the header, by column name; cells have their stored values, not formulas.

    Raises:
        RecipeError: The file is not a spreadsheet.
    """
    try:
        with ZipFile(path) as archive:
            strings = _strings(archive)
            sheet = ElementTree.fromstring(_part(archive, "xl/worksheets/sheet1.xml"))  # noqa: S314
    except (BadZipFile, KeyError, ElementTree.ParseError, ValueError) as error:
        raise RecipeError(f"{path}: not a spreadsheet (.xlsx): {error}; download it again") from error
    rows = [_row(row, strings) for row in sheet.iter(f"{_NAMESPACE}row")]
    if not rows:
        return []
    names = rows[0]
    return [{name: row.get(column, "") for column, name in names.items()} for row in rows[1:]]


def _part(archive: ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > MAX_BYTES:
        raise ValueError(f"{name} would unpack to {size} bytes, more than {MAX_BYTES}")
    return archive.read(name)


def _strings(archive: ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    table = ElementTree.fromstring(_part(archive, "xl/sharedStrings.xml"))  # noqa: S314
    return ["".join(t.text or "" for t in item.iter(f"{_NAMESPACE}t")) for item in table.iter(f"{_NAMESPACE}si")]


def _row(row: ElementTree.Element, strings: list[str]) -> dict[str, str]:
    """Return column letter -> value."""
    out = {}
    for cell in row.iter(f"{_NAMESPACE}c"):
        column = re.sub(r"\d", "", cell.get("r", ""))
        if cell.get("t") == "inlineStr":
            out[column] = "".join(t.text or "" for t in cell.iter(f"{_NAMESPACE}t"))
            continue
        value = cell.find(f"{_NAMESPACE}v")
        if value is not None and value.text is not None:
            out[column] = strings[int(value.text)] if cell.get("t") == "s" else value.text
    return out
