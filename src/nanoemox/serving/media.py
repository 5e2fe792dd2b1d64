"""Media of a request (data URIs, base64, uploaded files, URLs), and how several become one clip."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from nanoemox.serving.errors import ApiError
from nanoemox.serving.pictures import letterbox
from nanoemox.types import Clip, Turn

Kind = Literal["image", "audio", "video"]


@dataclass(frozen=True, slots=True)
class Medium:
    """An image, audio or video: its bytes, its URL or the id of an uploaded file."""

    kind: Kind
    data: bytes | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)
    file_id: str | None = None


@dataclass(slots=True)
class ClipInput:
    """The content of a request.

    Attributes:
        words: What the speaker says, or None.
        history: Earlier turns.
        media: Images, audio and videos in order.
    """

    words: str | None = None
    history: list[Turn] = field(default_factory=list)
    media: list[Medium] = field(default_factory=list)


def medium_from_url(kind: Kind, url: str) -> Medium:
    """Return the medium of a URL or data URI."""
    if not url.startswith("data:"):
        return Medium(kind, url=url)
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ApiError(400, "a data URI must be of the form data:TYPE;base64,DATA", code="invalid_url")
    return medium_from_base64(kind, data)


def medium_from_base64(kind: Kind, data: str) -> Medium:
    """Decode base64."""
    try:
        found = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"the {kind} is not valid base64", code="invalid_base64") from None
    if not found:
        raise ApiError(400, f"the {kind} is empty", code="invalid_base64")
    return Medium(kind, found)


def merge(clips: Sequence[Clip], num_frames: int) -> Clip:
    """Combine clips: the frames of all images and videos in order, and the last audio.

    Images count as one second each.
    """
    if len(clips) == 1:
        return clips[0]
    shown = [c for c in clips if c.frames is not None]
    heard = [c for c in clips if c.waveform is not None]
    warnings = tuple(dict.fromkeys(w for c in clips for w in c.warnings if not w.startswith(("no ", "one still"))))
    base = replace(heard[-1] if heard else clips[0], warnings=warnings)
    if not shown:
        return base
    times, start = [], 0.0
    for clip in shown:
        stamps = clip.frame_times_s if clip.frame_times_s is not None else np.zeros(len(clip.frames or ()))
        times.append(stamps + start)
        start += clip.duration_s or 1.0
    size = shown[0].frames.shape[1:3] if shown[0].frames is not None else (1, 1)
    frames = np.concatenate([letterbox(c.frames, size) for c in shown if c.frames is not None])
    picked = np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().astype(int)
    length = base.duration_s if heard else start if len(frames) > 1 else 0.0
    return replace(base, frames=frames[picked], frame_times_s=np.concatenate(times)[picked], duration_s=length)
