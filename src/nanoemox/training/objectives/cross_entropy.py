"""Cross-entropy of the answer tokens, each counted once over a whole optimiser step: the paper's objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nanoemox.model.modeling import answer_loss
from nanoemox.training.objectives.objective import Loss, Objective, Start, answer_logits


class CrossEntropy(Objective):
    """The objective; it has no settings."""

    def begin(self, start: Start) -> Loss:
        """Return :func:`cross_entropy`, which has no state."""
        return cross_entropy


def cross_entropy(model: nn.Module, batch: Mapping[str, Any], num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Return the loss of a batch; see :class:`~nanoemox.training.objectives.Loss`."""
    return answer_loss(*answer_logits(model, batch), num_items_in_batch)
