"""What training minimises; one module an objective, one signature.

An objective takes what the model gave, the labels of its batch, and the number of answer tokens of the whole
optimiser step, and returns the batch's share of the step's loss.
"""

from __future__ import annotations

from typing import Final, Protocol

from torch import Tensor

from nanoemox.model.modeling import NanoEmoXOutput
from nanoemox.training.objectives.cross_entropy import cross_entropy

__all__ = ["OBJECTIVES", "Objective"]


class Objective(Protocol):
    """Something to minimise."""

    def __call__(
        self, output: NanoEmoXOutput, labels: Tensor, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            output: What the model gave; ``logits`` float[N, V] are those before the N answer tokens.
            labels: int64[B, L], -100 outside the answers.
            num_items_in_batch: Answer tokens of the whole step; None for a batch that stands alone.

        Returns:
            float[].
        """


OBJECTIVES: Final[dict[str, Objective]] = {"cross_entropy": cross_entropy}
"""Name in a recipe -> objective; a line added here adds one."""
