"""Checks of media files, which worker processes decode."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from nanoemox.data.doctor.findings import Finding, Level
from nanoemox.data.manifest import ClosedLabels, Sample
from nanoemox.data.opening import SampleSource, content_key
from nanoemox.data.workers import Workers
from nanoemox.faces.tracks import with_face
from nanoemox.faces.vectors import read_face_table
from nanoemox.media.load import load_clip
from nanoemox.types import MediaError

LONG_S: Final = 60.0
"""Longer clips of one utterance were probably segmented wrongly."""
_FRAMES: Final = 8
_LFS: Final = b"version https://git-lfs"
_WARNINGS: Final[tuple[tuple[str, str, Level], ...]] = (
    ("is silent", "silent", "warning"),
    ("audio track cannot be decoded", "silent", "warning"),
    ("no audio track", "silent", "warning"),
    ("no face found", "faceless", "warning"),
    ("ends early", "truncated", "error"),
    ("damaged or truncated", "truncated", "error"),
    ("damaged parts", "truncated", "warning"),
    ("no frame can be decoded", "unreadable", "warning"),
)
"""Part of a warning of the decoder -> kind and level."""
Seen = list[tuple[str, Level, str]]


def examine(frames: int, path: str, careful: bool) -> tuple[str | None, Seen]:
    """Return the content key of a file, and what is wrong with it: kind, level, what."""
    name = os.path.basename(path)
    try:
        with open(path, "rb") as file:
            head = file.read(len(_LFS))
            key = content_key(Path(path))
    except FileNotFoundError:
        return None, [("missing", "error", "no such file")]
    except OSError as error:
        return None, [("unreadable", "error", f"cannot be source: {error.strerror}")]
    if head == _LFS:
        return key, [("unreadable", "error", "a pointer of git-lfs, not the file itself: run git lfs pull")]
    try:
        clip = with_face(load_clip(path, num_frames=frames, isolated=careful), everyone=False)
    except (MediaError, MemoryError) as error:
        return key, [("unreadable", "error", str(error).removeprefix(f"{name}: ") or "too large for the memory")]
    found: Seen = []
    for warning in clip.warnings:
        match = next(((kind, level) for part, kind, level in _WARNINGS if part in warning), None)
        if match is not None:
            found.append((*match, warning))
    if clip.duration_s > LONG_S:
        found.append(("long", "warning", f"{clip.duration_s:.0f} s long"))
    if clip.frames is None and clip.waveform is None:
        found = [("silent", "error", "there is nothing to see or hear in it")]
    return key, found


def check_media(
    source: SampleSource, processes: int, done: Callable[[], None] = lambda: None
) -> tuple[list[Finding], dict[str, str]]:
    """Examine every file of the samples.

    Args:
        source: The samples.
        processes: Number of decoding processes; 0 for threads.
        done: Called after each file.

    Returns:
        The findings, and absolute path -> content key of the existing files.
    """
    uses = _uses(source)
    found: list[Finding] = []
    contents: dict[str, str] = {}
    for path, (key, seen) in Workers(examine, _frames, (), processes).run(uses):
        heard = any(use in {"both", "voice"} for use, _ in uses[path])
        looked = any(use in {"both", "picture"} for use, _ in uses[path])
        where = uses[path][0][1].media or "" if looked else uses[path][0][1].audio or ""
        for kind, level, what in seen:
            if (kind == "silent" and not heard) or (kind == "faceless" and not looked):
                continue
            found.append(Finding(kind, level, where, what))
        if key is not None:
            contents[path] = key
        done()
    found.extend(_duplicates(uses, contents))
    return found, contents


def _frames() -> int:
    return _FRAMES


def _uses(source: SampleSource) -> dict[str, list[tuple[str, Sample]]]:
    """Return absolute path -> its uses by samples."""
    uses: dict[str, list[tuple[str, Sample]]] = {}
    for sample in source.samples:
        picture = "picture" if sample.audio else "both"
        for use, path in ((picture, sample.media), ("voice", sample.audio)):
            if path:
                uses.setdefault(os.path.abspath(source.root / path), []).append((use, sample))
    return uses


def _duplicates(uses: Mapping[str, Sequence[tuple[str, Sample]]], contents: Mapping[str, str]) -> Iterator[Finding]:
    """Find files with the same content, and whether their answers contradict each other."""
    by_key: dict[str, list[str]] = {}
    for path, key in contents.items():
        by_key.setdefault(key, []).append(path)
    for paths in by_key.values():
        if len(paths) < 2:
            continue
        samples = [sample for path in paths for use, sample in uses[path] if use == "both"]
        labels: dict[tuple[str, str], set[str]] = {}
        for sample in samples:
            if isinstance(sample.labels, ClosedLabels):
                labels.setdefault((sample.corpus, sample.task), set()).add(sample.labels.label)
        contrary = sorted(next((found for found in labels.values() if len(found) > 1), ()))
        names = ", ".join(os.path.basename(path) for path in paths[:4])
        what = f"{len(paths)} files with the same content: {names}"
        level: Level = "error" if contrary else "warning"
        yield Finding("duplicate", level, names, what + (f"; labels {', '.join(contrary)}" if contrary else ""))


def check_face_vectors(source: SampleSource, done: Callable[[], None] = lambda: None) -> Iterator[Finding]:
    """Read every file of face vectors; which columns a model will take is not known here.

    Args:
        source: The samples.
        done: Called after each file.
    """
    widths: dict[str, int] = {}
    for path in dict.fromkeys(s.face_vectors for s in source.samples if s.face_vectors):
        file = source.root / path
        if not file.exists():
            yield Finding("missing", "error", path, "no such file")
        else:
            try:
                table = read_face_table(file)
            except (MediaError, OSError) as error:
                yield Finding("unreadable", "error", path, str(error).removeprefix(f"{file.name}: "))
            else:
                widths[path] = table.rows.shape[1]
                if not len(table.rows):
                    yield Finding("faceless", "warning", path, "no face was found in any of its rows")
        done()
    counts = Counter(widths.values()).most_common()
    for width, _ in counts[1:]:
        some = [path for path, found in widths.items() if found == width]
        what = (
            f"vectors of {width} numbers, of {counts[0][0]} in most files: a model reads one width ({len(some)} files)"
        )
        yield Finding("unreadable", "error", some[0], what)
