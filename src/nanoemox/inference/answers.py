"""From encoded batches to answers with warnings and timing: batch by batch, or one answer streamed in pieces."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, TypeVar

import torch

from nanoemox.inference.batch import ClipBatch, used_modalities
from nanoemox.media.windows import coverage_warning
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.types import Answer, Clip, NanoEmoXError

Source = TypeVar("Source")
ReadClip = tuple[Clip, float]
"""A clip, and the seconds that reading it took."""
OnError = Callable[[int, NanoEmoXError], None]
READERS: Final = max(1, min(4, (os.cpu_count() or 1) // 2))
"""Threads that read clips; decoders release the interpreter lock."""


def answer_batch(batch: ClipBatch, name: str, load_s: Sequence[float]) -> list[Answer]:
    """Answer all questions of the batch's plan.

    Args:
        batch: B encoded clips.
        name: Name of the model.
        load_s: Load time of each clip in seconds; all other times are divided evenly.
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
        answers.append(
            Answer(
                clip=clip.name,
                model=name,
                tasks={ask.task: readings[ask.task] for ask in batch.plan.asks},
                modalities=used_modalities(clip, batch.branches[i]),
                gate=batch.gate(i),
                warnings=warnings_of(batch, i),
                timing_s={stage: round(seconds, 4) for stage, seconds in timing.items()},
                evidence=batch.evidence(i) if batch.plan.options.explain else None,
                heard=clip.heard,
            )
        )
    return answers


def warnings_of(batch: ClipBatch, i: int) -> tuple[str, ...]:
    """Return the warnings about clip i of a batch."""
    clip, used = batch.clips[i], batch.branches[i]
    return (
        *clip.warnings,
        *_coverage(clip, batch.processor.config, used),
        *_untrained_warning(batch.left_out[i], used),
    )


def _untrained_warning(left_out: Sequence[str], used: Sequence[str]) -> tuple[str, ...]:
    """Warn of branches that the clip has but that are not used because their adapters are untrained."""
    if not left_out:
        return ()
    rest = "they are left out" if used else "only the words are used"
    return (f"adapters of {', '.join(left_out)} are untrained: {rest}; train with nanoemox train",)


def _coverage(clip: Clip, config: NanoEmoXConfig, branches: Sequence[str]) -> tuple[str, ...]:
    """Warn when the model looks at less than half of a long clip."""
    if not branches:
        return ()
    steps = config.vision.num_frames if clip.waveform is None else config.speech.num_windows
    seen_s = min(clip.duration_s, steps * config.speech.window_s)
    warning = coverage_warning(clip.duration_s, seen_s)
    return () if warning is None or warning in clip.warnings else (warning,)


def answer_in_batches(
    read: Callable[[Source], ReadClip],
    answer: Callable[[Sequence[ReadClip]], list[Answer]],
    sources: Iterator[Source],
    batch_size: int,
    on_error: OnError | None,
) -> Iterator[Answer]:
    """Answer about many sources, lazily and in order; while a batch is answered the next one is read in threads.

    Args:
        read: Reads one source.
        answer: Answers about a batch; one bad clip may fail all of it.
        sources: The clips.
        batch_size: Clips per batch.
        on_error: Called with position and error of each source that is left out; None raises instead.
    """
    numbered = enumerate(sources)
    pool = ThreadPoolExecutor(READERS, "nanoemox-read")

    def start() -> list[tuple[int, Future[ReadClip]]]:
        return [(i, pool.submit(read, source)) for i, source in islice(numbered, batch_size)]

    try:
        batch = start()
        while batch:
            following = start()
            yield from _answer_batch(answer, batch, on_error)
            batch = following
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def memory_as_error() -> Iterator[None]:
    """Turn a full memory of the device into a NanoEmoXError."""
    try:
        yield
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        raise NanoEmoXError(
            "the memory of the device is full: take fewer or shorter clips at a time, a smaller model, or --device cpu"
        ) from None


def _answer_batch(
    answer: Callable[[Sequence[ReadClip]], list[Answer]],
    batch: Sequence[tuple[int, Future[ReadClip]]],
    on_error: OnError | None,
) -> list[Answer]:
    """Answer about the clips of a batch that can be read; a bad one does not fail the others."""
    clips: list[tuple[int, ReadClip]] = []
    for i, future in batch:
        try:
            clips.append((i, future.result()))
        except NanoEmoXError as error:
            if on_error is None:
                raise
            on_error(i, error)
    if on_error is None:
        return answer([clip for _, clip in clips]) if clips else []
    answers = []
    for (i, _), result in zip(clips, run_each(answer, [clip for _, clip in clips]), strict=True):
        if isinstance(result, NanoEmoXError):
            on_error(i, result)
        else:
            answers.append(result)
    return answers


def run_each(run: Callable[[list[Any]], Sequence[Any]], items: Sequence[Any]) -> list[Any]:
    """Run items as one batch, or one by one if the batch fails, so that a bad item fails alone.

    Returns:
        For each item its result, or a NanoEmoXError.
    """
    if not items:
        return []
    try:
        with memory_as_error():
            return list(run(list(items)))
    except NanoEmoXError as error:
        if len(items) == 1:
            return [error]
    return [result for item in items for result in run_each(run, [item])]


def written_pieces(batch: ClipBatch, reserve: int) -> Iterator[str]:
    """Yield the open answer about the one clip of a batch in pieces.

    Args:
        batch: One clip, one open question.
        reserve: Ids held back because they may be the start of the terminator.
    """
    decoder = batch.decoder()
    sent = 0
    for _ in decoder:
        ids = decoder.answers[0]
        text = batch.text(ids if decoder.ended[0] else ids[: len(ids) - reserve])
        # Half a character decodes to a replacement mark until its other bytes are there.
        if len(text) > sent and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text[sent:]
            sent = len(text)
    rest = batch.text(decoder.answers[0])[sent:]
    if rest:
        yield rest
