"""What the model's thread does with a batch: six answers, decisions, or text written for several clients in step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nanoemox.inference.batch import ClipBatch, Plan
from nanoemox.inference.decide import Decisions, decide_clips
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions
from nanoemox.inference.questions import Question
from nanoemox.types import Answer, Clip, NanoEmoXError, Reading


def each(run: Callable[[list[Any]], Sequence[Any]], items: Sequence[Any]) -> list[Any]:
    """Run items together, or one by one where one of them is bad, so that it does not take the others along."""
    try:
        return list(run(list(items)))
    except NanoEmoXError as error:
        if len(items) == 1:
            return [error]
    return [result for item in items for result in each(run, [item])]


@dataclass(frozen=True)
class AnswerWork:
    """Answer the same tasks about several clips."""

    engine: Engine = field(hash=False)
    tasks: tuple[str, ...]
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    options: AnswerOptions = field(default_factory=AnswerOptions)

    def run(self, items: Sequence[Clip]) -> list[Answer | NanoEmoXError]:
        """Return an answer for each clip."""

        def together(clips: list[Clip]) -> list[Answer]:
            return list(
                self.engine.answer_many(
                    clips,
                    self.tasks,
                    dict(self.labels) or None,
                    options=self.options,
                    batch_size=len(clips),
                )
            )

        return each(together, items)


@dataclass(frozen=True)
class DecideWork:
    """Answer free questions, each clip's own."""

    engine: Engine = field(hash=False)

    def run(self, items: Sequence[tuple[Clip, tuple[Question, ...]]]) -> list[Decisions | NanoEmoXError]:
        """Return the decisions about each clip."""
        engine = self.engine

        def together(pairs: list[tuple[Clip, tuple[Question, ...]]]) -> list[Decisions]:
            clips, questions = [clip for clip, _ in pairs], [asked for _, asked in pairs]
            return decide_clips(engine.model, engine.processor, clips, questions, engine.name)

        return each(together, items)


@dataclass(slots=True, eq=False)
class Draft:
    """One client's text while it is written.

    Attributes:
        clip: What it is about.
        stops: Strings that end it.
        tell: Called with each new piece; None where only the end matters.
        left: Set by the client's side when nobody reads any more.
    """

    clip: Clip
    stops: tuple[str, ...] = ()
    tell: Callable[[str], object] | None = None
    left: bool = False
    sent: int = 0

    def cut(self, text: str) -> tuple[str, bool]:
        """Return the text up to the first stop string, and whether there was one."""
        found = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        return (text[: min(found)], True) if found else (text, False)

    def show(self, text: str, *, ended: bool) -> bool:
        """Tell the client what is new and cannot change any more; return whether a stop string was met."""
        text, stopped = self.cut(text)
        held = 0 if ended or stopped else max((len(s) - 1 for s in self.stops), default=0)
        # Half a character decodes to a replacement mark until its other bytes are there.
        if self.tell is not None and (ended or stopped or not text.endswith("\N{REPLACEMENT CHARACTER}")):
            piece = text[self.sent : len(text) - held]
            if piece:
                self.sent += len(piece)
                self.tell(piece)
        return stopped


@dataclass(frozen=True, slots=True)
class Written:
    """A finished text.

    Attributes:
        text: What was written, up to a stop string.
        reason: ``stop``, or ``length`` where it was cut off.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written, terminator included.
        reading: A closed task's probabilities.
    """

    text: str
    reason: str
    prompt_tokens: int
    completion_tokens: int
    reading: Reading | None = None


@dataclass(frozen=True)
class WriteWork:
    """Write the answer to one task for several clients, all in step."""

    engine: Engine = field(hash=False)
    plan: Plan

    def run(self, items: Sequence[Draft]) -> list[Written | NanoEmoXError]:
        """Return what was written for each."""
        return each(self._together, items)

    def _together(self, drafts: list[Draft]) -> list[Written]:
        batch = ClipBatch(self.engine.model, self.engine.processor, [d.clip for d in drafts], self.plan)
        asked = len(self.engine.processor.question_ids(self.plan.asks[0]))
        prompts = [int(n) + asked for n in batch.prefix.lengths.tolist()]
        return self._closed(batch, drafts, prompts) if self.plan.closed else self._open(batch, drafts, prompts)

    def _closed(self, batch: ClipBatch, drafts: list[Draft], prompts: list[int]) -> list[Written]:
        out = []
        for draft, readings, prompt in zip(drafts, batch.closed(), prompts, strict=True):
            reading = readings[self.plan.asks[0].task]
            draft.show(reading.raw, ended=True)
            tokens = len(self.engine.processor.answer_ids(reading.raw))
            out.append(Written(draft.cut(reading.raw)[0], "stop", prompt, tokens, reading))
        return out

    def _open(self, batch: ClipBatch, drafts: list[Draft], prompts: list[int]) -> list[Written]:
        decoder = batch.decoder()
        # Ids that may yet turn out to be the start of the terminator are held back.
        held = len(self.engine.processor.terminator_ids) - 1
        closed = [False] * len(drafts)
        for _ in decoder:
            for i, draft in enumerate(drafts):
                if closed[i]:
                    continue
                ids, ended = decoder.answers[i], decoder.ended[i]
                if draft.left:
                    closed[i] = decoder.ended[i] = True
                elif draft.tell is not None or draft.stops:
                    stopped = draft.show(batch.text(ids if ended else ids[: len(ids) - held]), ended=ended)
                    closed[i] = decoder.ended[i] = ended or stopped
        out = []
        for i, draft in enumerate(drafts):
            whole = batch.text(decoder.answers[i])
            draft.show(whole, ended=True)
            text = draft.cut(whole)[0]
            reason = "stop" if decoder.ended[i] else "length"
            out.append(Written(text, reason, prompts[i], len(decoder.answers[i]) + decoder.ended[i]))
        return out
