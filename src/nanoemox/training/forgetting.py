"""The forgetting matrix: what later phases do to the tasks of earlier ones.

Row i is the model after phase i; a column is a selector of some phase's mixture, evaluated on the same held-out samples
after every phase, with the modalities of the first phase that trains it. Backward transfer (Lopez-Paz and Ranzato,
2017) is the mean change of a column between the phase that first trains it and the last phase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nanoemox.data.features.cache import FeatureCache
from nanoemox.data.manifest import Sample
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.training.phases import Curriculum
from nanoemox.training.validate import Validator

MATRIX = "matrix"
"""Key of a phase's result that holds its row: selector -> scores."""
_CARD = """
## Forgetting

Rows: the model after each phase. Columns: held-out samples of each selector, with the first phase that trains it in
brackets. Accuracy for closed tasks, loss per token for open ones.

{table}

Backward transfer (mean change since the phase that first trains a selector): {transfer}.
"""


def taught_by(curriculum: Curriculum) -> dict[str, str]:
    """Selector -> the first phase whose own mixture has it, in the order of the phases."""
    found: dict[str, str] = {}
    for name, phase in curriculum.phases.items():
        for selector in phase.mixture:
            found.setdefault(selector, name)
    return found


def measure_row(
    curriculum: Curriculum,
    samples: Mapping[str, Sequence[Sample]],
    model: NanoEmoXForConditionalGeneration,
    processor: NanoEmoXProcessor,
    cache: FeatureCache,
    half: Any = None,
) -> dict[str, dict[str, float]]:
    """Evaluate the selectors of all phases.

    Returns:
        Selector -> ``accuracy`` and ``uar`` of closed tasks, ``loss`` and ``n`` of all; selectors without held-out
        samples are left out.
    """
    row: dict[str, dict[str, float]] = {}
    for selector, teacher in taught_by(curriculum).items():
        phase = curriculum.phases[teacher]
        only = {selector: phase.sources(samples, "validation")[selector]}
        validator = Validator(model, processor, cache, phase, half)
        measured = validator.measure(only, curriculum.validation_samples, curriculum.seed)
        if measured:
            row[selector] = {k.rpartition("/")[2]: v for k, v in measured.items()}
    return row


def backward_transfer(
    curriculum: Curriculum, rows: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> dict[str, float]:
    """Return the mean change of ``accuracy`` (closed tasks) and ``loss`` (open ones) since each selector was trained.

    Args:
        curriculum: The recipe.
        rows: Phase -> its row, for the phases so far.

    Returns:
        Measure -> mean over the selectors first trained before the last phase of ``rows``; absent if there are none.
    """
    *_, last = rows
    changes: dict[str, list[float]] = {}
    for selector, teacher in taught_by(curriculum).items():
        if teacher in rows and teacher != last and selector in rows[last]:
            measure = _measure(rows[last][selector])
            changes.setdefault(measure, []).append(rows[last][selector][measure] - rows[teacher][selector][measure])
    return {measure: sum(values) / len(values) for measure, values in changes.items()}


def forgetting_text(curriculum: Curriculum, rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Format the matrix of the phases so far as a section of a card."""
    columns = {s: t for s, t in taught_by(curriculum).items() if all(s in row for row in rows.values())}
    head = "| after | " + " | ".join(f"{s} ({t})" for s, t in columns.items()) + " |"
    lines = [head, "|" + "---|" * (len(columns) + 1)]
    for phase, row in rows.items():
        lines.append("| " + " | ".join([phase, *(f"{row[s][_measure(row[s])]:.3f}" for s in columns)]) + " |")
    transfer = ", ".join(f"{k} {v:+.3f}" for k, v in backward_transfer(curriculum, rows).items())
    return _CARD.format(table="\n".join(lines), transfer=transfer or "none before the second phase")


def _measure(scores: Mapping[str, float]) -> str:
    return "accuracy" if "accuracy" in scores else "loss"
