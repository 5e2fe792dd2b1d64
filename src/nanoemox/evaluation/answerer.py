"""Whoever answers a benchmark's questions, and the engine as one of them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from nanoemox.data.manifest import Sample
from nanoemox.engine import Engine
from nanoemox.evaluation.benchmarks import Benchmark
from nanoemox.processing import Ask
from nanoemox.tasks import TASKS
from nanoemox.types import Clip, NanoEmoXError


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back about one clip.

    Attributes:
        raw: The text that was written; None where the clip could not be answered.
        parsed: The task object of the command line's answer.
        prompt: SHA-256 of all words that were asked with; media are not among them.
        error: Why there is no answer.
        timing_s: Stage -> seconds.
    """

    raw: str | None = None
    parsed: Mapping[str, Any] | None = None
    prompt: str | None = None
    error: str | None = None
    timing_s: Mapping[str, float] = field(default_factory=dict)


class Answerer(Protocol):
    """Something that answers questions about clips."""

    @property
    def name(self) -> str:
        """What to call it in tables; a run is resumed only by the same."""

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        """Answer a batch, one reply a sample in order; a bad clip is a reply with its error, never an exception."""


class EngineAnswerer:
    """The engine, asked about clips under a data root.

    Args:
        engine: The engine.
        data_root: What media paths are relative to.
        name: What to call it; by default the engine's name.
        change: What to do to a sample before it is shown, such as taking its media away.
    """

    def __init__(
        self,
        engine: Engine,
        data_root: Path,
        name: str | None = None,
        change: Callable[[Sample], Sample] | None = None,
    ) -> None:
        self.engine, self.data_root, self.name, self.change = engine, data_root, name or engine.name, change

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        """Answer a batch with the clips run together."""
        shown = [s if self.change is None else self.change(s) for s in samples]
        replies: list[Reply | None] = [None] * len(samples)
        loaded: list[tuple[int, Clip, float]] = []
        for i, sample in enumerate(shown):
            begin = time.perf_counter()
            try:
                loaded.append((i, self._clip(sample), time.perf_counter() - begin))
            except NanoEmoXError as error:
                replies[i] = Reply(prompt=self._prompt(benchmark, sample), error=str(error))
        bad: dict[int, str] = {}
        task = benchmark.question
        answers = list(
            self.engine.answer_many(
                [clip for _, clip, _ in loaded],
                (task,),
                benchmark.labels if TASKS[task].closed else None,
                batch_size=max(1, len(loaded)),
                on_error=lambda position, error: bad.update({position: str(error)}),
            )
        )
        given = iter(answers)
        for position, (i, _, load_s) in enumerate(loaded):
            prompt = self._prompt(benchmark, shown[i])
            if position in bad:
                replies[i] = Reply(prompt=prompt, error=bad[position])
                continue
            answer = next(given)
            reading = answer.tasks[task]
            timing = dict(answer.timing_s) | {"load": round(load_s, 4)}
            timing["total"] = round(sum(v for k, v in timing.items() if k != "total"), 4)
            replies[i] = Reply(reading.raw, reading.to_dict(), prompt, timing_s=timing)
        return [reply for reply in replies if reply is not None]

    def _clip(self, sample: Sample) -> Clip:
        source = sample.media or sample.audio
        if source is None:
            return Clip(name=sample.id, subtitle=sample.subtitle, history=sample.turns)
        clip = self.engine.load(self.data_root / source, subtitle=sample.subtitle, history=sample.turns)
        if sample.media and sample.audio:
            voice = self.engine.load(self.data_root / sample.audio)
            clip = replace(clip, waveform=voice.waveform)
        return replace(clip, name=sample.id)

    def _prompt(self, benchmark: Benchmark, sample: Sample) -> str:
        ask = Ask(benchmark.question, labels=benchmark.labels or None)
        words = {
            "question": self.engine.processor.question_ids(ask),
            "subtitle": sample.subtitle,
            "history": [[turn.role, turn.text] for turn in sample.turns],
        }
        return hashlib.sha256(json.dumps(words, ensure_ascii=False).encode()).hexdigest()
