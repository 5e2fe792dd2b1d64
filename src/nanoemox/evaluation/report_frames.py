"""A picture of a clip for the report: the frame at its middle, small, as a JPEG in base64. Clips are often private."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2

from nanoemox.data.corpora import read_corpora
from nanoemox.evaluation.benchmarks import Benchmark
from nanoemox.evaluation.report_cases import Example
from nanoemox.media import load_clip
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
        NanoEmoXError: The corpus is not there.
    """
    corpus = read_corpora(data_root, [benchmark.corpus])[benchmark.corpus]
    media = {s.id: s.media for s in corpus if s.task == benchmark.task and s.media}
    return tuple(e.with_picture(picture(data_root / media[e.name]) if e.name in media else None) for e in examples)


def picture(path: Path) -> str | None:
    """Return the frame at the middle of a clip; None where it has none or cannot be read."""
    try:
        clip = load_clip(path, num_frames=1)
    except MediaError:
        return None
    if clip.frames is None:
        return None
    frame = clip.frames[0]
    height, width = frame.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return base64.b64encode(jpeg.tobytes()).decode() if done else None
