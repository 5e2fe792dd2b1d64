"""Decode one container in this process; ``load`` is the public interface, ``isolated`` runs this in a child."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import numpy as np
import numpy.typing as npt

from nanoemox.media.subtitles import Cue, plain_text, words_between
from nanoemox.media.tracks import AudioTrack, FrameIndex, FrameReader, to_rgb
from nanoemox.types import Clip, MediaError

Source = str | Path | bytes | BinaryIO

_SILENT_PEAK = 2 / 32768
_WHOLE_SHARE = 0.9
"""Share of the declared duration below which a file counts as cut off."""
_RIFF_UNKNOWN = 2**32 - 256
"""Streaming writers put a size near the 32-bit limit, since they do not know it."""
_JPEG_MAX_BYTES = 64_000_000
_FOLLOWING = {"alsa", "concat", "dash", "dvdvideo", "fbdev", "fifo", "hls", "imf", "kmsgrab", "lavfi", "oss", "rtp"}
_FOLLOWING |= {"rtsp", "sap", "sdp", "tee", "tty", "video4linux2,v4l2", "vobsub", "webm_dash_manifest", "x11grab"}
"""Formats of libav that open other files, hosts or devices, or that decode any text as an image."""
_FORMATS = ",".join(sorted(av.formats_available - _FOLLOWING))
_PLAYLIST = re.compile(
    rb"\s*(?:#EXTM3U|ffconcat\b|v=0\r?\n|RTSPtext|\[(?:playlist|reference)\]|rtsp://|# VobSub|<asx\b|<smil\b"
    rb"|(?:<\?xml[^>]*>\s*)?(?:<!--.{0,400}?-->\s*)?<(?:MPD|CompositionPlaylist|SmoothStreamingMedia)\b)",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """How to read a clip.

    Attributes:
        num_frames: T, frames sampled from a video.
        frame_sampling: ``middle`` of T equal spans of time, or ``reference``, see
            :func:`nanoemox.media.windows.frame_indices_reference`.
        start_s: Start of the clip in the file, seconds.
        end_s: Its end; None for the end of the file.
        video_stream: Index of the stream in the file (as ffprobe counts); None for the best one.
        audio_stream: The same for audio.
        max_duration_s: Longest clip; longer raises.
        max_bytes: Largest in-memory source; larger raises.
        max_pixels: Largest frame in pixels; larger raises before it is decoded.
        max_frame_side: Longer side of the frames in pixels; larger ones are scaled down.
        time_limit_s: ``isolated`` only: the child is killed after this many seconds.
        memory_limit_mb: ``isolated`` only: address space of the child, on systems that can limit it (Linux).
    """

    num_frames: int = 8
    frame_sampling: Literal["middle", "reference"] = "middle"
    start_s: float = 0.0
    end_s: float | None = None
    video_stream: int | None = None
    audio_stream: int | None = None
    max_duration_s: float = 3600.0
    max_bytes: int = 2_000_000_000
    max_pixels: int = 64_000_000
    max_frame_side: int = 1280
    time_limit_s: float = 60.0
    memory_limit_mb: int = 4096

    def __post_init__(self) -> None:
        """Check the values."""
        if self.num_frames < 1:
            raise MediaError(f"num_frames={self.num_frames}: need at least 1")
        if not self.start_s >= 0 or (self.end_s is not None and not self.end_s > self.start_s):
            raise MediaError(f"start_s={self.start_s}, end_s={self.end_s}: need 0 <= start_s < end_s")


def decode(source: Source, name: str, opts: MediaOptions) -> Clip:
    """Decode in this process; the subtitle comes from an embedded text stream."""
    with open_container(source, name, opts) as (container, handle):
        return _read(container, name, opts, _ends_early(handle))


@contextmanager
def open_container(source: Source, name: str, opts: MediaOptions) -> Iterator[tuple[Any, BinaryIO]]:
    """Open a container safely; errors of libav become ``MediaError``."""
    handle = _open_handle(source)
    try:
        # No input may open other files or the network: playlists are refused by their first bytes and by their
        # format, the container is read through the handle, and all protocols are disabled.
        if _is_playlist(handle):
            raise MediaError(
                f"{name}: a playlist or manifest that refers to other files or hosts, which are never opened: "
                "give the video, audio or image file itself"
            )
        limits = {
            "max_pixels": str(opts.max_pixels),
            "protocol_whitelist": "none",
            "format_whitelist": _FORMATS,
        }
        with av.open(handle, options=limits) as container:
            yield container, handle
    # IndexError: av's demuxer, where a damaged file announces a stream late.
    except (av.error.FFmpegError, ValueError, IndexError, OverflowError, MemoryError, EOFError, OSError) as error:
        if isinstance(error, MediaError):
            raise
        default = "Cannot allocate memory" if isinstance(error, MemoryError) else "no reason given"
        reason = getattr(error, "strerror", None) or str(error) or default
        raise MediaError(
            f"{name}: cannot be read as video, audio or image ({reason}); it may be damaged, truncated or another "
            f"kind of file: check whether a player opens it, or re-encode it"
        ) from error
    finally:
        if handle is not source:
            handle.close()


def _open_handle(source: Source) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return Path(source).open("rb") if isinstance(source, str | Path) else source


def _is_playlist(handle: BinaryIO) -> bool:
    """Whether the file starts like a playlist; an unseekable source is left to libav's format whitelist."""
    if not handle.seekable():
        return False
    here = handle.tell()
    head = handle.read(4096)
    handle.seek(here)
    if head[:3] == b"ID3" and len(head) > 10:  # libav skips such a tag, and so must we
        head = head[10 + sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(head[6:10])) :]
    return _PLAYLIST.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def _ends_early(handle: BinaryIO) -> bool:
    """Whether a RIFF file is shorter than its header says, or a JPEG has no end; libav reports neither."""
    if not handle.seekable():
        return False
    here = handle.tell()
    handle.seek(0)
    head = handle.read(8)
    early = False
    if head[:4] == b"RIFF":
        promised = int.from_bytes(head[4:8], "little")
        early = 8 < promised < _RIFF_UNKNOWN and promised + 7 > handle.seek(0, io.SEEK_END)
    elif head[:3] == b"\xff\xd8\xff":
        rest = handle.read(_JPEG_MAX_BYTES)
        early = rest.count(b"\xff\xd9") < 1 + rest.count(b"\xff\xd8\xff")  # thumbnails have both markers
    handle.seek(here)
    return early


def _choose(container: Any, kind: str, wanted: int | None) -> Any:
    """Pick the best stream of a kind (never cover art), or the one at a given index in the file."""
    of_kind = [s for s in container.streams if s.type == kind and s.codec_context is not None]
    if wanted is not None:
        for stream in of_kind:
            if stream.index == wanted:
                return stream
        raise MediaError(f"{kind}_stream={wanted}: the {kind} streams of this file are {[s.index for s in of_kind]}")
    proper = [s for s in of_kind if not s.disposition & av.stream.Disposition.attached_pic]
    best = container.streams.best(kind) if proper else None
    return best if best in proper else next(iter(proper), None)


def select_streams(container: Any, name: str, opts: MediaOptions) -> tuple[Any, Any]:
    """Return the video and audio stream, either may be None; raise if there is neither."""
    video, audio = _choose(container, "video", opts.video_stream), _choose(container, "audio", opts.audio_stream)
    if video is None and audio is None:
        raise MediaError(f"{name}: contains neither video nor audio")
    return video, audio


def is_still(container: Any, audio: Any) -> bool:
    """Whether this is an image file."""
    return audio is None and (container.format.name.endswith("_pipe") or container.format.name == "image2")


def _read(container: Any, name: str, opts: MediaOptions, ends_early: bool) -> Clip:
    video, audio = select_streams(container, name, opts)
    if video is not None and video.width * video.height > opts.max_pixels:
        raise MediaError(f"{name}: {video.width}x{video.height} pixels, limit {opts.max_pixels}: scale it down")
    still = is_still(container, audio)
    declared = None if still or container.duration is None else container.duration / av.time_base
    stop_s = opts.end_s if opts.end_s is not None else declared
    if stop_s is not None and stop_s - opts.start_s > opts.max_duration_s:
        raise MediaError(
            f"{name}: {stop_s - opts.start_s:.0f} s, limit {opts.max_duration_s:.0f} s: "
            "choose a part with start_s and end_s, or raise max_duration_s"
        )
    scan = _Scan(container, video, audio, opts)
    if still:
        return scan.still(name, ends_early)
    scan.run()
    return scan.clip(name, declared, ends_early)


def first_s(streams: Iterable[Any]) -> float:
    """Return the time in the file, in seconds, at which the clip starts: where the earliest of its streams does."""
    return float(min((s.start_time * s.time_base for s in streams if s.start_time is not None), default=Fraction(0)))


def embedded_cues(source: Source, name: str) -> tuple[Cue, ...]:
    """Return the first text stream of a container, cue by cue, in seconds from the start of the clip.

    Raises:
        MediaError: The file cannot be read.
    """
    opts = MediaOptions()
    with open_container(source, name, opts) as (container, _):
        text = _text_stream(container)
        if text is None:
            return ()
        zero = first_s(s for s in select_streams(container, name, opts) if s is not None)
        cues: list[Cue] = []
        for packet in container.demux(text):
            with suppress(av.error.FFmpegError):  # a damaged one is skipped, as in a clip
                cues += _cues(packet, zero)
        return tuple(cues)


def _text_stream(container: Any) -> Any:
    return next((s for s in container.streams.subtitles if s.codec_context is not None), None)


def _cues(packet: Any, zero: float) -> Iterator[Cue]:
    """Yield the text of a packet of a text stream; without a duration it is displayed for two seconds."""
    if packet.pts is None:
        return
    start = float(packet.pts * packet.time_base) - zero
    length = float((packet.duration or 0) * packet.time_base) or 2.0
    for part in packet.decode():
        for rect in part if hasattr(part, "__iter__") else (part,):
            raw = getattr(rect, "dialogue", None) or getattr(rect, "text", None) or b""
            words = plain_text(raw.decode("utf-8", errors="replace") if isinstance(raw, bytes) else str(raw))
            if words:
                yield Cue(start, start + length, words)


def check_audio(samples: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32] | None, list[str]]:
    """Return the samples, or None and a warning if they are empty or silent."""
    if not samples.size:
        return None, ["the audio track cannot be decoded: speech is treated as missing"]
    if float(np.abs(samples).max()) <= _SILENT_PEAK:
        return None, ["the audio track is silent: speech is treated as missing"]
    return samples, []


class _Scan:
    """One pass over a container: audio, subtitles and frame timestamps; then the wanted frames are decoded."""

    def __init__(self, container: Any, video: Any, audio: Any, opts: MediaOptions) -> None:
        self.container, self.video, self.opts = container, video, opts
        self.text = _text_stream(container)
        self.chosen = [s for s in (video, audio) if s is not None]
        self.zero = first_s(self.chosen)
        stop = None if opts.end_s is None else self.zero + opts.end_s
        if audio is not None and audio.duration and "mp4" in container.format.name:
            # The last AAC packet is padded (128 ms at 8 kHz); only this container knows the true end.
            ends = float((audio.duration + (audio.start_time or 0)) * audio.time_base)
            stop = ends if stop is None else min(stop, ends)
        self.sound = AudioTrack(audio, self.zero + opts.start_s, stop, opts.max_duration_s)
        self.has_audio = audio is not None
        self.index = FrameIndex(video)
        self.cues: list[Cue] = []
        self.damaged = 0

    def run(self) -> None:
        """Process the packets from the start of the clip to its end."""
        if self.opts.start_s > 0:
            guide = self.chosen[0]
            self.container.seek(int((self.zero + self.opts.start_s) / guide.time_base), stream=guide)
        end = None if self.opts.end_s is None else self.zero + self.opts.end_s
        streams = [*self.chosen, *([self.text] if self.text else [])]
        open_streams = {s.index for s in self.chosen}
        try:
            for packet in self.container.demux(streams):
                self._take(packet)
                stamp = packet.dts if packet.dts is not None else packet.pts
                if end is not None and stamp is not None and stamp * packet.stream.time_base > end:
                    open_streams.discard(packet.stream.index)
                    if not open_streams:
                        break
        except av.error.FFmpegError:
            self.damaged += 1
        self.sound.finish()

    def _take(self, packet: Any) -> None:
        if packet.stream is self.video:
            self.index.add(packet)
            return
        try:
            if packet.stream is self.text:
                self.cues += _cues(packet, self.zero)
            else:
                self.sound.add(packet.decode())
        except av.error.FFmpegError:
            self.damaged += 1

    def still(self, name: str, ends_early: bool) -> Clip:
        """Decode an image file: one frame, duration 0."""
        reader = FrameReader(self.container, self.video, self.index, self.opts.max_pixels)
        frame = reader.first()
        if frame is None:
            raise MediaError(f"{name}: the image cannot be decoded: it may be damaged or truncated")
        warnings = ["one still image: no movement and no speech"]
        if ends_early or reader.damaged or frame.is_corrupt:
            warnings.append("the image is damaged or truncated: part of it may be blank")
        picture = to_rgb(frame, self.video, self.opts.max_frame_side)
        return Clip(name, picture[None], np.zeros(1), warnings=tuple(warnings))

    def clip(self, name: str, declared_s: float | None, ends_early: bool) -> Clip:
        """Build the clip from the results of the pass."""
        start = self.zero + self.opts.start_s
        last = max([self.sound.end_s, *([self.index.end_s] if self.index.pts else [])])
        end = last if self.opts.end_s is None else min(last, self.zero + self.opts.end_s)
        if end <= start:
            raise MediaError(
                f"{name}: nothing to read from start_s={self.opts.start_s:g} on: the file is empty, damaged "
                f"or ends at {max(last - self.zero, 0):.2f} s"
            )
        frames, times = self._pictures(start, end)
        sound, warnings = self.sound.samples(end), []
        speech = None
        if not self.has_audio:
            warnings.append("no audio track: speech is missing")
        else:
            speech, warnings = check_audio(sound)
        if frames is None:
            warnings.append("no frame can be decoded" if self.video is not None else "no video track")
        if frames is None and not sound.size:
            raise MediaError(f"{name}: neither video nor audio can be decoded: the file is damaged")
        whole = None if declared_s is None or self.opts.end_s is not None else declared_s - self.opts.start_s
        if ends_early or (whole is not None and end - start < _WHOLE_SHARE * whole - 0.1):
            more = f" of {whole:.1f} s" if whole and whole > end - start + 0.05 else ""
            warnings.append(f"the file ends early: {end - start:.1f} s{more} could be read")
        if self.damaged:
            warnings.append(f"{self.damaged} damaged parts of the file were skipped")
        words = words_between(self.cues, self.opts.start_s, end - self.zero)
        return Clip(name, frames, times, speech, end - start, self.index.fps, words, warnings=tuple(warnings))

    def _pictures(self, start: float, end: float) -> tuple[Any, Any]:
        if self.video is None or not self.index.pts:
            return None, None
        pick = self.index.middles if self.opts.frame_sampling == "middle" else self.index.left_edges
        wanted = pick(self.opts.num_frames, start, end)
        reader = FrameReader(self.container, self.video, self.index, self.opts.max_pixels, wanted)
        shown: Any = None
        pictures: list[npt.NDArray[np.uint8]] = []  # converted one by one, to release the decoded frames
        times: list[float] = []
        for pts in wanted:
            frame = reader.at(pts)
            if frame is None:
                continue
            if frame is not shown:
                size = pictures[0].shape[:2] if pictures else None
                picture = to_rgb(frame, self.video, self.opts.max_frame_side, size)
            shown = frame
            pictures.append(picture)
            times.append(float((frame.pts or 0) * self.video.time_base) - start)
        self.damaged += reader.damaged
        if not pictures:
            return None, None
        return np.stack(pictures), np.maximum(np.array(times), 0.0)
