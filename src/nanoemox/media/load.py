"""Load a :class:`~nanoemox.types.Clip` from a file, bytes or arrays. PyAV decodes everything.

One pass over the packets decodes the audio and collects the frame timestamps; then only the wanted frames are sought
and decoded. Letters: ``T`` frames, ``S`` waveform samples, ``H``/``W`` pixels.

Defined behaviour: an image gives one frame and duration 0; a video of fewer than T frames repeats some; transparent
pixels become white; rotation metadata and pixel aspect are applied; an all-zero audio track counts as no speech;
truncated or damaged files give what can be read and a warning.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanoemox.media.decode import MediaOptions, Source, check_audio, decode, embedded_cues
from nanoemox.media.duration import duration_s
from nanoemox.media.isolated import Launch, decode_isolated, run_once
from nanoemox.media.subtitles import Cue, read_sidecar, words_between
from nanoemox.media.tracks import AudioTrack
from nanoemox.types import SAMPLE_RATE_HZ, Clip, MediaError, Turn

_MAX_PEAK = 100.0
"""Floats slightly beyond -1..1 are loud; beyond this limit they were never scaled."""


def load_clip(
    source: Source,
    *,
    num_frames: int = 8,
    subtitle: str | None = None,
    history: Sequence[Turn] | None = None,
    name: str | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    isolated: bool | Launch = False,
    options: MediaOptions | None = None,
) -> Clip:
    """Load a clip: frames, audio, subtitle.

    Args:
        source: Path, the bytes of a file, or a binary file object.
        num_frames: T, frames sampled from a video.
        subtitle: What is said; None reads ``.srt``/``.vtt`` beside the file, else an embedded text stream; empty for
            none. (:mod:`nanoemox.inference.transcribe` does speech recognition.)
        history: Earlier turns of the dialogue, oldest first.
        name: Name of the clip; by default the file's name.
        start_s: Start of the clip in the file, seconds.
        end_s: Its end; None for the end of the file.
        isolated: Decode in a child process with time and memory limits, so that a hostile file can only crash the
            child. True starts one; :class:`nanoemox.media.forking.ForkServers` start them faster.
        options: Stream choice and limits; the arguments ``num_frames``, ``start_s`` and ``end_s`` take precedence.

    Raises:
        MediaError: Nothing in the source can be read, or a limit is exceeded.
    """
    opts = replace(options or MediaOptions(), num_frames=num_frames, start_s=start_s, end_s=end_s)
    path = Path(source) if isinstance(source, str | Path) else None
    name = name or (path.name if path else None) or "clip"
    _check_source(source, path, name, opts.max_bytes)
    if isolated:
        clip = decode_isolated(source, name, opts, run_once if isolated is True else isolated)
    else:
        clip = decode(source, name, opts)
    words = _words(clip, path, subtitle, opts)
    warnings = (
        clip.warnings if words and words.strip() else (*clip.warnings, "no words: no subtitle was given or found")
    )
    return replace(clip, subtitle=(words or "").strip() or None, history=tuple(history or ()), warnings=tuple(warnings))


def timed_subtitles(path: Path) -> tuple[Cue, ...]:
    """Return the cues of ``.srt``/``.vtt`` beside a file, else those of a text stream in it; empty if there are none.

    Raises:
        MediaError: A file cannot be read, or the one beside it is too large.
    """
    cues = read_sidecar(path)
    return embedded_cues(path, path.name) if cues is None else cues


def media_duration_s(source: str | Path) -> float:
    """Return the duration of a file in seconds from its container, 0.0 for an image; only its end is decoded.

    Raises:
        MediaError: The file cannot be read.
    """
    path = Path(source)
    _check_source(path, path, path.name, MediaOptions().max_bytes)
    return duration_s(path, path.name)


def clip_from_arrays(
    frames: npt.NDArray[np.uint8] | None = None,
    fps: float | None = None,
    waveform: npt.NDArray[Any] | None = None,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    *,
    num_frames: int | None = 8,
    subtitle: str | None = None,
    history: Sequence[Turn] = (),
    name: str = "clip",
) -> Clip:
    """Make a clip from decoded data (camera, microphone, another library).

    Args:
        frames: uint8[N, H, W, 3] RGB, or None.
        fps: Frames per second; needed with more than one frame.
        waveform: float[S'] or float[C, S'] in -1..1, or int16 of the same shape, or None.
        sample_rate_hz: Rate of ``waveform``; resampled to 16 kHz.
        num_frames: T, frames at the middles of T equal spans; None keeps all.
        subtitle: What is said, if known.
        history: Earlier turns of the dialogue.
        name: Name of the clip.
    """
    times = picked = None
    seconds = 0.0
    if frames is not None and len(frames):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise MediaError(f"frames are {frames.dtype}{list(frames.shape)}: need uint8[N, H, W, 3] RGB")
        if (fps is not None and not 0 < fps < float("inf")) or (len(frames) > 1 and fps is None):
            raise MediaError(f"fps={fps}: {len(frames)} frame(s) need a frame rate that is positive and finite")
        seconds = len(frames) / fps if fps else 0.0
        index = np.arange(len(frames))
        if num_frames is not None and len(frames) > 1:
            index = ((np.arange(num_frames) + 0.5) / num_frames * len(frames)).astype(np.int64)
        picked, times = frames[index], index / fps if fps else np.zeros(len(index))
    sound: npt.NDArray[np.float32] | None = None
    warnings: list[str] = []
    if waveform is not None and np.size(waveform):
        finite, lost = _finite(np.asarray(waveform))
        sound, warnings = check_audio(AudioTrack.resample(finite, sample_rate_hz))
        warnings += lost
        seconds = max(seconds, np.shape(waveform)[-1] / sample_rate_hz)
    if picked is None and sound is None and not subtitle:
        silent = f" ({'; '.join(warnings)})" if warnings else ""
        raise MediaError(f"{name}: no frames, no sound{silent} and no subtitle: give at least one of them")
    return Clip(name, picked, times, sound, seconds, fps, subtitle, tuple(history), warnings=tuple(warnings))


def _finite(waveform: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], list[str]]:
    """Replace NaN and infinity by silence; raise for samples far out of range, whose squares would overflow."""
    if waveform.dtype.kind != "f":
        return waveform, []
    bad = ~np.isfinite(waveform)
    clean = np.where(bad, 0, waveform)
    if (peak := float(np.abs(clean).max())) > _MAX_PEAK:
        raise MediaError(f"waveform reaches {peak:g}: floats must lie in -1..1; divide samples of 16 bits by 32768")
    return clean, [f"{int(bad.sum())} samples are NaN or infinite: replaced by silence"] if bad.any() else []


def _words(clip: Clip, path: Path | None, subtitle: str | None, opts: MediaOptions) -> str | None:
    if subtitle is not None:
        return subtitle
    cues = read_sidecar(path) if path else None
    stop_s = float("inf") if opts.end_s is None else opts.end_s
    return clip.subtitle if cues is None else words_between(cues, opts.start_s, stop_s)


def _check_source(source: Source, path: Path | None, name: str, max_bytes: int) -> None:
    if path is not None:
        if not path.exists():
            raise MediaError(f"{name}: no such file")
        if not path.is_file():
            raise MediaError(f"{name}: not a file")
    if isinstance(source, io.TextIOBase):
        raise MediaError(f"{name}: a file opened as text: open it with mode 'rb'")
    size = path.stat().st_size if path else len(source) if isinstance(source, bytes) else None
    if size == 0:
        raise MediaError(f"{name}: the file is empty (0 bytes)")
    if isinstance(source, bytes) and len(source) > max_bytes:
        raise MediaError(f"{name}: {size} bytes in memory, limit {max_bytes}: give a path instead or raise max_bytes")
