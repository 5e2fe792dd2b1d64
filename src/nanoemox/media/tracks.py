"""The tracks of a container: audio resampled to 16 kHz mono, video frames by timestamp."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from nanoemox.media.windows import frame_indices_reference
from nanoemox.types import SAMPLE_RATE_HZ, MediaError

_GAP_S = 0.1
"""Tolerated drift of timestamps from the sample count; beyond it silence is inserted."""
_BEFORE_START_S = 2.5
"""Seeking this far before the first frame finds the start of any file."""
_FULL_SCALE = 2.0**31


def _resampler() -> Any:
    # s32 and not float: only for integer output does libswresample scale a downmix so that it cannot clip.
    return av.AudioResampler(format="s32", layout="mono", rate=SAMPLE_RATE_HZ)


class AudioTrack:
    """Samples of one stream between two times of the container, placed by their timestamps."""

    def __init__(self, stream: Any, start_s: float, stop_s: float | None, max_duration_s: float) -> None:
        self.stream, self.start_s, self.stop_s, self.max_duration_s = stream, start_s, stop_s, max_duration_s
        self._pieces: list[npt.NDArray[np.float32]] = []
        self._length = 0
        self._resampler = _resampler()
        self._begun = self._fed = False

    @property
    def end_s(self) -> float:
        """End of the last sample, in time of the container."""
        return self.start_s + self._length / SAMPLE_RATE_HZ

    def add(self, frames: Iterable[Any]) -> None:
        """Append decoded frames; a change of layout or rate starts a new resampler."""
        for frame in frames:
            if frame.time is not None:
                self._align(float(frame.time))
            try:
                pieces = self._resampler.resample(frame)
            except ValueError:
                self.finish()
                pieces = self._resampler.resample(frame)
            self._fed = True
            self._append(pieces)

    def finish(self) -> None:
        """Drain the resampler."""
        if self._fed:
            self._append(self._resampler.resample(None))
        self._resampler, self._fed = _resampler(), False

    def _align(self, time_s: float) -> None:
        target = time_s - self.start_s
        gap = target - self._length / SAMPLE_RATE_HZ
        if self.stop_s is not None and time_s > self.stop_s:
            return
        if target > self.max_duration_s:
            raise MediaError(
                f"audio at {target:.0f} s, limit {self.max_duration_s:.0f} s: "
                "choose a part with start_s and end_s, or raise max_duration_s"
            )
        if gap > _GAP_S or (not self._begun and gap > 0):
            self._put(np.zeros(round(gap * SAMPLE_RATE_HZ), np.float32))
        elif not self._begun and gap < 0:
            self._length = round(gap * SAMPLE_RATE_HZ)  # negative: samples before the start are dropped
        self._begun = True

    def _append(self, frames: Iterable[Any]) -> None:
        for frame in frames:
            samples = np.frombuffer(frame.planes[0], np.int32, frame.samples)  # to_ndarray is three times slower
            self._put((samples / _FULL_SCALE).astype(np.float32))

    def _put(self, piece: npt.NDArray[np.float32]) -> None:
        early = max(0, -self._length)
        self._length += len(piece)
        if self._length > self.max_duration_s * SAMPLE_RATE_HZ:
            raise MediaError(f"more than {self.max_duration_s:.0f} s of audio: choose a part with start_s and end_s")
        stop = None if self.stop_s is None else round((self.stop_s - self.start_s) * SAMPLE_RATE_HZ)
        kept = piece[early:]
        if stop is not None and self._length > stop:
            kept = kept[: max(0, len(kept) - (self._length - stop))]
            self._length = max(stop, 0)
        if kept.size:
            self._pieces.append(kept)

    def samples(self, end_s: float) -> npt.NDArray[np.float32]:
        """Return float32[S] from the start of the clip to ``end_s`` at most."""
        if not self._pieces:
            return np.zeros(0, np.float32)
        self._pieces = [np.concatenate(self._pieces)]  # frees the small pieces
        return self._pieces[0][: max(0, round((end_s - self.start_s) * SAMPLE_RATE_HZ))]

    @staticmethod
    def resample(waveform: npt.NDArray[Any], sample_rate_hz: int) -> npt.NDArray[np.float32]:
        """Convert an array, [S] or [C, S], float in -1..1 or int16, to float32[S'], mono, 16 kHz."""
        if waveform.dtype != np.int16 and waveform.dtype.kind != "f":
            raise MediaError(f"waveform is {waveform.dtype}: need a float type in -1..1, or int16")
        if waveform.ndim not in (1, 2) or sample_rate_hz <= 0:
            raise MediaError(
                f"waveform{list(waveform.shape)} at {sample_rate_hz} Hz: need [S] or [C, S] and a rate > 0"
            )
        if waveform.ndim == 2 and waveform.shape[0] > waveform.shape[1]:
            raise MediaError(f"waveform{list(waveform.shape)} looks like [S, C]: give [C, S], its transpose")
        scale = 32768.0 if waveform.dtype == np.int16 else 1.0
        mono: npt.NDArray[np.float32] = (np.atleast_2d(waveform).mean(0) / scale).astype(np.float32)
        if sample_rate_hz == SAMPLE_RATE_HZ:
            return mono
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono[None]), format="flt", layout="mono")
        frame.sample_rate = sample_rate_hz
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
        parts = [f.to_ndarray().reshape(-1) for f in (*resampler.resample(frame), *resampler.resample(None))]
        return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


class FrameIndex:
    """Presentation times and key frames of one stream, from its packets without decoding."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.pts: list[int] = []
        self.keys: list[int] = []
        self._end = 0
        self._sorted = False

    def add(self, packet: Any) -> None:
        """Add a packet."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or not packet.size or packet.is_discard:
            return
        self.pts.append(stamp)
        if packet.is_keyframe:
            self.keys.append(stamp)
        self._end = max(self._end, stamp + (packet.duration or self._one_frame()))
        self._sorted = False

    def _one_frame(self) -> int:
        rate = self.stream.average_rate
        return int(1 / rate / self.stream.time_base) if rate else 0

    @property
    def end_s(self) -> float:
        """End of the last frame, in time of the container."""
        return float(self._end * self.stream.time_base)

    @property
    def fps(self) -> float | None:
        """Mean frame rate; None without frames."""
        if self.stream is None or not self.pts:
            return None
        if self.stream.average_rate:
            return float(self.stream.average_rate)
        span = float((max(self.pts) - min(self.pts)) * self.stream.time_base)
        return (len(self.pts) - 1) / span if span > 0 else None

    def _sort(self) -> None:
        if not self._sorted:
            self.pts.sort()
            self.keys.sort()
            self._sorted = True

    def middles(self, count: int, start_s: float, end_s: float) -> list[int]:
        """Timestamps of the frames displayed at the middles of ``count`` equal spans of the video track."""
        self._sort()
        base = self.stream.time_base
        low = max(start_s, float(self.pts[0] * base))
        high = min(end_s, self.end_s)
        low = min(low, high)
        times = [low + (i + 0.5) / count * (high - low) for i in range(count)]
        return [self.pts[max(0, bisect_right(self.pts, int(t / base)) - 1)] for t in times]

    def left_edges(self, count: int, start_s: float, end_s: float) -> list[int]:
        """Reference: timestamps of the frames that the authors' code samples between two times."""
        self._sort()
        base = self.stream.time_base
        first, stop = bisect_left(self.pts, start_s / base), bisect_left(self.pts, end_s / base)
        inside = self.pts[first:stop] or self.pts[max(0, first - 1) :][:1]
        return [inside[i] for i in frame_indices_reference(len(inside), count)]

    def key_before(self, pts: int) -> int:
        """Timestamp of the key frame at which decoding must start."""
        self._sort()
        at = bisect_right(self.keys, pts) - 1
        return self.keys[at] if at >= 0 else self.pts[0] if self.pts else 0


class FrameReader:
    """Decodes the frames at given timestamps; seeks if a key frame is nearer than the current position.

    Frames that are neither wanted nor referenced are skipped, as long as decoded frames have the timestamps of their
    packets.
    """

    def __init__(
        self, container: Any, stream: Any, index: FrameIndex, max_pixels: int, wanted: Iterable[int] = ()
    ) -> None:
        self.container, self.stream, self.index, self.max_pixels = container, stream, index, max_pixels
        self.damaged = 0
        self._wanted = frozenset(wanted)  # all of them: a threaded decoder runs ahead of the requested one
        self._skips = bool(self._wanted)
        self._held: Any = None  # the last decoded frame
        self._shown: Any = None  # the last one returned
        self._coming: Iterator[Any] = iter(())
        context = stream.codec_context
        context.thread_count = min(4, os.cpu_count() or 1)
        context.thread_type = "AUTO"

    def first(self) -> Any | None:
        """Decode the first frame of a file without timestamps."""
        return next(self._decode(), None)

    def at(self, pts: int) -> Any | None:
        """Decode the frame displayed at ``pts``, one of ``wanted``; non-decreasing calls are fastest."""
        key = self.index.key_before(pts)
        if self._held is None or self._held.pts > pts or key > self._held.pts:
            if self._shown is not None and self._shown.pts == pts:
                return self._shown
            self._start(key)
        best = self._advance(pts)
        if self._skips and (best is None or best.pts != pts):  # damage, or decoding changes timestamps
            self._skips = False
            self._start(key)
            best = self._advance(pts)
        if best is None or best.pts > pts:  # the seek landed late, or the index is wrong: decode from the start
            self._start(None)
            best = self._advance(pts) or best
        self._shown = best
        return best

    def _advance(self, pts: int) -> Any | None:
        best = self._held if self._held is not None and self._held.pts <= pts else None
        if best is not None and best.pts == pts:
            return best
        for frame in self._coming:
            self._held = frame
            if frame.pts > pts:
                return best or frame
            best = frame
            if frame.pts == pts:
                break
        return best

    def _start(self, key: int | None) -> None:
        self._held = None
        try:
            if key is None:
                early = self.index.pts[0] - int(_BEFORE_START_S / self.stream.time_base)
                self.container.seek(early, stream=self.stream)
            else:
                self.container.seek(key, stream=self.stream)
        except av.error.FFmpegError:
            self.damaged += 1
        self._coming = self._decode()

    def _decode(self) -> Iterator[Any]:
        context = self.stream.codec_context
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                self.damaged += 1
                return
            skip = self._skips and packet.pts is not None and packet.pts not in self._wanted
            context.skip_frame = "NONREF" if skip else "DEFAULT"
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError):
                self.damaged += 1
                continue
            for frame in frames:
                if frame.width * frame.height > self.max_pixels:
                    raise MediaError(f"{frame.width}x{frame.height} pixels, limit {self.max_pixels}: scale it down")
                if frame.pts is None:
                    frame.pts = frame.dts
                if frame.pts is not None or not self.index.pts:
                    yield frame


def to_rgb(frame: Any, stream: Any, max_side: int, size: tuple[int, ...] | None = None) -> npt.NDArray[np.uint8]:
    """Convert a decoded frame to uint8[H, W, 3] RGB: upright, square pixels, white for transparency, bounded size.

    Args:
        frame: A decoded PyAV frame.
        stream: Its stream.
        max_side: Longer side in pixels; larger frames are scaled down.
        size: Height and width of the result (frames of one clip share a size), or None.
    """
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    aspect = float(stream.sample_aspect_ratio or 1)
    width, height = float(frame.width), float(frame.height)
    if 0.1 < aspect < 10:
        width *= aspect
    shrink = min(1.0, max_side / max(width, height))
    wide, high = max(1, round(width * shrink)), max(1, round(height * shrink))
    if size is not None:
        wide, high = (size[1], size[0]) if turns % 2 == 0 else (size[0], size[1])
    alpha = any(c.is_alpha for c in frame.format.components)
    scale = "AREA" if shrink < 1 else "BICUBIC"
    rgb = frame.reformat(width=wide, height=high, format="rgba" if alpha else "rgb24", interpolation=scale).to_ndarray()
    if alpha:
        opacity = rgb[..., 3:].astype(np.float32) / 255
        rgb = np.rint(rgb[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.ascontiguousarray(np.rot90(rgb, turns))
