"""The card of a phase: data, steps, and results compared with chance and majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nanoemox.data.manifest import ClosedLabels, Sample
from nanoemox.training.phases import Curriculum

_CARD = """# Phase `{name}` of `{curriculum}`

Trained: {trained} ({parameters:,} parameters), {start}. Seed {seed}, {steps:,} steps of {batch} samples, highest
learning rate {lr:g}, {minutes:.1f} minutes. Every field: `resolved.yaml`; every logged step: `metrics.jsonl`.

| samples | share | training samples | held-out samples measured | loss per token | accuracy | chance | majority |
|---|---|---|---|---|---|---|---|
{rows}

Accuracy is that of the most probable candidate on held-out samples, with everything shown that the phase allows.
"""


def phase_card(
    name: str,
    curriculum: Curriculum,
    samples: Mapping[str, Sequence[Sample]],
    result: Mapping[str, Any],
    processes: int,
) -> str:
    """Write the card of a finished phase as Markdown.

    Args:
        name: Name of the phase.
        curriculum: The recipe.
        samples: Corpus -> samples that could be drawn.
        result: What the phase left in ``result.json``.
        processes: How many trained together.
    """
    phase = curriculum.with_replay(name)
    training, held_out = phase.sources(samples, "train"), phase.sources(samples, "validation")
    total, measured = sum(phase.mixture.values()), result["validation"]
    rows = []
    for selector, weight in phase.mixture.items():
        count = int(len(training[selector]) * phase.subset.get(selector, 1.0))
        cells = [selector, f"{weight / total:.1%}", f"{count:,}", f"{measured.get(f'{selector}/n', 0):,}"]
        cells += [f"{measured[k]:.3f}" if (k := f"{selector}/{what}") in measured else "" for what in _MEASURED]
        rows.append("| " + " | ".join([*cells, *_baselines(held_out[selector])]) + " |")
    start = f"from where {', '.join(phase.start_from)} ended" if phase.start_from else "from the base model"
    return _CARD.format(
        name=name,
        curriculum=curriculum.name,
        trained=", ".join(sorted(phase.trainable)),
        parameters=result["trainable_parameters"],
        start=start,
        seed=curriculum.seed,
        steps=phase.steps,
        batch=phase.micro_batch * phase.accumulation * processes,
        lr=phase.lr,
        minutes=result["seconds"] / 60,
        rows="\n".join(rows),
    )


_MEASURED = ("loss", "accuracy")


def _baselines(samples: Sequence[Sample]) -> tuple[str, str]:
    """Accuracy of guessing, and of always naming the most frequent label; empty where answers are open."""
    closed = [s.labels for s in samples if isinstance(s.labels, ClosedLabels)]
    if not closed:
        return "", ""
    chance = sum(1 / len(labels.candidates) for labels in closed) / len(closed)
    majority = max(Counter(labels.label for labels in closed).values()) / len(closed)
    return f"{chance:.3f}", f"{majority:.3f}"
