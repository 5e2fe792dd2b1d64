"""Subtitles of a clip: SubRip and WebVTT text, also from a sidecar file."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nanoemox.types import MediaError

SIDECAR_SUFFIXES = (".srt", ".vtt")
"""Suffixes of subtitle files beside a clip."""

_MAX_BYTES = 4_000_000

_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_ARROW = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}")
_TAG = re.compile(r"<[^<>\n]{0,80}>|\{[^{}\n]{0,80}\}")


class Cue(NamedTuple):
    """Text displayed from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    text: str


def plain_text(text: str) -> str:
    r"""Remove tags (``<i>``, ``{\an8}``) and line breaks, and decode entities."""
    return " ".join(html.unescape(_TAG.sub("", text.replace("\\N", " ").replace("\\n", " "))).split())


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int((fraction or "0").ljust(3, "0")) / 1000


def parse_cues(text: str) -> tuple[Cue, ...]:
    """Parse SubRip or WebVTT text; whatever is not a timed cue (numbers, headers, notes, styles) is skipped."""
    cues: list[Cue] = []
    for block in re.split(r"\n[ \t]*\n", text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.split("\n")
        # Some files have no empty lines between cues.
        starts = [i for i, line in enumerate(lines) if _ARROW.match(line)]
        for i, start in enumerate(starts):
            stop = starts[i + 1] if i + 1 < len(starts) else len(lines)
            if stop < len(lines) and lines[stop - 1].strip().isdigit():
                stop -= 1  # the number of the next cue
            found = _ARROW.match(lines[start])
            words = plain_text(" ".join(lines[start + 1 : stop]))
            if found and words:
                times = found.groups()
                cues.append(Cue(_seconds(*times[:4]), _seconds(*times[4:]), words))
    return tuple(cues)


def words_between(cues: Iterable[Cue], start_s: float, end_s: float) -> str | None:
    """Join the text displayed between two times, repetitions once; None if there is none."""
    words: list[str] = []
    for cue in sorted(cues, key=lambda c: c.start_s):
        if cue.start_s < end_s and cue.end_s > start_s and cue.text not in words[-1:]:
            words.append(cue.text)
    return " ".join(words) or None


def read_sidecar(path: Path) -> tuple[Cue, ...] | None:
    """Read ``NAME.srt`` or ``NAME.vtt`` beside a clip; None if there is none.

    Raises:
        MediaError: The file is too large to be subtitles.
    """
    for suffix in SIDECAR_SUFFIXES:
        side = path.with_suffix(suffix)
        if side.is_file():
            size = side.stat().st_size
            if size > _MAX_BYTES:
                raise MediaError(f"{side.name}: {size} bytes, limit {_MAX_BYTES}: move it away or give subtitle=")
            return parse_cues(_decoded(side.read_bytes()))
    return None


def _decoded(data: bytes) -> str:
    """Decode UTF-16 with a mark, else UTF-8, else what Windows wrote for western languages."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
