"""Calibration of closed answers: what a model prefers without any clip is taken off, and its sureness is brought down.

A model directory may hold ``calibration.json``. For each closed task and each form of a free question it names a
temperature and how much of the content-free prior is taken off; both are fitted on held-out samples. The prior itself
belongs to a question and its candidates, so it is scored where it is needed: with words that say nothing in place of a
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
    """How the scores of one closed task are corrected.

    Attributes:
        strength: Share of the content-free prior's log-probability that is taken off; 0 leaves it.
        temperature: What the rest is divided by; above 1 answers become less sure.
    """

    strength: float = Field(0.0, ge=0, le=1)
    temperature: float = Field(1.0, gt=0)

    def apply(self, scores: Any, prior: Any) -> Any:
        """Correct log-probabilities (B rows of candidates) by those that the same candidates have without a clip."""
        return (scores - self.strength * prior) / self.temperature


class Calibration(_Strict):
    """Corrections by task, and by form of a free question (``predicate``, ``choice``, ``score``).

    Attributes:
        content_free: Words that say nothing; the prior is the mean over them.
        tasks: Task key -> correction; a task that is not named keeps its raw scores.
        forms: Form of a question -> correction; likewise.
    """

    content_free: Annotated[tuple[str, ...], Field(min_length=1)] = ("N/A",)
    tasks: dict[str, TaskCalibration] = {}
    forms: dict[Literal["predicate", "choice", "score"], TaskCalibration] = {}


def load_calibration(path: Path) -> Calibration:
    """Read ``calibration.json``.

    Raises:
        CheckpointError: The file is not what it must be; the message says where.
    """
    try:
        return Calibration.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{path}: not a valid calibration file: {error}") from error
