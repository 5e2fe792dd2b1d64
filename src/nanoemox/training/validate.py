"""Validation on held-out samples: loss per answer token, and accuracy on closed tasks.

Candidates are scored by brute force, each as a separate answer with its terminator: slow but simple, and the
reference for the engine's faster method. Letters: ``B`` batch, ``L`` tokens, ``K`` candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nanoemox.data.features.cache import FeatureCache
from nanoemox.data.manifest import ClosedLabels, ReplyLabels, Sample, target_text
from nanoemox.data.mixture import seeded
from nanoemox.model.configuration import IGNORE_INDEX
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.scoring import accuracy, confusion_matrix, unweighted_average_recall
from nanoemox.tasks import format_label
from nanoemox.training.collate import IDS, Collator, Example, cited, example, withhold
from nanoemox.training.phases import Phase

BATCH = 64


class Validator:
    """Measures samples with all modalities of the phase, without modality dropout.

    Args:
        model: The model.
        processor: Its processor.
        cache: Features of the samples.
        phase: The phase, which gives the modalities.
        half: Type of autocast, or None.
    """

    def __init__(
        self,
        model: NanoEmoXForConditionalGeneration,
        processor: NanoEmoXProcessor,
        cache: FeatureCache,
        phase: Phase,
        half: torch.dtype | None = None,
    ) -> None:
        self.half = half
        self.model, self.collator, self.cache = model, Collator(processor), cache
        self.phase = phase.model_copy(update={"modality_dropout": {}})

    def measure(self, sources: Mapping[str, Sequence[Sample]], limit: int, seed: int) -> dict[str, float]:
        """Return ``selector/loss``, ``selector/accuracy``, ``selector/uar`` and ``selector/n`` of every source."""
        self.model.eval()
        out: dict[str, float] = {}
        for selector, chosen in _drawn(sources, limit, seed).items():
            summed, counted = self.answers([self._example(s, None) for s in chosen])
            out[f"{selector}/n"] = len(chosen)
            out[f"{selector}/loss"] = float(-summed.sum() / counted.sum())
            if isinstance(chosen[0].labels, ClosedLabels):
                out |= {f"{selector}/{k}": v for k, v in self._closed(chosen).items()}
        return out

    def losses(self, sources: Mapping[str, Sequence[Sample]], limit: int, seed: int) -> dict[str, float]:
        """Return the loss per answer token of every source that has held-out samples."""
        self.model.eval()
        out = {}
        for selector, chosen in _drawn(sources, limit, seed).items():
            summed, counted = self.answers([self._example(s, None) for s in chosen])
            out[selector] = float(-summed.sum() / counted.sum())
        return out

    def _closed(self, samples: Sequence[Sample]) -> dict[str, float]:
        closed = [(s, s.labels) for s in samples if isinstance(s.labels, ClosedLabels)]
        scores = self.answers([self._example(s, format_label(c)) for s, labels in closed for c in labels.candidates])[0]
        ends = np.cumsum([len(labels.candidates) for _, labels in closed])
        parts = zip(np.split(scores, ends[:-1]), closed, strict=True)
        guess = [labels.candidates[int(part.argmax())] for part, (_, labels) in parts]
        confusion = confusion_matrix([labels.label for _, labels in closed], guess)
        return {"accuracy": float(accuracy(confusion)), "uar": float(unweighted_average_recall(confusion))}

    def _example(self, sample: Sample, answer: str | None) -> Example:
        media = withhold(self.cache.media(sample), self.phase, seeded("nothing is drawn"))
        shows_text = "text" in self.phase.modalities or not media
        labels = sample.labels.candidates if isinstance(sample.labels, ClosedLabels) else None
        think = _requests_chain(sample, self.phase)
        text = target_text(sample, cited(media, shows_text), think=think) if answer is None else answer
        return example(sample, media, shows_text, Ask(sample.task, labels, think, answer=text))

    @torch.no_grad()  # not inference mode: what a split model gathers here is trained on later
    def answers(self, examples: Sequence[Example]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return the log probability float64[N] and the number of tokens int64[N] of each example's answer."""
        order = sorted(range(len(examples)), key=lambda i: _length(examples[i]))
        summed, counted = np.zeros(len(examples)), np.zeros(len(examples), np.int64)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            summed[rows], counted[rows] = self._batch([examples[i] for i in rows])
        return summed, counted

    def _batch(self, examples: Sequence[Example]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        batch = self.collator(examples)
        labels, keep = batch.pop("labels"), batch.pop("logits_to_keep")
        batch.pop(IDS)
        tensors = {k: v.to(self.model.device) for k, v in batch.items()}
        with torch.autocast(self.model.device.type, self.half, enabled=self.half is not None):
            logits: Tensor = self.model(**tensors, logits_to_keep=keep.to(self.model.device), use_cache=False).logits
        targets = labels[:, 1:][labels[:, 1:] != IGNORE_INDEX].to(logits.device)
        picked = logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0].cpu().double().numpy()
        row = keep.nonzero()[:, 0].numpy()
        return np.bincount(row, picked, len(examples)), np.bincount(row, minlength=len(examples))


def _requests_chain(sample: Sample, phase: Phase) -> bool:
    """Whether the question requests the chain: if the sample has one, in the share of the phase."""
    if not isinstance(sample.labels, ReplyLabels):
        return True
    return sample.labels.think is not None and seeded("think", sample.id).random() < phase.think_share


def _drawn(sources: Mapping[str, Sequence[Sample]], limit: int, seed: int) -> dict[str, list[Sample]]:
    """Select at most ``limit`` samples of each source, always the same ones; empty selections are left out."""
    orders = {k: seeded(seed, "validation", k).permutation(len(of))[:limit] for k, of in sources.items() if of[:limit]}
    return {k: [sources[k][int(i)] for i in order] for k, order in orders.items()}


def _length(item: Example) -> int:
    """Estimate the length of a prompt, so that batches hold samples of similar length."""
    words = len(item.clip.subtitle or "") + sum(len(t.text) for t in item.clip.history) + len(item.ask.answer or "")
    return words + 400 * bool(item.media)
