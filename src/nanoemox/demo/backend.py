"""The functions behind the page, independent of its widgets."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions
from nanoemox.inference.questions import Decision, check_questions
from nanoemox.inference.timeline import no_answer
from nanoemox.media.windows import rolling_windows
from nanoemox.reporting.answer_page import ClipAnswers, render_card
from nanoemox.reporting.clip_view import view_clip
from nanoemox.serving.limits import Limits
from nanoemox.serving.local_files import read_file
from nanoemox.tasks import TASKS
from nanoemox.types import Answer, Clip, MediaError, NanoEmoXError, Think, Turn

MAX_WORDS: Final = 20_000
CLOSED: Final = tuple(key for key, task in TASKS.items() if task.closed)
REPLY: Final = next(key for key, task in TASKS.items() if task.form == "reply")
NO_CONSENT: Final = "Tick the box first: everybody who is seen or heard in the clip must have agreed."
_WINDOW_SHARE: Final = 2.0
"""Window length of the timeline as a multiple of the step."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The input fields of the page.

    Attributes:
        video: Path of the video or None.
        sound: Path of an audio recording or None; used if there is no video.
        words: What is said; if empty, the file's subtitle or a transcript is used.
        agreed: Whether the consent box is ticked.
    """

    video: str | None = None
    sound: str | None = None
    words: str = ""
    agreed: bool = False

    @property
    def file(self) -> Path | None:
        """The file to read: video, else audio."""
        name = self.video or self.sound
        return Path(name) if name else None


class DemoBackend:
    """The engine behind the page; one call at a time runs the model.

    Args:
        engine: The engine.
        limits: Limits of a clip.
    """

    def __init__(self, engine: Engine, limits: Limits | None = None) -> None:
        self.engine, self._limits = engine, limits or Limits()
        self._lock = threading.Lock()

    def card(self, inputs: Inputs) -> str:
        """Return the card with the answers to the six tasks and their evidence, as HTML.

        Raises:
            NanoEmoXError: There is no input or no consent, or the clip cannot be read.
        """
        clip = self._clip(inputs)
        with self._lock:
            answer = self.engine.answer(clip, options=AnswerOptions(explain=True))
        return render_card(ClipAnswers((answer,), view_clip(clip)))

    def timeline(self, inputs: Inputs, every_s: float) -> str:
        """Return the chart of probabilities along the clip, as HTML.

        Raises:
            NanoEmoXError: As in :meth:`card`, or there is no file.
        """
        clip = self._clip(inputs)
        if inputs.file is None:
            raise NanoEmoXError("text has no duration: record or choose a clip for the timeline")
        try:
            spans = rolling_windows(clip.duration_s, every_s, every_s * _WINDOW_SHARE)
        except ValueError as error:
            raise NanoEmoXError(str(error)) from error
        windows = tuple(self._window(inputs.file, clip.subtitle or "", span) for span in spans)
        return render_card(ClipAnswers(windows, view_clip(clip)))

    def _window(self, file: Path, words: str, span_s: tuple[float, float]) -> Answer:
        """Answer the closed tasks about a span of a file, which is decoded in a process of its own."""
        try:
            part = read_file(self.engine, file, words, limits=self._limits, span_s=span_s)
            with self._lock:
                answer = self.engine.answer(part, CLOSED)
        except MediaError as error:
            answer = no_answer(file, self.engine.name, error)
        return replace(answer, span_s=span_s)

    def decide(self, inputs: Inputs, questions: str) -> list[list[str]]:
        """Answer free questions, one per line; return rows of question, answer and probabilities.

        Raises:
            NanoEmoXError: As in :meth:`card`, or an invalid question.
        """
        asked = check_questions([line.strip() for line in questions.splitlines() if line.strip()])
        clip = self._clip(inputs)
        with self._lock:
            found = self.engine.decide(clip, asked)
        rows = []
        for a in found.answers:
            shares = ", ".join(f"{o.value} {p:.0%}" for o, p in zip(a.question.options, a.probabilities, strict=True))
            rows.append([a.question.instructions, _short(a), shares])
        return rows

    def reply(self, inputs: Inputs, message: str, history: list[Turn]) -> tuple[str, Think | None]:
        """Reply to a message, using face and voice of the clip if there is one; return the reply and its chain.

        Raises:
            NanoEmoXError: The message is empty, or as in :meth:`card`.
        """
        if not message.strip():
            raise NanoEmoXError("write something first")
        clip = self._clip(Inputs(inputs.video, inputs.sound, message, inputs.agreed), tuple(history))
        with self._lock:
            reading = self.engine.answer(clip, (REPLY,)).tasks[REPLY]
        return reading.reply or "(no reply)", reading.think

    def _clip(self, inputs: Inputs, history: tuple[Turn, ...] = ()) -> Clip:
        words = inputs.words.strip()
        if len(words) > MAX_WORDS:
            raise NanoEmoXError(f"{len(words)} characters of text, limit {MAX_WORDS}: shorten it")
        if inputs.file is None:
            if not words:
                raise NanoEmoXError("no input: record or choose a clip, or write what is said")
            return Clip("words", subtitle=words, history=history)
        if not inputs.agreed:
            raise NanoEmoXError(NO_CONSENT)
        return read_file(self.engine, inputs.file, words or None, history, self._limits)


def _short(answer: Decision) -> str:
    """Return the answer to a free question as one word or number."""
    if answer.question.form == "choice":
        return str(answer.choice)
    return f"{answer.probability:.0%}" if answer.question.form == "predicate" else f"{answer.score:.2f}"
