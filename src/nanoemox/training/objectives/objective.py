"""The interface of training objectives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from nanoemox.model.configuration import IGNORE_INDEX
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.recipes import Strict


class Loss(Protocol):
    """The loss of a phase."""

    def __call__(
        self, model: nn.Module, batch: Mapping[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Compute the contribution of a micro-batch to the loss of its optimiser step.

        Args:
            model: The model as wrapped by the trainer; gradients must flow through its ``forward``.
            batch: Model inputs, ``labels`` int64[B, L] (-100 outside the answers) and ``logits_to_keep`` bool[B, L],
                true at positions before an answer token.
            num_items_in_batch: Answer tokens of the whole step; None for a single batch.

        Returns:
            float[].
        """


@dataclass(frozen=True, slots=True)
class Start:
    """The state before the first step of a phase.

    Attributes:
        model: The unwrapped model with the initial weights of the phase, also if the run is resumed.
        processor: Its processor.
        step_samples: Samples per optimiser step over all processes.
        log: Takes a name and a value; the means are logged to ``metrics.jsonl`` with the loss.
    """

    model: NanoEmoXForConditionalGeneration
    processor: NanoEmoXProcessor
    step_samples: int
    log: Callable[[str, float], None]


class Objective(Strict, ABC):
    """Base class of objectives; its fields are the recipe's ``objective_settings``.

    Attributes:
        generates: Whether the loss generates text, so that the number of forward passes differs between processes.
    """

    generates: ClassVar[bool] = False

    def check(self, tasks: Collection[str]) -> None:
        """Raise ``ValueError`` if the objective cannot train one of a phase's tasks."""

    @abstractmethod
    def begin(self, start: Start) -> Loss:
        """Build the loss of a phase; its state must depend on ``start`` alone, otherwise resuming is not exact."""


def answer_logits(model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Run the model: logits float[N, V] at the positions before the N answer tokens, and these tokens int64[N]."""
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    logits: Tensor = model(**inputs, use_cache=False).logits
    following = batch["labels"][:, 1:]
    return logits, following[following != IGNORE_INDEX]
