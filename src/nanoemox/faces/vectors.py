"""Precomputed face vectors: landmarks, action units, pose and gaze of OpenFace, or any array.

A ``.csv`` is the output of OpenFace's ``FeatureExtraction``; a ``.npy`` contains float[N, F], its rows evenly spaced
over the recording. Both are sampled at the times of the clip's frames. Letters: ``T`` frames of the clip, ``N`` rows
of the file, ``F`` width of a vector.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from nanoemox.faces.tracks import NO_FACE
from nanoemox.types import Clip, MediaError

MAX_BYTES: Final = 128 * 2**20
"""Size limit of a file: about an hour of landmarks and action units at 30 rows per second."""
FAR_S: Final = 1.0
"""A row farther than this from its frame gives a warning."""
SUFFIXES: Final = (".csv", ".npy")
_UNITS: Final = ["01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45"]
_EYES: Final = tuple(f"gaze_{eye}_{axis}" for eye in "01" for axis in "xyz")
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "landmarks": tuple(f"{axis}_{i}" for axis in "xy" for i in range(68)),
    "au_intensity": tuple(f"AU{unit}_r" for unit in _UNITS),
    "au_presence": tuple(f"AU{unit}_c" for unit in sorted([*_UNITS, "28"])),
    "pose": tuple(f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz"),
    "gaze": (*_EYES, "gaze_angle_x", "gaze_angle_y"),
}
"""Group of columns -> names in an OpenFace table, in the order of the vector."""
_MILLIMETRES: Final = 1000.0
_MAGIC: Final = b"\x93NUMPY"
Rows = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FaceTable:
    """The vectors of one file.

    Attributes:
        rows: float32[N, F], one vector per image with a face.
        times_s: float64[N] in seconds from the start of the recording, increasing; None if the file has no times.
        lost_s: float64[M], times without a detected face.
        name: Name of the source in messages.
        recording_s: Duration of the recording in seconds, for rows without times; None if it is that of the clip.
    """

    rows: Rows
    times_s: Times | None
    lost_s: Times
    name: str = "face_vectors"
    recording_s: float | None = None


FaceSource = Path | FaceTable | npt.NDArray[np.generic]
"""A file of face vectors, its table, or float[N, F]."""


def width_of(groups: Sequence[str]) -> int:
    """Return F of groups of columns.

    Raises:
        MediaError: An unknown or repeated group, or none.
    """
    unknown = [g for g in groups if g not in COLUMNS]
    if unknown or not groups or len(set(groups)) < len(groups):
        raise MediaError(
            f"face vector columns {', '.join(groups) or '(none)'}: need one or more of {', '.join(COLUMNS)}, each once"
        )
    return sum(len(COLUMNS[g]) for g in groups)


def read_face_table(path: Path, groups: Sequence[str] | None = None, index: int = 0) -> FaceTable:
    """Read a file of face vectors.

    Landmarks are centred and scaled per image, so that size and position of the face do not matter; head positions are
    converted to metres; all other columns stay as OpenFace writes them.

    Args:
        path: ``.csv`` or ``.npy``.
        groups: Keys of :data:`COLUMNS` to read from a ``.csv``; None reads those that it has.
        index: Person, if a ``.csv`` has several: 0 is the most frequent one.

    Raises:
        MediaError: The file is missing, too large or invalid, lacks columns, or contains NaN or infinity.
    """
    if not path.exists():
        raise MediaError(f"{path.name}: no such file of face vectors")
    if not path.is_file():
        raise MediaError(f"{path.name}: not a file, so no face vectors can be read from it")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise MediaError(
            f"{path.name}: {size} bytes, limit {MAX_BYTES}: shorten the recording, or keep only the needed columns"
        )
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise MediaError(f"{path.name}: suffix {suffix or '(none)'} of face vectors: need {' or '.join(SUFFIXES)}")
    read = _read_csv(path, groups, index) if suffix == ".csv" else FaceTable(_read_npy(path), None, np.zeros(0))
    table = replace(read, name=path.name)
    if not np.isfinite(table.rows).all():
        raise MediaError(f"{path.name}: contains NaN, infinity or numbers beyond float32: compute the vectors again")
    return table


def check_rows(rows: npt.NDArray[np.generic], name: str, width: int | None = None) -> Rows:
    """Return an array of vectors as float32[N, F].

    Raises:
        MediaError: It is not a numeric [N, F] array, is empty, or is not ``width`` wide.
    """
    if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind not in "fiu":
        shape = f"{rows.dtype}{list(rows.shape)}"
        raise MediaError(f"{name}: face vectors are {shape}: need numbers [N, F], one row per image")
    if width is not None and rows.shape[1] != width:
        raise MediaError(
            f"{name}: vectors of width {rows.shape[1]}, this model needs {width} (face.vector_size): "
            "use the columns or array that it was trained with"
        )
    with np.errstate(over="ignore"):
        return np.asarray(rows, np.float32)


def with_face_vectors(
    clip: Clip,
    source: FaceSource,
    *,
    width: int,
    groups: Sequence[str],
    num_frames: int,
    start_s: float = 0.0,
    source_s: float | None = None,
    index: int = 0,
) -> Clip:
    """Return the clip with ``face_vectors`` float32[T, F], the rows nearest to its frames.

    Args:
        clip: A clip; without frames it gets ``num_frames`` vectors at the middles of equal spans of its time.
        source: The file, its table, or float[N, F] evenly spaced over the recording.
        width: F of the model.
        groups: Columns to read from a file.
        num_frames: T of a clip without frames.
        start_s: Start of the clip in the recording, seconds.
        source_s: Duration of the recording in seconds; by default the table's, else that of the clip.
        index: Person in a file.

    Raises:
        MediaError: As :func:`read_face_table`, or the width is not the model's.
    """
    table = face_table(source, groups, index)
    if not len(table.rows):
        return replace(clip, face_vectors=None, warnings=(*clip.warnings, NO_FACE))
    rows = check_rows(table.rows, table.name, width)
    length_s = table.recording_s if source_s is None else source_s
    times = _times(table, clip.duration_s if length_s is None else length_s)
    wanted = _wanted(clip, times, num_frames, start_s)
    nearest = _nearest(times, wanted)
    warnings = () if table.times_s is None else _distance_warnings(times[nearest], wanted, table)
    return replace(clip, face_vectors=rows[nearest], warnings=(*clip.warnings, *warnings))


def face_table(source: FaceSource, groups: Sequence[str] | None = None, index: int = 0) -> FaceTable:
    """Return the table of a file or an array; arguments and errors as in :func:`read_face_table`."""
    if isinstance(source, FaceTable):
        return source
    if isinstance(source, Path):
        return read_face_table(source, groups, index)
    table = FaceTable(check_rows(np.asarray(source), "face_vectors"), None, np.zeros(0))
    if not np.isfinite(table.rows).all():
        raise MediaError(f"{table.name}: contains NaN or infinity: compute the vectors again")
    return table


def _times(table: FaceTable, length_s: float) -> Times:
    """Return float64[N], the times of the rows; without times in the file, the middles of equal spans."""
    if table.times_s is not None:
        return table.times_s
    count = len(table.rows)
    times: Times = (np.arange(count) + 0.5) / count * (length_s or count)
    return times


def _wanted(clip: Clip, times: Times, num_frames: int, start_s: float) -> Times:
    """Return float64[T], the times of the clip's frames in the recording."""
    if clip.frame_times_s is not None and len(clip.frame_times_s):
        return np.asarray(clip.frame_times_s, np.float64) + start_s
    end_s = start_s + clip.duration_s if clip.duration_s else float(times[-1])
    first = start_s if clip.duration_s else float(times[0])
    middles: Times = first + (np.arange(num_frames) + 0.5) / num_frames * (end_s - first)
    return middles


def _nearest(times: Times, wanted: Times) -> npt.NDArray[np.int64]:
    """Return int64[T], the row nearest to each time, the earlier of two."""
    after = np.clip(np.searchsorted(times, wanted), 1, max(1, len(times) - 1))
    before = after - 1
    after = np.minimum(after, len(times) - 1)
    later = np.abs(times[after] - wanted) < np.abs(times[before] - wanted)
    return np.where(later, after, before).astype(np.int64)


def _distance_warnings(found: Times, wanted: Times, table: FaceTable) -> tuple[str, ...]:
    """Return a warning if rows are far from their frames or replace frames without a face."""
    away, name = np.abs(found - wanted), table.name
    if len(table.lost_s):
        lost_away = np.abs(table.lost_s[:, None] - wanted).min(axis=0)
        missing = int((lost_away < away).sum())
        if missing:
            return (f"{name}: no face in {missing} of {len(wanted)} frames: the nearest vectors are used for them",)
    if float(away.max()) > FAR_S:
        return (f"{name}: its rows are up to {away.max():.1f} s from the clip's frames: is it of another clip?",)
    return ()


def _read_npy(path: Path) -> Rows:
    """Read an array without unpickling; its header is checked before its numbers are read."""
    with path.open("rb") as file:
        magic = file.read(len(_MAGIC))
    if magic[:2] == b"PK":
        raise MediaError(f"{path.name}: an archive, not a single array: save float[N, F] with numpy.save")
    if magic != _MAGIC:
        raise MediaError(f"{path.name}: not a .npy array (pickles are never opened): save float[N, F] with numpy.save")
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError, MemoryError, SyntaxError) as error:
        objects = "object" in str(error).lower()
        why = "contains Python objects, which are never unpickled" if objects else "not a complete .npy array"
        raise MediaError(f"{path.name}: {why}: save float[N, F] with numpy.save") from error
    return check_rows(mapped, path.name)


def _read_csv(path: Path, groups: Sequence[str] | None, index: int) -> FaceTable:
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise MediaError(f"{path.name}: not UTF-8 at byte {error.start}: not an OpenFace table") from error
    try:
        names = [name.strip() for name in next(csv.reader(lines[:1]), [])]
    except csv.Error as error:
        raise MediaError(f"{path.name}: its first line is not a list of columns ({error})") from error
    wanted = _columns(path, names, groups)
    known = [name for name in ("timestamp", "success", "face_id") if name in names]
    if "timestamp" not in known:
        raise MediaError(f"{path.name}: no column timestamp: create the table with OpenFace's FeatureExtraction")
    numbers = _numbers(path, lines[1:], [names.index(name) for name in (*known, *wanted)], names)
    side = {name: numbers[:, i] for i, name in enumerate(known)}
    rows = numbers[:, len(known) :]
    if not np.isfinite(numbers[:, : len(known)]).all():
        raise MediaError(f"{path.name}: {', '.join(known)} must be numbers in every row")
    seen = side["success"] > 0 if "success" in side else np.ones(len(rows), np.bool_)
    if "face_id" in side:
        seen &= side["face_id"] == _person(path, side["face_id"][seen], index)
    times = side["timestamp"]
    order = np.flatnonzero(seen)[np.argsort(times[seen], kind="stable")]
    lost = np.setdiff1d(times, times[order])
    with np.errstate(over="ignore"):
        return FaceTable(_relative(rows[order], wanted).astype(np.float32), times[order], lost)


def _columns(path: Path, names: Sequence[str], groups: Sequence[str] | None) -> list[str]:
    if groups is None:
        groups = [group for group, columns in COLUMNS.items() if set(columns) <= set(names)]
        if not groups:
            raise MediaError(f"{path.name}: has the columns of none of {', '.join(COLUMNS)}: not an OpenFace table")
    width_of(groups)
    for group in groups:
        absent = [column for column in COLUMNS[group] if column not in names]
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            raise MediaError(f"{path.name}: no column {absent[0]}{more}, needed for {group}: run OpenFace with it")
    return [column for group in groups for column in COLUMNS[group]]


def _numbers(path: Path, lines: Sequence[str], columns: Sequence[int], names: Sequence[str]) -> Times:
    """Read columns as float64[N, columns]."""
    filled = [line for line in lines if line.strip()]
    if not filled:
        raise MediaError(f"{path.name}: no rows below the header: run OpenFace again")
    try:
        numbers: Times = np.loadtxt(filled, delimiter=",", usecols=columns, comments=None, ndmin=2, dtype=np.float64)
    except (ValueError, IndexError, OverflowError) as error:
        bad = next((i for i, line in enumerate(lines, 2) if line.strip() and not _fits(line, columns)), 2)
        raise MediaError(
            f"{path.name}:{bad}: not {len(names)} numbers separated by commas: the table is truncated or damaged"
        ) from error
    return numbers


def _fits(line: str, columns: Sequence[int]) -> bool:
    cells = line.split(",")
    try:
        return len([float(cells[i]) for i in columns]) == len(columns)
    except (ValueError, IndexError):
        return False


def _person(path: Path, ids: Times, index: int) -> float:
    """Return the id of the ``index``-th person, the most frequent one first."""
    people, counts = np.unique(ids, return_counts=True)
    if not len(people):
        return float("nan")
    if not 0 <= index < len(people):
        raise MediaError(f"{path.name}: face index {index} does not exist: choose 0 to {len(people) - 1}")
    return float(people[np.argsort(-counts, kind="stable")[index]])


def _relative(rows: Times, names: Sequence[str]) -> Times:
    """Centre and scale the landmarks of each row, and convert millimetres to metres."""
    out = rows.copy()
    marks = {axis: [i for i, n in enumerate(names) if n in _MARKS[axis]] for axis in "xy"}
    if marks["x"]:
        both = np.stack([out[:, marks["x"]], out[:, marks["y"]]], 1)  # N, 2, 68
        both = both - both.mean(axis=2, keepdims=True)
        size = np.sqrt((both**2).sum(axis=1).mean(axis=1))[:, None, None]
        both = both / np.where(size > 0, size, 1.0)
        out[:, marks["x"]], out[:, marks["y"]] = both[:, 0], both[:, 1]
    away = [i for i, n in enumerate(names) if n.startswith("pose_T")]
    out[:, away] /= _MILLIMETRES
    return out


_MARKS: Final = {axis: frozenset(n for n in COLUMNS["landmarks"] if n.startswith(f"{axis}_")) for axis in "xy"}
