"""Duration of a clip without decoding it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import av

from nanoemox.media.decode import MediaOptions, Source, decode, first_s, is_still, open_container, select_streams
from nanoemox.types import MediaError

_TAIL_S = 30.0
"""Length of the decoded end of a file; shorter files are decoded completely."""


def duration_s(source: Source, name: str) -> float:
    """Return the duration of a clip in seconds, 0.0 for an image, without decoding it.

    The container's duration is verified at the end of the file; if it is absent or wrong, the packets are read.
    """
    opts = MediaOptions(num_frames=1)
    with open_container(source, name, opts) as (container, _):
        video, audio = select_streams(container, name, opts)
        if is_still(container, audio):
            return 0.0
        declared_s: float | None = None if container.duration is None else container.duration / av.time_base
        if declared_s is None:
            return _last_packet_s(container, [s for s in (video, audio) if s is not None])
    start_s = max(0.0, declared_s - _TAIL_S)
    try:
        return start_s + decode(source, name, replace(opts, start_s=start_s)).duration_s
    except MediaError:  # truncated long before
        with open_container(source, name, opts) as (container, _):
            tracks = select_streams(container, name, opts)
            return _last_packet_s(container, [s for s in tracks if s is not None])


def _last_packet_s(container: Any, streams: Sequence[Any]) -> float:
    """Return the end of the last readable packet, in seconds from the start of the clip."""
    end = zero = first_s(streams)
    try:
        for packet in container.demux(streams):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None and packet.size:
                end = max(end, float((stamp + (packet.duration or 0)) * packet.time_base))
    except av.error.FFmpegError:
        pass  # nothing after the damage can be read
    return end - zero
