"""Calibration of closed answers: the prior that a model has without any clip is subtracted where it is configured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from nanoemox.inference.decoding import Choice, Prefix, prefill
from nanoemox.model.calibration import TaskCalibration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.types import Clip


def calibrate(
    model: Any,
    processor: NanoEmoXProcessor,
    corrections: Sequence[TaskCalibration | None],
    choices: Sequence[Choice],
    scores: Sequence[Tensor],
    score: Callable[[Any, Prefix, Sequence[Choice]], list[Tensor]],
) -> list[Tensor | None]:
    """Correct the scores of several questions.

    Args:
        model: The model.
        processor: Its processor, which holds the words that say nothing.
        corrections: For each question its correction, or None for none.
        choices: The questions.
        scores: float[B, candidates] of each question.
        score: Scores choices behind a prefix. It runs once more, without a clip, if a correction takes the prior off.

    Returns:
        float64[B, candidates] of each question; None where it has no correction.
    """
    weighed = [i for i, c in enumerate(corrections) if c is not None and c.strength > 0]
    priors: dict[int, Tensor] = {}
    if weighed:
        nothing = [processor.prefix_ids(Clip("", subtitle=t), ()) for t in processor.calibration.content_free]
        padded = {k: v.to(model.device) for k, v in processor.pad(nothing, "right").items()}
        prefix = prefill(model, padded["input_ids"], padded["attention_mask"])
        found = score(model, prefix, [choices[i] for i in weighed])
        priors = {i: p.double().log_softmax(dim=1).mean(dim=0) for i, p in zip(weighed, found, strict=True)}
    return [None if c is None else c.apply(scores[i], priors.get(i, 0.0)) for i, c in enumerate(corrections)]
