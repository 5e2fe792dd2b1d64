"""Calibration of closed answers: the prior that a model has without any clip is subtracted if configured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from torch import Tensor

from nanoemox.inference.decoding import Choice, Prefix, prefill
from nanoemox.model.calibration import TaskCalibration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.types import Clip

PRIORS_KEPT: Final = 256
"""Number of cached priors per model."""
Key = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]
State = tuple[str, str, int]


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
        processor: Its processor, which has the content-free inputs.
        corrections: For each question its correction, or None for none.
        choices: The questions.
        scores: float[B, candidates] of each question.
        score: Scores choices behind a prefix. It runs once more, without a clip, for a question whose correction takes
            the prior off and which this model has not been asked yet.

    Returns:
        float64[B, candidates] of each question; None where it has no correction.
    """
    weighed = [i for i, c in enumerate(corrections) if c is not None and c.strength > 0]
    words = processor.calibration.content_free if weighed else ()
    nothing = [processor.prefix_ids(Clip("", subtitle=t), ()) for t in words]
    known = _known_priors(model, nothing)
    keys = {i: _key(choices[i]) for i in weighed}
    new = [i for i in weighed if keys[i] not in known]
    if new:
        padded = {k: v.to(model.device) for k, v in processor.pad(nothing, "right").items()}
        prefix = prefill(model, padded["input_ids"], padded["attention_mask"])
        found = score(model, prefix, [choices[i] for i in new])
        known = known | {keys[i]: p.double().log_softmax(dim=1).mean(dim=0) for i, p in zip(new, found, strict=True)}
        if len(known) <= PRIORS_KEPT:
            _PRIORS[model] = _Priors(_state_of(model), nothing, known)
    priors = {i: known[keys[i]] for i in weighed}
    return [None if c is None else c.apply(scores[i], priors.get(i, 0.0)) for i, c in enumerate(corrections)]


@dataclass(frozen=True, slots=True)
class _Priors:
    """Priors of earlier questions, which do not depend on a clip, and the state of the weights that gave them."""

    state: State
    nothing: list[list[int]]
    by_question: dict[Key, Tensor]


_PRIORS: WeakKeyDictionary[Any, _Priors] = WeakKeyDictionary()


def _known_priors(model: Any, nothing: list[list[int]]) -> dict[Key, Tensor]:
    """Return the priors that were computed with the current weights."""
    kept = _PRIORS.get(model)
    same = kept is not None and kept.nothing == nothing and kept.state == _state_of(model)
    return kept.by_question if kept is not None and same else {}


def _state_of(model: Any) -> State:
    """Return device and type of the weights, and how often they were changed in place.

    torch counts the changes of each tensor, but for tensors made in inference mode, which only that mode may change.
    """
    changes = sum(p._version for p in model.parameters() if not p.is_inference())
    return str(model.device), str(model.dtype), changes


def _key(choice: Choice) -> Key:
    return tuple(choice.question), tuple(map(tuple, choice.candidates))
