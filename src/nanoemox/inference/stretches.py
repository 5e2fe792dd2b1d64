"""Where a long clip is cut for a timeline, and which words belong to each stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nanoemox.media.load import media_duration_s
from nanoemox.media.subtitles import read_sidecar
from nanoemox.media.windows import Span, check_windows, rolling_windows, utterances
from nanoemox.types import Clip, Heard, MediaError, NanoEmoXError, Word

Stretch = tuple[Span | None, str | None]
"""A part of a clip and its words; None leaves the words to the file."""


def rolling_stretches(path: str | Path, every_s: float, window_s: float) -> list[Stretch]:
    """Return rolling windows (seconds) over a file of any length; a still picture is one stretch without a span.

    Raises:
        MediaError: The file cannot be read.
        NanoEmoXError: A hop or a window that cannot be meant.
    """
    try:
        check_windows(every_s, window_s)
        seconds = media_duration_s(path)
        return [(span, None) for span in (rolling_windows(seconds, every_s, window_s) if seconds else (None,))]
    except ValueError as error:
        raise error if isinstance(error, NanoEmoXError) else NanoEmoXError(f"{Path(path).name}: {error}") from error


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
