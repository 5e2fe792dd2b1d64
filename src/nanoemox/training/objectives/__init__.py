"""Training objectives, one module each.

An objective (:class:`Objective`) builds the loss of a phase (:class:`Loss`), a function of the model and a batch. The
loss may run the model several times, generate text, and keep state from the start of the phase.
"""

from __future__ import annotations

from typing import Final

from nanoemox.training.objectives.cross_entropy import CrossEntropy
from nanoemox.training.objectives.grpo import Grpo
from nanoemox.training.objectives.objective import Loss, Objective, Start, answer_logits

__all__ = ["OBJECTIVES", "Loss", "Objective", "Start", "answer_logits"]

OBJECTIVES: Final[dict[str, type[Objective]]] = {"cross_entropy": CrossEntropy, "grpo": Grpo}
"""Name in a recipe -> objective; a line added here adds one."""
