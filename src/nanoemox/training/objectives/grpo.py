"""Group relative policy optimisation (GRPO) for the open-vocabulary task.

For each prompt the model samples a group of answers, without thinking. Precision and recall against
the true words are normalised within the group separately, so that the one with the larger variance does not dominate;
words beyond the number of true words are penalised. Each batch of samples is used for one update, so the importance
ratio is 1 and clipping is not needed. A KL term keeps the policy close to the start of the phase.

After Shao et al. (DeepSeekMath, 2024). As in Liu et al. (Dr. GRPO, 2025), log-probabilities are summed over the tokens
of an answer: averaging favours short correct and long incorrect answers. Dropout is off, so sampling and training use
the same probabilities.

Letters: ``B`` prompts, ``G`` answers of a prompt, ``R = B * G`` rows, ``N`` tokens of all answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from transformers import StoppingCriteria, StoppingCriteriaList

from nanoemox.model.configuration import IGNORE_INDEX
from nanoemox.model.processing import ends_with
from nanoemox.scoring.corrected.scorer import CorrectedScorer, Level
from nanoemox.tasks import TASKS, parse_labels
from nanoemox.training.objectives.objective import Loss, Objective, Start, answer_logits

_EPSILON = 1e-4
_NOT_MEDIA = frozenset({"input_ids", "attention_mask", "labels", "logits_to_keep"})
Scores = npt.NDArray[np.float64]


class Grpo(Objective):
    """Settings of the objective.

    Attributes:
        group: Sampled answers per prompt.
        max_new_tokens: Maximum length of an answer; an answer that is cut off has precision and recall 0.
        precision: Weight of precision.
        recall: Weight of recall.
        length_penalty: Penalty for each word beyond the number of true words, in standard deviations of a score.
        kl: Weight of the KL divergence from the start of the phase.
        temperature: Divides the logits, in sampling and in the loss alike. Above 1, groups hold answers that the
            model would hardly give, and it can only learn what it has tried.
        level: The level at which words are compared (:class:`~nanoemox.scoring.corrected.scorer.CorrectedScorer`).
    """

    generates: ClassVar[bool] = True

    group: int = Field(8, ge=2)
    max_new_tokens: int = Field(32, ge=1, le=1024)
    precision: float = Field(1.0, ge=0)
    recall: float = Field(1.0, ge=0)
    length_penalty: float = Field(0.2, ge=0)
    kl: float = Field(0.05, ge=0)
    temperature: float = Field(1.0, gt=0, le=10)
    level: Level = "family"

    def check(self, tasks: Collection[str]) -> None:
        """Raise ``ValueError`` for tasks whose answer is not a list of words."""
        others = sorted(task for task in tasks if TASKS[task].form != "labels")
        if others:
            fitting = ", ".join(key for key, task in TASKS.items() if task.form == "labels")
            raise ValueError(f"objective grpo scores lists of emotion words, not {', '.join(others)}: draw {fitting}")

    def begin(self, start: Start) -> Loss:
        """Build the loss with a copy of the trainable tensors as its reference."""
        return GrpoLoss(self, start)

    def advantages(self, truth: Sequence[Sequence[str]], written: Sequence[Sequence[Rollout]]) -> Scores:
        """Compute the advantage of each answer within its group.

        Args:
            truth: B lists of words.
            written: B groups of G answers.

        Returns:
            float64[B, G] with mean 0 in each group.
        """
        scores = np.array([[self.score(t, a) for a in group] for t, group in zip(truth, written, strict=True)])
        precision, recall, excess = np.moveaxis(scores, -1, 0)
        gained = self.precision * _normalised(precision) + self.recall * _normalised(recall)
        return gained - self.length_penalty * _centred(excess)

    def score(self, truth: Sequence[str], answer: Rollout) -> tuple[float, float, float]:
        """Return precision and recall of an answer, and its number of words beyond that of the truth."""
        excess = max(0, len(answer.words) - len(truth))
        scorer = CorrectedScorer(self.level)
        wanted, given = scorer.classes(truth), scorer.classes(answer.words)
        if not wanted or not given or not answer.ended:
            return 0.0, 0.0, excess
        common = len(wanted & given)
        return common / len(given), common / len(wanted), excess


@dataclass(frozen=True, slots=True)
class Rollout:
    """A sampled answer.

    Attributes:
        ids: Its tokens, including the terminator if there is one.
        words: Its emotion words.
        ended: Whether it ends with the terminator.
    """

    ids: tuple[int, ...]
    words: tuple[str, ...]
    ended: bool


class GrpoLoss:
    """The loss of a phase; see :class:`~nanoemox.training.objectives.Loss`.

    Attributes:
        reference: The trainable tensors at the start of the phase, name -> tensor; empty without a KL term.
    """

    def __init__(self, settings: Grpo, start: Start) -> None:
        self.settings, self.start = settings, start
        trained = ((n, p) for n, p in start.model.named_parameters() if p.requires_grad)
        self.reference = {n: p.detach().clone() for n, p in trained} if settings.kl else {}

    def __call__(
        self, model: nn.Module, batch: Mapping[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Sample answers to the prompts of the batch and return the policy gradient loss on them."""
        prompts, truth = self.read(batch)
        media = {k: v.repeat_interleave(self.settings.group, 0) for k, v in batch.items() if k not in _NOT_MEDIA}
        repeated = [prompt for prompt in prompts for _ in range(self.settings.group)]
        with _without_dropout(self.start.model):
            answers = self.sample(repeated, media)
            groups = [answers[i : i + self.settings.group] for i in range(0, len(answers), self.settings.group)]
            gained = torch.from_numpy(self.settings.advantages(truth, groups)).float().flatten()
            rows = self.batch(repeated, answers, media)
            log_probs = answer_log_probs(model, rows, self.settings.temperature)
            of = rows["logits_to_keep"].nonzero()[:, 0]
            costs = -gained.to(log_probs.device)[of] * (log_probs - log_probs.detach()).exp()
            if self.reference:
                costs = costs + self.settings.kl * self._divergence(log_probs, rows, len(answers))
        self._log(truth, groups)
        return costs.sum() / (self.settings.group * self.start.step_samples)

    def read(self, batch: Mapping[str, Any]) -> tuple[list[list[int]], list[tuple[str, ...]]]:
        """Return the token ids of the prompts and the true words of a batch."""
        answered = batch["labels"] != IGNORE_INDEX
        prompt = batch["attention_mask"].bool() & ~answered
        ids = batch["input_ids"]
        rows = range(len(ids))
        return [ids[i][prompt[i]].tolist() for i in rows], [self._words(ids[i][answered[i]].tolist()) for i in rows]

    def _words(self, ids: Sequence[int]) -> tuple[str, ...]:
        return parse_labels(self.start.processor.tokenizer.decode(ids, skip_special_tokens=True))

    @torch.no_grad()
    def sample(self, prompts: Sequence[Sequence[int]], media: Mapping[str, Tensor]) -> list[Rollout]:
        """Sample one answer to each of R prompts."""
        processor, device = self.start.processor, self.start.model.device
        terminator = processor.terminator_ids
        inputs = {k: v.to(device) for k, v in processor.pad(prompts, "left").items()}
        start = inputs["input_ids"].shape[1]
        written = self.start.model.generate(
            **inputs,
            **media,
            do_sample=True, temperature=self.settings.temperature, top_k=0, top_p=1.0,
            max_new_tokens=self.settings.max_new_tokens,
            eos_token_id=None, pad_token_id=processor.tokenizer.pad_token_id,
            stopping_criteria=StoppingCriteriaList([_Ended(start, torch.tensor(terminator, device=device))]),
        )  # fmt: skip
        return [self.rollout_of(ids, terminator) for ids in written[:, start:].tolist()]

    def rollout_of(self, ids: list[int], terminator: list[int]) -> Rollout:
        """Truncate a row after its terminator, or after a media placeholder, which makes the answer invalid."""
        size = len(terminator)
        ends = [i + size for i in range(len(ids) - size + 1) if ids[i : i + size] == terminator]
        breaks = [i + 1 for i, token in enumerate(ids) if token in self._placeholders]
        end = min([*ends, *breaks, len(ids)])
        ended = end in ends
        return Rollout(tuple(ids[:end]), self._words(ids[: end - size] if ended else ids[:end]), ended)

    @property
    def _placeholders(self) -> frozenset[int]:
        return frozenset(self.start.processor.config.placeholder_token_ids.values())

    def batch(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Rollout], media: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """Append R answers to their prompts and build the inputs of the model, with labels."""
        pairs = list(zip(prompts, answers, strict=True))
        # The last token is a label only; a placeholder among the inputs would have to be matched by media.
        last = [0 if a.ids[-1] in self._placeholders else a.ids[-1] for a in answers]
        padded = self.start.processor.pad(
            [[*p, *a.ids[:-1], i] for (p, a), i in zip(pairs, last, strict=True)], "right"
        )
        labels = torch.full_like(padded["input_ids"], IGNORE_INDEX)
        for row, (prompt, answer) in zip(labels, pairs, strict=True):
            row[len(prompt) : len(prompt) + len(answer.ids)] = torch.tensor(answer.ids)
        keep = functional.pad(labels[:, 1:] != IGNORE_INDEX, (0, 1))
        tensors = {**padded, "labels": labels, "logits_to_keep": keep}
        return {k: v.to(self.start.model.device) for k, v in tensors.items()} | dict(media)

    def _divergence(self, log_probs: Tensor, rows: Mapping[str, Any], num_answers: int) -> Tensor:
        """Estimate the KL divergence from the start at every token (Schulman's k3 estimator): float[N], >= 0."""
        with torch.no_grad():
            start = _Swapped(self.start.model, self.reference)
            before = answer_log_probs(start, rows, self.settings.temperature)
        drift = before - log_probs
        divergence = drift.exp() - drift - 1
        self.start.log("kl", float(divergence.detach().sum()) / num_answers)
        return divergence

    def _log(self, truth: Sequence[Sequence[str]], groups: Sequence[Sequence[Rollout]]) -> None:
        rated = [self.settings.score(t, a) for t, group in zip(truth, groups, strict=True) for a in group]
        precision, recall, _ = np.mean(rated, axis=0)
        answers = [a for group in groups for a in group]
        self.start.log("precision", float(precision))
        self.start.log("recall", float(recall))
        self.start.log("words", float(np.mean([len(a.words) for a in answers])))
        self.start.log("ended", float(np.mean([a.ended for a in answers])))


def answer_log_probs(model: Any, batch: Mapping[str, Any], temperature: float = 1.0) -> Tensor:
    """Return the log-probability float32[N] of every answer token, computed as in the other losses."""
    logits, targets = answer_logits(model, batch)
    return -functional.cross_entropy(logits.float() / temperature, targets, reduction="none")


@dataclass(frozen=True, slots=True)
class _Swapped:
    """The model with some of its weights replaced for the call; its own are not modified."""

    model: nn.Module
    weights: dict[str, Tensor]

    def __call__(self, **inputs: Any) -> Any:
        return functional_call(self.model, self.weights, kwargs=inputs)


class _Ended(StoppingCriteria):
    """Stops the rows whose answer ends with the terminator, which may have several tokens."""

    def __init__(self, start: int, terminator: Tensor) -> None:
        self.start, self.terminator = start, terminator

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        return ends_with(input_ids[:, self.start :], self.terminator)


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _centred(scores: Scores) -> Scores:
    """Subtract the mean of each group of float64[B, G]; groups of equal scores give exact zeros."""
    same = scores.max(axis=1, keepdims=True) == scores.min(axis=1, keepdims=True)
    return np.where(same, 0.0, scores - scores.mean(axis=1, keepdims=True))


def _normalised(scores: Scores) -> Scores:
    """Normalise each group of float64[B, G] to mean 0 and standard deviation 1."""
    return _centred(scores) / (scores.std(axis=1, keepdims=True) + _EPSILON)
