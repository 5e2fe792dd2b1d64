"""What a request carries, made into one clip: data URIs, base64, uploaded files, URLs where they are allowed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from nanoemox.serving.errors import Refusal
from nanoemox.serving.pictures import fitted
from nanoemox.types import Clip, Turn

Kind = Literal["image", "audio", "video"]


@dataclass(frozen=True, slots=True)
class Medium:
    """A picture, a sound or a video: its bytes, where it lies, or its id among the uploaded files."""

    kind: Kind
    data: bytes | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)
    file_id: str | None = None


@dataclass(slots=True)
class Spoken:
    """What a request says and carries.

    Attributes:
        words: What the person says, or None.
        history: Earlier turns.
        media: In the order given.
    """

    words: str | None = None
    history: list[Turn] = field(default_factory=list)
    media: list[Medium] = field(default_factory=list)


def medium_at(kind: Kind, url: str) -> Medium:
    """Return the medium of a URL; a data URI holds it already."""
    if not url.startswith("data:"):
        return Medium(kind, url=url)
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise Refusal(400, "a data URI must be of the form data:TYPE;base64,DATA", code="invalid_url")
    return medium_of(kind, data)


def medium_of(kind: Kind, data: str) -> Medium:
    """Return the medium that some base64 holds."""
    try:
        found = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, f"the {kind} is not valid base64", code="invalid_base64") from None
    if not found:
        raise Refusal(400, f"the {kind} is empty", code="invalid_base64")
    return Medium(kind, found)


def merge(clips: Sequence[Clip], num_frames: int) -> Clip:
    """Make one clip of several: the frames of all pictures and videos in order, the last sound.

    Pictures are taken as one second apart.
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
    frames = np.concatenate([fitted(c.frames, size) for c in shown if c.frames is not None])
    picked = np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().astype(int)
    length = base.duration_s if heard else start if len(frames) > 1 else 0.0
    return replace(base, frames=frames[picked], frame_times_s=np.concatenate(times)[picked], duration_s=length)
