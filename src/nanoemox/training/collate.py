"""From positions of a mixture to batches.

Everything random about a sample (what is withheld, the order of candidates, the wording of the question) is a
function of seed and position, so batches do not depend on the process that makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from nanoemox.data.features.cache import FeatureCache
from nanoemox.data.manifest import ClosedLabels, ReplyLabels, Sample, target_text
from nanoemox.data.mixture import BalancedMixture, Mixture, seeded
from nanoemox.model.branches import branch_of
from nanoemox.model.configuration import IGNORE_INDEX
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.tasks.templates import Templates
from nanoemox.training.phases import Phase
from nanoemox.types import Clip

IDS = "sample_ids"
"""Key of a batch that names its samples; the model never sees it."""
_FIRST_WORDING = 0.5
"""Share of questions in the wording of inference; the rest are paraphrases."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sample, ready for the processor."""

    id: str
    clip: Clip
    ask: Ask
    media: dict[str, Tensor]


class Draws(Dataset[Example]):
    """The first ``length`` positions of a phase's mixture as examples, with the wordings of ``templates``."""

    def __init__(
        self, mixture: Mixture | BalancedMixture, phase: Phase, cache: FeatureCache, length: int, templates: Templates
    ) -> None:
        self.mixture, self.phase, self.cache, self.length = mixture, phase, cache, length
        self.templates = templates

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> Example:
        """Return the example at a position."""
        _, sample = self.mixture[position]
        rng = seeded(self.mixture.seed, "draw", position)
        media = withhold(self.cache.media(sample), self.phase, rng)
        hides_text = "text" not in self.phase.modalities or rng.random() < self.phase.modality_dropout.get("text", 0.0)
        shows_text = not (media and hides_text)
        return example(sample, media, shows_text, self._ask(sample, media, shows_text, rng))

    def size(self, position: int) -> int:
        """Guess the length of the example at a position, in characters, without making it."""
        _, sample = self.mixture[position]
        shown = len(sample.subtitle or "") + sum(len(turn.text) for turn in sample.history)
        return shown + len(target_text(sample))

    def _ask(self, sample: Sample, media: Mapping[str, Tensor], shows_text: bool, rng: np.random.Generator) -> Ask:
        labels: tuple[str, ...] | None = None
        think = True
        if isinstance(sample.labels, ReplyLabels):
            think = sample.labels.think is not None and bool(rng.random() < self.phase.think_share)
        wordings = len(self.templates.questions_of(sample.task, think=think))
        first = rng.random() < _FIRST_WORDING or wordings == 1
        paraphrase = 0 if first else int(rng.integers(1, wordings))
        if isinstance(sample.labels, ClosedLabels):
            labels = tuple(rng.permutation(np.array(sample.labels.candidates, dtype=object)))
        answer = target_text(sample, cited(media, shows_text), think=think)
        return Ask(sample.task, labels, think, paraphrase, answer)


def cited(media: Mapping[str, Tensor], shows_text: bool) -> frozenset[str]:
    """Name the modalities that an answer may cite."""
    shown = {branch_of(key) for key in media}
    return frozenset(shown | ({"text"} if shows_text else set()))


def withhold(media: dict[str, Tensor], phase: Phase, rng: np.random.Generator) -> dict[str, Tensor]:
    """Take out what the phase does not show and what its dropout hits; of several media at least one stays."""
    branches = sorted({branch_of(key) for key in media} & set(phase.modalities))
    chance = {b: phase.modality_dropout.get(b, 0.0) for b in branches}
    kept = [b for b in branches if rng.random() >= chance[b]]
    if branches and not kept:
        kept = [branches[int(rng.integers(len(branches)))]]
    return {key: tensor for key, tensor in media.items() if branch_of(key) in kept}


def example(sample: Sample, media: dict[str, Tensor], shows_text: bool, ask: Ask) -> Example:
    """Join media, words and question."""
    clip = Clip(
        name=sample.id,
        subtitle=sample.subtitle if shows_text else None,
        history=sample.history if shows_text else (),
    )
    return Example(f"{sample.corpus}/{sample.id}/{sample.task}", clip, ask, media)


class SortedWindows(Sampler[int]):
    """Positions in order, those of one optimiser step sorted by length.

    The loss counts the answer tokens of the whole step, so which micro-batch a sample falls into changes nothing but
    the padding; sorted, a step of mixed tasks takes about half the time. Processes take micro-batches in turn; every
    second turn is reversed, so that none of them gets the longer ones each time and the others wait for it.

    Args:
        data: The samples.
        batch: Samples of a micro-batch.
        processes: Processes that take one micro-batch each in a turn.
        accumulation: Turns of an optimiser step.
    """

    def __init__(self, data: Draws, batch: int, processes: int = 1, accumulation: int = 1) -> None:
        self.data, self.batch = data, batch
        self.turn, self.window = batch * processes, batch * processes * accumulation

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[int]:
        for start in range(0, len(self.data), self.window):
            order = sorted(range(start, min(start + self.window, len(self.data))), key=self.data.size)
            turns = [order[i : i + self.turn] for i in range(0, len(order), self.turn)]
            for number, turn in enumerate(turns):
                batches = [turn[i : i + self.batch] for i in range(0, len(turn), self.batch)]
                yield from chain.from_iterable(reversed(batches) if number % 2 else batches)


@dataclass(frozen=True, slots=True)
class Collator:
    """Examples -> batch of tensors, padded right."""

    processor: NanoEmoXProcessor

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Return the model's inputs, ``logits_to_keep`` bool[B, L] at positions before an answer token, and ids."""
        batch = dict(
            self.processor(
                [e.clip for e in examples],
                [e.ask for e in examples],
                media=[{k: v.float() for k, v in e.media.items()} for e in examples],
                padding_side="right",
            )
        )
        answers = batch["labels"] != IGNORE_INDEX
        batch["logits_to_keep"] = torch.cat([answers[:, 1:], torch.zeros_like(answers[:, :1])], 1)
        batch[IDS] = [e.id for e in examples]
        return batch
