"""The answers about one batch of clips, with what was read, how long it took and what to be warned of."""

from __future__ import annotations

import time
from collections.abc import Sequence

from nanoemox.inference.batch import ClipBatch, coverage, untrained_warning, used_modalities
from nanoemox.types import Answer


def answer_batch(batch: ClipBatch, name: str, load_s: Sequence[float]) -> list[Answer]:
    """Answer everything that the batch's plan asks.

    Args:
        batch: B encoded clips.
        name: Name of the model.
        load_s: Seconds that each clip took to load; all other seconds are shared out evenly.
    """
    num_clips = len(batch.clips)
    begin = time.perf_counter()
    closed = batch.closed()
    middle = time.perf_counter()
    written = batch.open()
    closed_s, open_s = (middle - begin) / num_clips, (time.perf_counter() - middle) / num_clips
    answers = []
    for i, clip in enumerate(batch.clips):
        timing = {"load": load_s[i], "encode": batch.encode_s, "closed": closed_s, "open": open_s}
        timing["total"] = sum(timing.values())
        readings = closed[i] | written[i]
        warnings = (
            *clip.warnings,
            *coverage(clip, batch.processor.config, batch.branches[i]),
            *untrained_warning(batch.left_out[i], batch.branches[i]),
        )
        answers.append(
            Answer(
                clip=clip.name,
                model=name,
                tasks={ask.task: readings[ask.task] for ask in batch.plan.asks},
                modalities=used_modalities(clip, batch.branches[i]),
                gate=batch.gate(i),
                warnings=warnings,
                timing_s={stage: round(seconds, 4) for stage, seconds in timing.items()},
                evidence=batch.evidence(i) if batch.plan.explain else None,
                heard=clip.heard,
            )
        )
    return answers
