"""A picture of a clip for the report: the frame at its middle, small, as a JPEG in base64. Clips are often private."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nanoemox.benchmarks.answerer import media_file
from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.remote import to_jpeg
from nanoemox.data.corpora import read_corpora
from nanoemox.media.load import load_clip
from nanoemox.reporting.cases import Example
from nanoemox.types import MediaError

_SIDE: Final = 320
_QUALITY: Final = 80


def with_frames(benchmark: Benchmark, examples: Sequence[Example], data_root: Path) -> tuple[Example, ...]:
    """Return the examples with a frame each, where the clip has a picture that can be read.

    Args:
        benchmark: What they are of.
        examples: The examples.
        data_root: Folder of the corpora, as of the evaluation.

    Raises:
        NanoEmoXError: The corpus is not there, or its media lie elsewhere.
    """
    corpus = read_corpora(data_root, [benchmark.corpus])[benchmark.corpus]
    media = {s.id: s.media for s in corpus if s.task == benchmark.task and s.media}
    return tuple(
        e.with_picture(picture(media_file(data_root, media[e.name])) if e.name in media else None) for e in examples
    )


def picture(path: Path) -> str | None:
    """Return the frame at the middle of a clip; None where it has none or cannot be read."""
    try:
        clip = load_clip(path, num_frames=1)
    except MediaError:
        return None
    if clip.frames is None:
        return None
    return base64.b64encode(to_jpeg(clip.frames[0], _SIDE, _QUALITY)).decode()
