"""Segmentation of a long clip for a timeline, with the words of each segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy.typing as npt

from nanoemox.faces.vectors import FaceTable
from nanoemox.inference.batch import Labels
from nanoemox.inference.options import AnswerOptions, LoadOptions
from nanoemox.media.load import load_clip, media_duration_s, timed_subtitles
from nanoemox.media.windows import Span, check_windows, rolling_windows, utterances
from nanoemox.tasks import ALL_TASKS
from nanoemox.types import Answer, Clip, MediaError, NanoEmoXError, Transcript, Turn

NO_ANSWER: Final = "no answer for this window"
"""Start of the warning of a window that could not be answered."""
Transcribe = Callable[[Clip], Clip]
"""Adds a transcript to a clip without one."""


@dataclass(frozen=True, slots=True)
class TimelineOptions:
    """How a clip is segmented and read, and which tasks are answered.

    Attributes:
        every_s: Hop between windows in seconds.
        window_s: Length of a window in seconds, at least the hop.
        by: ``window``, or ``utterance``: cut where an utterance ends (timed subtitles of the clip, else the
            transcript) and give each segment its own words; ``every_s`` and ``window_s`` are not used then.
        tasks: Task keys, in the requested order.
        labels: Candidates, as in :meth:`Engine.answer`.
        answer: Answer options.
        subtitle: The transcript; None reads subtitles of the file; empty for none.
        history: Earlier turns of the dialogue, oldest first.
        face_vectors: Face vectors of the whole recording, as in :meth:`Engine.load`.
        load: How each segment is read.
    """

    every_s: float = 3.0
    window_s: float = 10.0
    by: Literal["window", "utterance"] = "window"
    tasks: Sequence[str] = ALL_TASKS
    labels: Labels | None = None
    answer: AnswerOptions = field(default_factory=AnswerOptions)
    subtitle: str | None = None
    history: Sequence[Turn] = ()
    face_vectors: str | Path | FaceTable | npt.NDArray[Any] | None = None
    load: LoadOptions = field(default_factory=LoadOptions)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a clip.

    Attributes:
        span: Start and end in seconds; None for a still picture.
        subtitle: Its transcript; None reads it from the file.
        hear: Whether to transcribe this segment by itself.
        heard: Its part of the transcript of the whole clip, if there is one.
    """

    span: Span | None
    subtitle: str | None = None
    hear: bool = False
    heard: Transcript | None = None

    def place(self, answer: Answer) -> Answer:
        """Return the answer with the time and transcript of this segment."""
        span_s = (0.0, 0.0) if self.span is None else (self.span.start_s, self.span.end_s)
        return replace(answer, span_s=span_s, heard=self.heard or answer.heard)


def cut(path: str | Path, options: TimelineOptions, transcribe: Transcribe) -> list[Segment]:
    """Cut a file of any length.

    Raises:
        MediaError: The file cannot be read; by utterance, nothing timed is written or heard.
        NanoEmoXError: A hop, a window length or ``by`` that is not allowed.
    """
    if options.by not in _CUTS:
        raise NanoEmoXError(f"by={options.by!r} is unknown: choose {' or '.join(_CUTS)}")
    return _CUTS[options.by](Path(path), options, transcribe)


def no_answer(path: str | Path, model: str, error: MediaError) -> Answer:
    """Return an answer without tasks for a segment that could not be read."""
    name = Path(path).name
    return Answer(name, model, {}, warnings=(f"{NO_ANSWER}: {str(error).removeprefix(f'{name}: ')}",))


def _windows(path: Path, options: TimelineOptions, _: Transcribe) -> list[Segment]:
    """Cut into rolling windows; a still picture is one segment without a span."""
    try:
        check_windows(options.every_s, options.window_s)
        seconds = media_duration_s(path)
        spans = rolling_windows(seconds, options.every_s, options.window_s) if seconds else (None,)
    except ValueError as error:
        raise error if isinstance(error, NanoEmoXError) else NanoEmoXError(f"{path.name}: {error}") from error
    return [Segment(span, options.subtitle, options.load.hear) for span in spans]


def _utterances(path: Path, options: TimelineOptions, transcribe: Transcribe) -> list[Segment]:
    """Cut at the cues of the subtitles, beside the file or in it, else at the ends of transcribed utterances."""
    whole = load_clip(path, num_frames=1, subtitle=options.subtitle)
    cues = timed_subtitles(path)
    if not cues:
        whole = replace(whole, subtitle=None)  # words without times do not say where to cut
    whole = transcribe(whole)
    end_s = whole.duration_s
    if cues:
        shown = [(Span(max(0.0, c.start_s), min(c.end_s, end_s)), c.text) for c in cues]
        timed = [(span, words) for span, words in shown if span.start_s < span.end_s]
    elif whole.heard is not None:
        timed = [*utterances(whole.heard.words, end_s)]
    else:
        raise MediaError(
            f"{whole.name}: no utterances to cut at: no subtitles lie beside it or in it and no speech was heard; put "
            ".srt or .vtt there, run nanoemox pull small so that speech is recognised, or use --every SECONDS"
        )
    if not timed:
        raise MediaError(
            f"{whole.name}: none of its {len(cues)} subtitle cues lies within its {end_s:.1f} s: shift or remove the "
            "subtitles, or use --every SECONDS"
        )
    fixed = options.subtitle
    return [
        Segment(s, words if fixed is None else fixed, heard=_transcript_between(whole.heard, s)) for s, words in timed
    ]


_CUTS: Final = {"window": _windows, "utterance": _utterances}


def _transcript_between(heard: Transcript | None, span: Span) -> Transcript | None:
    """Return the words with their middle in a span of the clip, or None."""
    if heard is None:
        return None
    words = tuple(w for w in heard.words if span.start_s <= (w.start_s + w.end_s) / 2 < span.end_s)
    return replace(heard, text=" ".join(w.text for w in words), words=words) if words else None
