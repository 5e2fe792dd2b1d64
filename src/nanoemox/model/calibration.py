"""Calibration of closed answers: the content-free prior is subtracted, and a temperature is applied.

A model directory may contain ``calibration.json``. For each closed task and each form of a free question it has a
temperature and how much of the content-free prior is subtracted; both are fitted on held-out samples. The prior
depends on question and candidates, so it is computed when needed, with content-free text in place of a
clip.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nanoemox.types import CheckpointError

FILE_NAME = "calibration.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskCalibration(_Strict):
    """Correction of the scores of one closed task.

    Attributes:
        strength: Share of the content-free prior's log-probability that is subtracted; 0 for none.
        temperature: Divisor of the result; above 1 the probabilities become less extreme.
    """

    strength: float = Field(0.0, ge=0, le=1)
    temperature: float = Field(1.0, gt=0)

    def apply(self, scores: Any, prior: Any) -> Any:
        """Correct log-probabilities (B rows of candidates) by those of the same candidates without a clip."""
        return (scores - self.strength * prior) / self.temperature


class Calibration(_Strict):
    """Corrections by task, and by form of a free question (``predicate``, ``choice``, ``score``).

    Attributes:
        content_free: Content-free texts; the prior is the mean over them.
        tasks: Task key -> correction; other tasks keep their raw scores.
        forms: Form of a question -> correction; likewise.
    """

    content_free: Annotated[tuple[str, ...], Field(min_length=1)] = ("N/A",)
    tasks: dict[str, TaskCalibration] = {}
    forms: dict[Literal["predicate", "choice", "score"], TaskCalibration] = {}


def load_calibration(path: Path) -> Calibration:
    """Read ``calibration.json``.

    Raises:
        CheckpointError: The file is invalid; the message says where.
    """
    try:
        return Calibration.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{path}: not a valid calibration file: {error}") from error
