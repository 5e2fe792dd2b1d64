"""What the page asks the engine: no widget is known here, so that each part can be tested and used alone."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions
from nanoemox.inference.questions import Decision, check_questions
from nanoemox.inference.timeline import TimelineOptions
from nanoemox.reporting.answer_page import ClipAnswers, render_card
from nanoemox.reporting.clip_view import view_clip
from nanoemox.serving.limits import Limits
from nanoemox.serving.local_files import read_file
from nanoemox.tasks import TASKS
from nanoemox.types import Clip, NanoEmoXError, Think, Turn

MAX_WORDS: Final = 20_000
CLOSED: Final = tuple(key for key, task in TASKS.items() if task.closed)
REPLY: Final = next(key for key, task in TASKS.items() if task.form == "reply")
NO_CONSENT: Final = "Tick the box first: everybody who is seen or heard in the clip must have agreed."
_WINDOW_SHARE: Final = 2.0
"""A window of the timeline is so many times as long as the step."""


@dataclass(frozen=True, slots=True)
class Given:
    """What somebody put on the page.

    Attributes:
        video: File of the video or None.
        sound: File of a recording or None; read where there is no video.
        words: What is said; empty for what is found or heard.
        agreed: Whether the box about consent is ticked.
    """

    video: str | None = None
    sound: str | None = None
    words: str = ""
    agreed: bool = False

    @property
    def file(self) -> Path | None:
        """The file that is read."""
        name = self.video or self.sound
        return Path(name) if name else None


class Asking:
    """The engine behind the page; one thing at a time runs through the model.

    Args:
        engine: What answers.
        limits: Bounds of a clip.
    """

    def __init__(self, engine: Engine, limits: Limits | None = None) -> None:
        self.engine, self._limits = engine, limits or Limits()
        self._one = threading.Lock()

    def card(self, given: Given) -> str:
        """Return the card of the six answers with what was looked at, as HTML.

        Raises:
            NanoEmoXError: Nothing is given, nobody agreed, or the clip cannot be read.
        """
        clip = self._clip(given)
        with self._one:
            answer = self.engine.answer(clip, options=AnswerOptions(explain=True))
        return render_card(ClipAnswers((answer,), view_clip(clip)))

    def timeline(self, given: Given, every_s: float) -> str:
        """Return lines of probabilities along the clip, as HTML.

        Raises:
            NanoEmoXError: As in :meth:`card`, or there is no clip to go along.
        """
        clip = self._clip(given)
        if given.file is None:
            raise NanoEmoXError("words alone have no length: record or choose a clip for the timeline")
        with self._one:
            options = TimelineOptions(every_s, every_s * _WINDOW_SHARE, tasks=CLOSED, subtitle=clip.subtitle or "")
            windows = tuple(self.engine.timeline(given.file, options))
        return render_card(ClipAnswers(windows, view_clip(clip)))

    def decide(self, given: Given, questions: str) -> list[list[str]]:
        """Answer free questions, one a line; return rows of question, answer and probabilities.

        Raises:
            NanoEmoXError: As in :meth:`card`, or a question that cannot be asked.
        """
        asked = check_questions([line.strip() for line in questions.splitlines() if line.strip()])
        clip = self._clip(given)
        with self._one:
            found = self.engine.decide(clip, asked)
        rows = []
        for a in found.answers:
            shares = ", ".join(f"{o.value} {p:.0%}" for o, p in zip(a.question.options, a.probabilities, strict=True))
            rows.append([a.question.instructions, _short(a), shares])
        return rows

    def reply(self, given: Given, message: str, history: list[Turn]) -> tuple[str, Think | None]:
        """Reply to a message, with the face and voice of the clip where one is given; and how it came to it.

        Raises:
            NanoEmoXError: The message is empty, or as in :meth:`card`.
        """
        if not message.strip():
            raise NanoEmoXError("write something first")
        clip = self._clip(Given(given.video, given.sound, message, given.agreed), tuple(history))
        with self._one:
            reading = self.engine.answer(clip, (REPLY,)).tasks[REPLY]
        return reading.reply or "(no reply)", reading.think

    def _clip(self, given: Given, history: tuple[Turn, ...] = ()) -> Clip:
        words = given.words.strip()
        if len(words) > MAX_WORDS:
            raise NanoEmoXError(f"{len(words)} characters of words, limit {MAX_WORDS}: shorten them")
        if given.file is None:
            if not words:
                raise NanoEmoXError("nothing to read: record or choose a clip, or write the words")
            return Clip("words", subtitle=words, history=history)
        if not given.agreed:
            raise NanoEmoXError(NO_CONSENT)
        return read_file(self.engine, given.file, words or None, history, self._limits)


def _short(answer: Decision) -> str:
    """Return the answer to a free question in a word or number."""
    if answer.question.form == "choice":
        return str(answer.choice)
    return f"{answer.probability:.0%}" if answer.question.form == "predicate" else f"{answer.score:.2f}"
