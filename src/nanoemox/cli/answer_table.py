"""The table of ``nanoemox answer --csv``: one line per row, resumable after a kill, one writer at a time."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from nanoemox.data.files import lock_file
from nanoemox.printing import escaped, no_formula
from nanoemox.tasks import TASKS
from nanoemox.types import Answer, NanoEmoXError

_OTHER_FILE: Final = "choose another file for --csv"
_WHOLE_BYTES: Final = 64 * 2**20
_PIECE_BYTES: Final = 2**16


class AnswerTable:
    """A table that is open for appending, locked against other writers until it is closed.

    Truncated rows, and rows of a clip with missing windows, are removed on opening.

    Args:
        path: The file; created if absent.
        tasks: Task keys, which determine the columns.
        settings: Everything else that the answers depend on; plain JSON values.

    Attributes:
        done: Paths in the table, in the format of :func:`path_cell`.

    Raises:
        NanoEmoXError: The file cannot be written, is something else, is being written, or holds answers
            with other tasks or settings.
    """

    def __init__(self, path: Path, tasks: Sequence[str], settings: Mapping[str, Any]) -> None:
        self.path, self.names = path, columns(tasks)
        self.settings = json.dumps(settings, sort_keys=True)
        self.done: set[str] = set()
        if path.exists() and not path.is_file():
            raise NanoEmoXError(f"{path}: not a file: {_OTHER_FILE}")
        if not path.parent.is_dir():
            raise NanoEmoXError(f"{path}: the folder {path.parent} does not exist: create it, or {_OTHER_FILE}")
        self._file = _open_locked(path)
        try:
            self._end = self._keep_whole(self._file.read())
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """Return the open table."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close and unlock; a table without a row is removed."""
        if not self._end:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def add(self, path: Path | str, answers: Sequence[Answer]) -> None:
        """Append all rows of one clip, or none if the disk is full.

        Raises:
            NanoEmoXError: The rows cannot be written.
        """
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, self.names)
        if not self._end:
            table.writeheader()
        for i, answer in enumerate(answers):
            row = table_row(path, answer)
            row["window"] = "" if answer.span_s is None else f"{i + 1}/{len(answers)}"
            table.writerow({k: _cell(v) for k, v in row.items()} | {"path": row["path"], "settings": self.settings})
        data = memoryview(text.getvalue().encode("utf-8"))
        self._file.seek(self._end)
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
        except OSError as error:
            self._file.truncate(self._end)
            raise NanoEmoXError(
                f"{self.path}: cannot be written ({error.strerror}); it keeps the answers of {len(self.done)} "
                "clip(s): make room and repeat the command"
            ) from error
        self._end += len(data)
        self.done.add(path_cell(path))

    def _keep_whole(self, data: bytes) -> int:
        """Read the rows into ``done``, truncate incomplete ones and return where to continue."""
        header = (",".join(self.names) + "\r\n").encode()
        if header.startswith(data):  # empty, or killed while the header was written
            end = len(header) if data == header else 0
        elif data[: len(header)].replace(b"\r\n", b"\n").split(b"\n")[0] != header[:-2]:
            raise NanoEmoXError(f"{self.path}: has other columns than these tasks give, or is no table: {_OTHER_FILE}")
        else:
            end = self._read_rows(data)
        if end < len(data):
            self._file.truncate(end)
        return end

    def _read_rows(self, data: bytes) -> int:
        end = whole = data.index(b"\n") + 1
        seen = 0
        for line in data[end:].splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            try:
                row = dict(zip(self.names, next(csv.reader([line.decode("utf-8")])), strict=True))
            except (UnicodeDecodeError, ValueError, csv.Error, StopIteration) as error:
                raise NanoEmoXError(f"{self.path}: no table that can be continued ({error}): {_OTHER_FILE}") from error
            if row["settings"] != self.settings:
                raise NanoEmoXError(
                    f"{self.path}: its answers were given with other settings "
                    f"({_differences(row['settings'], self.settings)}): repeat the command with those, "
                    f"or {_OTHER_FILE}"
                )
            end += len(line)
            seen += 1
            total = int(row["window"].partition("/")[2] or 1)
            if seen == total:
                self.done.add(row["path"])
                whole, seen = end, 0
        return whole


def _open_locked(path: Path) -> io.FileIO:
    """Open a file for this process alone; a writer that ends may remove it before it is locked here."""
    while True:
        try:
            file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        except OSError as error:
            raise NanoEmoXError(f"{path}: cannot be written ({error.strerror}): {_OTHER_FILE}") from error
        try:
            if not lock_file(file.fileno()):
                raise NanoEmoXError(f"{path}: another nanoemox answer is writing it: wait for it, or {_OTHER_FILE}")
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()


def _differences(theirs: str, ours: str) -> str:
    try:
        old, new = json.loads(theirs), json.loads(ours)
        changed = [k for k in new if old.get(k) != new[k]]
        return "; ".join(f"{k} was {_compact(old.get(k))}, now {_compact(new[k])}" for k in changed) or "a field is new"
    except (ValueError, AttributeError):
        return "its settings cannot be read"


def checkpoint_identity(source: str, *, local: bool) -> str:
    """Return the identity of a model: a hash of its files, or the hub id.

    Of weight files above 64 MiB evenly spaced pieces are read.
    """
    if not local:
        return source
    digest = hashlib.sha256()
    for path in sorted(Path(source).iterdir()):
        if path.suffix not in (".json", ".yaml", ".safetensors") or not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _WHOLE_BYTES:
                digest.update(file.read())
                continue
            for start in range(0, size, max(_PIECE_BYTES, size // 256)):
                file.seek(start)
                digest.update(file.read(_PIECE_BYTES))
    return digest.hexdigest()[:16]


def columns(tasks: Sequence[str]) -> list[str]:
    """Return the header of the table for these tasks."""
    names = ["path", "clip", "model", "settings", "start_s", "end_s", "window", "modalities", "gate", "warnings"]
    for key in tasks:
        names += TASKS[key].columns()
    return names


def path_cell(path: Path | str) -> str:
    """Write the absolute path, or a URI, as one printable line, control characters and undecodable bytes escaped."""
    return no_formula(escaped(path if isinstance(path, str) else os.path.abspath(path)))


def _cell(value: Any) -> Any:
    """Make text one printable line that no spreadsheet evaluates as a formula; numbers are unchanged."""
    if not isinstance(value, str):
        return value
    return no_formula("".join(c if c.isprintable() else " " for c in value))


def table_row(path: Path | str, answer: Answer) -> dict[str, Any]:
    """Flatten an answer; lists are joined by ``; ``, mappings are JSON."""
    start_s, end_s = answer.span_s or (None, None)
    row: dict[str, Any] = {
        "path": path_cell(path),
        "clip": answer.clip,
        "model": answer.model,
        "start_s": start_s,
        "end_s": end_s,
        "modalities": "; ".join(answer.modalities),
        "gate": "; ".join(f"{g:.4f}" for g in answer.gate or ()),
        "warnings": "; ".join(answer.warnings),
    }
    for key, reading in answer.tasks.items():
        row |= TASKS[key].cells(reading)
    return row


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
