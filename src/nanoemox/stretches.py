"""Where a long clip is cut for a timeline, and which words belong to each stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nanoemox.subtitles import read_sidecar
from nanoemox.types import Clip, Heard, MediaError, NanoEmoXError, Word
from nanoemox.windows import Span, rolling_windows, utterances

Stretch = tuple[Span, str | None]
"""A part of a clip and its words; None leaves the words to the file."""


def heard_windows(clip: Clip, every_s: float, window_s: float) -> list[Stretch]:
    """Return rolling windows (seconds), each with its share of what was heard.

    Raises:
        NanoEmoXError: A hop or a window that cannot be.
    """
    try:
        spans = rolling_windows(clip.duration_s, every_s, window_s)
    except ValueError as error:
        raise NanoEmoXError(f"{clip.name}: {error}") from error
    if clip.heard is None:
        return [(span, None) for span in spans]
    return [(span, " ".join(w.text for w in _words_between(clip.heard.words, span))) for span in spans]


def spoken_stretches(clip: Clip, path: str | Path) -> list[Stretch]:
    """Return the cues of the file beside the clip, else what was heard, cut into utterances.

    Raises:
        MediaError: There is neither.
    """
    cues = read_sidecar(Path(path)) or ()
    if cues:
        end_s = clip.duration_s
        return [(Span(c.start_s, min(c.end_s, end_s)), c.text) for c in cues if c.start_s < min(c.end_s, end_s)]
    if clip.heard is None:
        raise MediaError(
            f"{clip.name}: no utterances to cut at: no .srt or .vtt lies beside it and no speech was heard; put one "
            "there, run nanoemox pull small so that speech is recognised, or use --every SECONDS"
        )
    return [*utterances(clip.heard.words, clip.duration_s)]


def _words_between(words: Sequence[Word], span: Span) -> tuple[Word, ...]:
    """Words whose middle lies in a stretch."""
    return tuple(w for w in words if span.start_s <= (w.start_s + w.end_s) / 2 < span.end_s)


def heard_between(clip: Clip, span: Span) -> Heard | None:
    """Return what was heard in a stretch of the clip, or None."""
    if clip.heard is None or not (words := _words_between(clip.heard.words, span)):
        return None
    return replace(clip.heard, text=" ".join(w.text for w in words), words=words)
