"""What an objective is, and what it is given to begin with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from nanoemox.model.configuration import IGNORE_INDEX
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.recipes import Strict


class Loss(Protocol):
    """Something to minimise."""

    def __call__(
        self, model: nn.Module, batch: Mapping[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Return a batch's share of the loss of its optimiser step.

        Args:
            model: The model as the loop wraps it; what is propagated back must go through its ``forward``.
            batch: Its inputs, ``labels`` int64[B, L] (-100 outside the answers) and ``logits_to_keep`` bool[B, L], true
                before an answer token.
            num_items_in_batch: Answer tokens of the whole step; None for a batch that stands alone.

        Returns:
            float[].
        """


@dataclass(frozen=True, slots=True)
class Start:
    """A phase before its first step.

    Attributes:
        model: The model itself, with the weights that the phase starts from, also where a run is resumed.
        processor: Its processor.
        step_samples: Samples of an optimiser step, of all processes together.
        note: Takes a name and a number; their means stand beside the loss in ``metrics.jsonl``.
    """

    model: NanoEmoXForConditionalGeneration
    processor: NanoEmoXProcessor
    step_samples: int
    note: Callable[[str, float], None]


class Objective(Strict):
    """An objective; its fields are what a recipe may set under ``objective_settings``.

    Attributes:
        writes: Whether the loss lets the model write; processes then run forward passes of different number.
    """

    writes: ClassVar[bool] = False

    def check(self, tasks: Collection[str]) -> None:
        """Raise ``ValueError`` where a phase draws a task that the objective has no use for."""

    def begin(self, start: Start) -> Loss:
        """Return the loss of a phase; whatever it keeps must be a function of ``start`` alone, or resuming breaks."""
        raise NotImplementedError


def answer_logits(model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Run a batch: logits float[N, V] before its N answer tokens, and these tokens int64[N]."""
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    logits: Tensor = model(**inputs, use_cache=False).logits
    following = batch["labels"][:, 1:]
    return logits, following[following != IGNORE_INDEX]
