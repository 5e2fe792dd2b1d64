"""Work of the model thread on a batch: task answers, decisions, or text generated for several clients in step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nanoemox.inference.answers import run_each
from nanoemox.inference.batch import ClipBatch, Plan
from nanoemox.inference.decide import Decisions, decide_clips
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions
from nanoemox.inference.questions import Question
from nanoemox.types import Answer, Clip, NanoEmoXError, Reading


@dataclass(frozen=True)
class AnswerWork:
    """Answers to the same tasks about several clips."""

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

        return run_each(together, items)


@dataclass(frozen=True)
class DecideWork:
    """Answers to free questions, different ones for each clip."""

    engine: Engine = field(hash=False)

    def run(self, items: Sequence[tuple[Clip, tuple[Question, ...]]]) -> list[Decisions | NanoEmoXError]:
        """Return the decisions for each clip."""
        engine = self.engine

        def together(pairs: list[tuple[Clip, tuple[Question, ...]]]) -> list[Decisions]:
            clips, questions = [clip for clip, _ in pairs], [questions for _, questions in pairs]
            return decide_clips(engine.model, engine.processor, clips, questions, engine.name)

        return run_each(together, items)


@dataclass(slots=True, eq=False)
class Draft:
    """The text of one client during generation.

    Attributes:
        clip: The clip.
        stops: Stop strings.
        on_text: Called with each new piece; None without streaming.
        cancelled: Set when the client has disconnected.
        sent: Characters passed to ``on_text``.
    """

    clip: Clip
    stops: tuple[str, ...] = ()
    on_text: Callable[[str], object] | None = None
    cancelled: bool = False
    sent: int = 0

    def up_to_stop(self, text: str) -> tuple[str, bool]:
        """Return the text up to the first stop string, and whether there is one."""
        found = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        return (text[: min(found)], True) if found else (text, False)

    def update(self, text: str, *, ended: bool) -> bool:
        """Stream the new characters that can no longer change; return whether there is a stop string."""
        text, stopped = self.up_to_stop(text)
        held = 0 if ended or stopped else max((len(s) - 1 for s in self.stops), default=0)
        # An incomplete character decodes to U+FFFD until its other bytes follow.
        if self.on_text is not None and (ended or stopped or not text.endswith("\N{REPLACEMENT CHARACTER}")):
            piece = text[self.sent : len(text) - held]
            if piece:
                self.sent += len(piece)
                self.on_text(piece)
        return stopped


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished text.

    Attributes:
        text: The text up to a stop string.
        reason: ``stop``, or ``length`` at the token limit.
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Generated tokens, terminator included.
        reading: Label and probabilities of a closed task.
    """

    text: str
    reason: str
    prompt_tokens: int
    completion_tokens: int
    reading: Reading | None = None


@dataclass(frozen=True)
class CompletionWork:
    """Text answers to one task for several clients, generated in step."""

    engine: Engine = field(hash=False)
    plan: Plan

    def run(self, items: Sequence[Draft]) -> list[Completion | NanoEmoXError]:
        """Return the completion of each."""
        return run_each(self._together, items)

    def _together(self, drafts: list[Draft]) -> list[Completion]:
        batch = ClipBatch(self.engine.model, self.engine.processor, [d.clip for d in drafts], self.plan)
        asked = len(self.engine.processor.question_ids(self.plan.asks[0]))
        prompts = [int(n) + asked for n in batch.prefix.lengths.tolist()]
        return self._closed(batch, drafts, prompts) if self.plan.closed else self._open(batch, drafts, prompts)

    def _closed(self, batch: ClipBatch, drafts: list[Draft], prompts: list[int]) -> list[Completion]:
        out = []
        for draft, readings, prompt in zip(drafts, batch.closed(), prompts, strict=True):
            reading = readings[self.plan.asks[0].task]
            draft.update(reading.raw, ended=True)
            tokens = len(self.engine.processor.answer_ids(reading.raw))
            out.append(Completion(draft.up_to_stop(reading.raw)[0], "stop", prompt, tokens, reading))
        return out

    def _open(self, batch: ClipBatch, drafts: list[Draft], prompts: list[int]) -> list[Completion]:
        decoder = batch.decoder()
        # Ids that may be the start of the terminator are held back.
        held = len(self.engine.processor.terminator_ids) - 1
        closed, cut = [False] * len(drafts), [False] * len(drafts)
        for _ in decoder:
            for i, draft in enumerate(drafts):
                if closed[i]:
                    continue
                ids, ended = decoder.answers[i], decoder.ended[i]
                if draft.cancelled:
                    closed[i] = decoder.ended[i] = True
                elif draft.on_text is not None or draft.stops:
                    stopped = draft.update(batch.text(ids if ended else ids[: len(ids) - held]), ended=ended)
                    closed[i] = decoder.ended[i] = ended or stopped
                    cut[i] = stopped and not ended
        out = []
        for i, draft in enumerate(drafts):
            whole = batch.text(decoder.answers[i])
            draft.update(whole, ended=True)
            text = draft.up_to_stop(whole)[0]
            reason = "stop" if decoder.ended[i] else "length"
            ended = decoder.ended[i] and not cut[i]
            out.append(Completion(text, reason, prompts[i], len(decoder.answers[i]) + ended))
        return out
