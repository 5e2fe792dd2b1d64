"""One batch of clips in the engine: encode, ask, parse the answers, report the evidence.

Letters: ``B`` clips of a batch, ``T`` frames, ``W`` speech windows, ``E`` experts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nanoemox.inference.calibrating import calibrate
from nanoemox.inference.decoding import Choice, Decoder, Prefix, prefill, score
from nanoemox.inference.options import AnswerOptions
from nanoemox.model.branches import BRANCHES, branch_of
from nanoemox.model.configuration import FUSED, FUSION, NanoEmoXConfig
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.tasks import TASKS, ClosedTask, format_label, get_task, parse
from nanoemox.types import Clip, Evidence, MediaError, Modality, NanoEmoXError, Reading

Labels = Sequence[str] | Mapping[str, Sequence[str]]
"""Candidates of the only closed task, or task -> candidates."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The questions about each clip, checked before any clip is read.

    Attributes:
        asks: One question per task, in the requested order.
        options: Answer options.
    """

    asks: tuple[Ask, ...]
    options: AnswerOptions

    @property
    def closed(self) -> list[Ask]:
        """Closed questions, whose candidates are scored."""
        return [a for a in self.asks if TASKS[a.task].closed]

    @property
    def open(self) -> list[Ask]:
        """Open questions, whose answers are generated."""
        return [a for a in self.asks if not TASKS[a.task].closed]


def make_plan(tasks: str | Sequence[str], labels: Labels | None = None, options: AnswerOptions | None = None) -> Plan:
    """Check tasks and labels.

    Raises:
        NanoEmoXError: Unknown task, or labels that are empty, duplicated, or belong to none of the closed tasks.
    """
    options = options or AnswerOptions()
    keys = (tasks,) if isinstance(tasks, str) else tuple(dict.fromkeys(tasks))
    if not keys:
        raise NanoEmoXError(f"no task is given: choose from {', '.join(TASKS)}")
    closed = [k for k in keys if get_task(k).closed]
    if labels is not None and not isinstance(labels, Mapping):
        if len(closed) != 1:
            raise NanoEmoXError(
                f"labels belong to one closed task, but there are {len(closed)} ({', '.join(closed) or 'none'}): "
                "choose one of msa, mer, mir; in Python, give task -> labels for several"
            )
        labels = {closed[0]: labels}
    given = {k: check_labels(v) for k, v in (labels or {}).items()}
    if unasked := sorted(set(given) - set(closed)):
        raise NanoEmoXError(f"labels for {', '.join(unasked)}: not among the closed tasks of this request")
    asks = tuple(Ask(k, labels=given.get(k) or TASKS[k].labels or None, think=options.think) for k in keys)
    return Plan(asks, options)


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the candidates; raise if there are none, or if two are the same answer."""
    if isinstance(labels, str):
        raise NanoEmoXError(f"labels={labels!r}: give a list of labels, not one string")
    answers = [format_label(label) for label in labels]
    if not answers or not all(answers):
        raise NanoEmoXError(f"labels={list(labels)}: give at least one label, and none that is empty")
    if twice := sorted({a for a in answers if answers.count(a) > 1}):
        raise NanoEmoXError(f"label(s) given twice: {', '.join(twice)}; case and spaces make no difference")
    return tuple(labels)


def used_modalities(clip: Clip, branches: Sequence[str]) -> tuple[Modality, ...]:
    """Return the modalities of a clip that a model with these active branches uses: branches in order, then text."""
    words = ("text",) if clip.subtitle or clip.history else ()
    return (*(b for b in BRANCHES if b in branches), *words)


def untrained_branches(config: NanoEmoXConfig) -> tuple[str, ...]:
    """Return the branches with untrained adapters; fusion is trained only if both of its branches are."""
    trained = set(config.trained_branches)
    if not set(FUSED) <= trained:
        trained.discard(FUSION)
    return tuple(b for b in config.branches if b not in trained)


class ClipBatch:
    """B clips whose prompts, up to the question, are in the language model's cache.

    Args:
        model: The model, in eval mode.
        processor: Its processor.
        clips: The clips.
        plan: The questions about each of them.

    Attributes:
        branches: Active branches of each clip.
        left_out: Branches of each clip that are not used because their adapters are untrained.
        encode_s: Time of encoding and prefill per clip, in seconds.

    Raises:
        MediaError: A clip holds nothing that the model can read.
    """

    def __init__(
        self,
        model: NanoEmoXForConditionalGeneration,
        processor: NanoEmoXProcessor,
        clips: Sequence[Clip],
        plan: Plan,
    ) -> None:
        begin = time.perf_counter()
        self.model, self.processor, self.clips, self.plan = model, processor, clips, plan
        off = untrained_branches(processor.config)
        media = [processor.media(clip) for clip in clips]
        offered = [processor.branches_of(m) for m in media]
        self.branches = [tuple(b for b in of if b not in off) for of in offered]
        self.left_out = [tuple(b for b in of if b in off) for of in offered]
        # Without the media of a branch its encoder never runs.
        media = [{k: v for k, v in m.items() if branch_of(k) not in off} for m in media]
        self._check_something_to_read()
        self.prefix = self._prefill(media)
        self.encode_s = (time.perf_counter() - begin) / len(clips)

    def _check_something_to_read(self) -> None:
        for clip, branches, left_out in zip(self.clips, self.branches, self.left_out, strict=True):
            if not used_modalities(clip, branches):
                if left_out:
                    raise MediaError(
                        f"{clip.name}: nothing to answer from; the adapters of {', '.join(left_out)} are untrained and "
                        "the clip has no words: give its subtitle, or train with nanoemox train"
                    )
                reads = ", ".join(b for b in (*self.processor.config.branches, "text") if b != FUSION)
                raise MediaError(f"{clip.name}: nothing to answer from; this model reads {reads}, the clip has none")

    def _check_room(self, longest: int) -> None:
        """Check that question and answer fit in the context after the longest prompt."""
        limit = int(self.model.config.text_config.max_position_embeddings)
        answer = self.plan.options.generation.max_new_tokens if self.plan.open else 0
        total = longest + max((len(self.processor.question_ids(a)) for a in self.plan.asks), default=0) + answer
        if total > limit:
            raise NanoEmoXError(
                f"prompt of {longest} tokens needs {total} with question and answer, the model takes {limit}: "
                "shorten subtitle or history, or lower max_new_tokens"
            )

    def _prefill(self, media: Sequence[Mapping[str, Tensor]]) -> Prefix:
        processor, device = self.processor, self.model.device
        prompts = [processor.prefix_ids(c, b) for c, b in zip(self.clips, self.branches, strict=True)]
        self._check_room(max(map(len, prompts)))
        padded = processor.pad(prompts, "right")
        keys = dict.fromkeys(k for m in media for k in m)
        stacked = {k: torch.stack([m[k] for m in media if k in m]).to(device) for k in keys}
        return prefill(self.model, padded["input_ids"].to(device), padded["attention_mask"].to(device), stacked)

    def closed(self) -> list[dict[str, Reading]]:
        """Score the candidates of all closed tasks in one pass: task -> reading, for each clip."""
        asks = self.plan.closed
        if not asks:
            return [{} for _ in self.clips]
        texts = [[format_label(label) for label in a.labels or ()] for a in asks]
        processor = self.processor
        choices = [
            Choice(processor.question_ids(a), [processor.answer_ids(processor.answer_text(a, t)) for t in candidates])
            for a, candidates in zip(asks, texts, strict=True)
        ]
        scores = [s.double() for s in score(self.model, self.prefix, choices)]
        corrections = [self.processor.calibration.tasks.get(a.task) for a in asks]
        calibrated = calibrate(self.model, self.processor, corrections, choices, scores, score)
        rows = [
            (a, t, s.softmax(dim=1).tolist(), c.softmax(dim=1).tolist() if c is not None else None)
            for a, t, s, c in zip(asks, texts, scores, calibrated, strict=True)
        ]
        return [
            {a.task: _closed_reading(a, t, raw[i], None if c is None else c[i]) for a, t, raw, c in rows}
            for i in range(len(self.clips))
        ]

    def open(self) -> list[dict[str, Reading]]:
        """Generate the open answers of all clips in one batch: task -> reading, for each clip.

        A small model sometimes never leaves its chain of thought. A reply that is lost so is asked for again, without
        the chain.
        """
        asks = self.plan.open
        if not asks:
            return [{} for _ in self.clips]
        readings = self._generate(self.decoder(), asks)
        for ask in asks:
            lost = [i for i, found in enumerate(readings) if ask.think and found[ask.task].reply == ""]
            if lost:
                plain = replace(ask, think=False)
                for i, found in zip(lost, self._generate(self._decoder([plain], lost), [plain]), strict=True):
                    readings[i] |= found
        return readings

    def _generate(self, decoder: Decoder, asks: Sequence[Ask]) -> list[dict[str, Reading]]:
        """Run a decoder of these questions to its end: task -> reading, for each of its clips."""
        raws = [self.text(ids) for ids in decoder.finish()]
        rows = [raws[i : i + len(asks)] for i in range(0, len(raws), len(asks))]
        return [{a.task: parse(a.task, raw) for a, raw in zip(asks, row, strict=True)} for row in rows]

    def decoder(self) -> Decoder:
        """Return the decoder of the open questions, not yet started."""
        return self._decoder(self.plan.open, range(len(self.clips)))

    def _decoder(self, asks: Sequence[Ask], clips: Sequence[int]) -> Decoder:
        questions = [self.processor.question_ids(a) for a in asks]
        prefix, options = self.prefix.rows(clips), self.plan.options.generation
        return Decoder(self.model, prefix, questions, self.processor.terminator_ids, options)

    def text(self, ids: Sequence[int]) -> str:
        """Decode ids, tags included."""
        return self.processor.tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    def gate(self, i: int) -> tuple[float, ...] | None:
        """Fusion weights of clip i, one per expert; None where nothing was fused."""
        return self._row(i, FUSION, self.prefix.seen.gate)

    def evidence(self, i: int) -> Evidence:
        """Return the adapters' attention with its times and boxes."""
        clip, config = self.clips[i], self.processor.config
        found: dict[str, Any] = {}
        for name, branch in BRANCHES.items():
            shares = self._row(i, name, (self.prefix.seen.attention or {}).get(name))
            found |= branch.evidence(clip, config, None if shares is None else np.array(shares, np.float32))
        return Evidence(**found)

    def _row(self, i: int, branch: str, values: Tensor | None) -> tuple[float, ...] | None:
        """Return clip i's row of float[N, n], which has rows only for the clips with the branch."""
        if values is None or branch not in self.branches[i]:
            return None
        row = sum(branch in b for b in self.branches[:i])
        return tuple(round(v, 6) for v in values[row].float().tolist())


def _closed_reading(
    ask: Ask, texts: Sequence[str], raw: Sequence[float], calibrated: Sequence[float] | None = None
) -> Reading:
    """Turn probabilities in the order of ``ask.labels`` into a reading."""
    labels = ask.labels or ()
    shares = raw if calibrated is None else calibrated
    best = int(np.argmax(shares))
    task = TASKS[ask.task]
    return Reading(
        ask.task,
        texts[best],
        label=labels[best],
        probabilities=dict(zip(labels, shares, strict=True)),
        valence=task.valence(dict(zip(texts, shares, strict=True))) if isinstance(task, ClosedTask) else None,
        uncalibrated=None if calibrated is None else dict(zip(labels, raw, strict=True)),
    )
