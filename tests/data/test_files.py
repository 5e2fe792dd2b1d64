"""Atomic files."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nanoemox.data.files import read_lines, write_json, write_text


def test_atomic_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_json(path, {"é": [1, 2]})
    assert json.loads(path.read_text("utf-8")) == {"é": [1, 2]}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_text(path, str(i) * 10_000), range(10)))
    assert len(set(path.read_text())) == 1
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder") as error:
        write_text(tmp_path / "folder", "new")
    assert (error.value.filename, error.value.filename2) == (str(tmp_path / "folder"), None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "x.txt"]


def test_incomplete_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "files-0.jsonl"
    path.write_text('{"a": 1}\n{"b"\n\n{"c": "\u2028\x85"}\n')
    assert read_lines([path]) == [{"a": 1}, {"c": "\u2028\x85"}]
