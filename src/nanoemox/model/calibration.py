"""Calibration of closed answers: the content-free prior is subtracted, and a temperature is applied.

A model directory may contain ``calibration.json``. For each closed task and each form of a free question it has a
temperature and how much of the content-free prior is subtracted; both are fitted on held-out samples. The prior
depends on question and candidates, so it is computed when needed, with content-free text in place of a
clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from nanoemox.types import CheckpointError

FILE_NAME = "calibration.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskCalibration(_Strict):
    """Correction of the scores of one closed task.

    Attributes:
        strength: Share of the content-free prior's log-probability that is subtracted; 0 for none.
        temperature: Divisor of the result; above 1 the probabilities become less extreme.
        by_modalities: The temperature of clips of which exactly these modalities are used, joined by ``+`` in the order
            of an answer (``speech``, ``vision+face``): a model may be too sure of voices and not sure enough of faces.
    """

    strength: float = Field(0.0, ge=0, le=1)
    temperature: float = Field(1.0, gt=0)
    by_modalities: dict[str, Annotated[float, Field(gt=0)]] = {}

    def apply(self, scores: Tensor, prior: Tensor | float, modalities: Sequence[Sequence[str]] = ()) -> Tensor:
        """Correct the log-probabilities of the candidates of one question.

        Args:
            scores: float[B, candidates].
            prior: float[candidates], the same without a clip.
            modalities: Modalities that are used of each of the B clips; without them ``temperature`` holds for all.
        """
        shifted = scores - self.strength * prior
        if not modalities:
            return shifted / self.temperature
        found = [self.by_modalities.get("+".join(used), self.temperature) for used in modalities]
        return shifted / scores.new_tensor(found)[:, None]


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
