"""How long a clip is, without decoding it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av

from nanoemox.media.decode import MediaOptions, Source, decode, is_still, opened, tracks_of
from nanoemox.types import MediaError

_TAIL_S = 30.0
"""How much of a file is read to find where it ends; shorter files are read whole."""


def duration_s(source: Source, name: str) -> float:
    """Return how long a clip is in seconds, 0.0 for a still picture, without decoding it.

    The container's word is checked at the end of the file alone; where there is none or it is wrong, the packets say.
    """
    opts = MediaOptions(num_frames=1)
    with opened(source, name, opts) as (container, _):
        video, audio = tracks_of(container, name, opts)
        if is_still(container, audio):
            return 0.0
        declared_s: float | None = None if container.duration is None else container.duration / av.time_base
        if declared_s is None:
            return _last_packet_s(container, [s for s in (video, audio) if s is not None])
    start_s = max(0.0, declared_s - _TAIL_S)
    try:
        return start_s + decode(source, name, replace(opts, start_s=start_s)).duration_s
    except MediaError:  # cut off long before
        with opened(source, name, opts) as (container, _):
            tracks = tracks_of(container, name, opts)
            return _last_packet_s(container, [s for s in tracks if s is not None])


def _last_packet_s(container: Any, streams: Sequence[Any]) -> float:
    """Return the end of the last packet that can be read, in seconds from the start of the clip."""
    zero = float(min((s.start_time * s.time_base for s in streams if s.start_time is not None), default=Fraction(0)))
    end = zero
    try:
        for packet in container.demux(streams):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None and packet.size:
                end = max(end, float((stamp + (packet.duration or 0)) * packet.time_base))
    except av.error.FFmpegError:
        pass  # what lies behind the damage cannot be read
    return end - zero
