"""Cross-entropy of the answer tokens, each counted once over a whole optimiser step: the paper's objective."""

from __future__ import annotations

from torch import Tensor

from nanoemox.model.configuration import IGNORE_INDEX
from nanoemox.model.modeling import NanoEmoXOutput, answer_loss


def cross_entropy(output: NanoEmoXOutput, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Return the loss of a batch; see :class:`~nanoemox.training.objectives.Objective`."""
    return answer_loss(output.logits, answers(labels), num_items_in_batch)


def answers(labels: Tensor) -> Tensor:
    """Return the answer tokens int64[N] of labels int64[B, L], in the order of the logits before them."""
    following = labels[:, 1:]
    return following[following != IGNORE_INDEX]
