"""What training minimises; one module an objective.

An objective (:class:`Objective`) begins with a phase and gives its loss (:class:`Loss`), which gets the model and a
batch. So it may run the model as often as it likes, let it write, and keep what it needs of the start.
"""

from __future__ import annotations

from typing import Final

from nanoemox.training.objectives.cross_entropy import CrossEntropy
from nanoemox.training.objectives.grpo import Grpo
from nanoemox.training.objectives.objective import Loss, Objective, Start, answer_logits

__all__ = ["OBJECTIVES", "Loss", "Objective", "Start", "answer_logits"]

OBJECTIVES: Final[dict[str, type[Objective]]] = {"cross_entropy": CrossEntropy, "grpo": Grpo}
"""Name in a recipe -> objective; a line added here adds one."""
