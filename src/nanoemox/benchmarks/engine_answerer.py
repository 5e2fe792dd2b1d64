"""The engine as an answerer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from nanoemox import __version__
from nanoemox.benchmarks.answerer import Reply, clip_of
from nanoemox.benchmarks.predict import ProcessRank
from nanoemox.benchmarks.records import Benchmark
from nanoemox.data.manifest import Sample
from nanoemox.data.ranks import processes
from nanoemox.inference.engine import Engine
from nanoemox.model.processing import Ask
from nanoemox.tasks import TASKS
from nanoemox.types import Clip
from nanoemox.weights.digests import component_digests, weights_digest


class EngineAnswerer:
    """The engine as an answerer about clips under a data root.

    Args:
        engine: The engine.
        data_root: Folder that media paths are relative to.
    """

    def __init__(self, engine: Engine, data_root: Path) -> None:
        self.engine, self.data_root, self.name = engine, data_root, engine.name
        self.settings: Mapping[str, str] = {
            "model": engine.name,
            "weights": weights_digest(engine.model),
            **component_digests(engine.model, engine.processor),
            "nanoemox": __version__,
        }

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        """Answer a batch of clips together."""
        task, bad = benchmark.question, dict[int, str]()
        answers = self.engine.answer_many(
            [partial(self._clip, sample) for sample in samples],
            (task,),
            benchmark.labels if TASKS[task].closed else None,
            batch_size=max(1, len(samples)),
            on_error=lambda i, error: bad.update({i: str(error)}),
        )
        given, replies = iter(list(answers)), []
        for i, sample in enumerate(samples):
            prompt = self._prompt(benchmark, sample)
            if i in bad:
                replies.append(Reply(prompt=prompt, error=bad[i]))
                continue
            answer = next(given)
            reading = answer.tasks[task]
            replies.append(Reply(reading.raw, reading.to_dict(), prompt, timing_s=dict(answer.timing_s)))
        return replies

    def _clip(self, sample: Sample) -> Clip:
        clip = clip_of(sample, self.data_root, self.engine.load)
        if sample.face_vectors is None or not self.engine.processor.config.reads_face_vectors:
            return clip
        return self.engine.with_face_vectors(clip, self.data_root / sample.face_vectors)

    def _prompt(self, benchmark: Benchmark, sample: Sample) -> str:
        ask = Ask(benchmark.question, labels=benchmark.labels or None)
        words = {
            "question": self.engine.processor.question_ids(ask),
            "subtitle": sample.subtitle,
            "history": [[turn.role, turn.text] for turn in sample.history],
        }
        return hashlib.sha256(json.dumps(words, ensure_ascii=False).encode()).hexdigest()


def load_local(
    path: str | None, data_root: Path, device: str = "auto"
) -> tuple[EngineAnswerer, ProcessRank, Callable[[], None]]:
    """Load a model directory, a hub id or (None) the model in the package.

    Returns:
        The answerer, the rank of this process, and a barrier.

    Raises:
        CheckpointError: There is no usable model.
    """
    state = processes()
    device = str(state.device) if device == "auto" and state.num_processes > 1 else device
    answerer = EngineAnswerer(Engine.from_pretrained(path, device=device), data_root)
    return answerer, ProcessRank(state.process_index, state.num_processes), state.wait_for_everyone
