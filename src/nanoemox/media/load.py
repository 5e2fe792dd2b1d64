"""From a file, bytes or arrays to a :class:`~nanoemox.types.Clip`. PyAV decodes everything.

One pass over the packets decodes the sound and lists the pictures' timestamps without decoding them; then only the
pictures that are wanted are sought. Letters: ``T`` frames, ``S`` waveform samples, ``H``/``W`` pixels.

Defined behaviour: a still picture gives one frame and duration 0; a video of fewer than T frames repeats some;
transparent pixels are laid on white; rotation metadata and pixel aspect are applied; a track of zeros counts as no
speech; files that end early or hold damaged parts give what could be read and a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanoemox.media.decode import MediaOptions, Source, checked_sound, decode
from nanoemox.media.duration import duration_s
from nanoemox.media.isolated import Launch, decode_isolated, run_once
from nanoemox.media.subtitles import read_sidecar, words_between
from nanoemox.media.tracks import AudioTrack
from nanoemox.types import SAMPLE_RATE_HZ, Clip, MediaError, Turn

_MAX_PEAK = 100.0
"""Floats somewhat beyond -1..1 are loud; floats beyond this were never scaled."""


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
    """Read a clip: frames, sound, words.

    Args:
        source: Path, the bytes of a file, or a binary file object.
        num_frames: T, pictures taken from a video.
        subtitle: The words; None reads ``.srt``/``.vtt`` beside the file, else an embedded text stream; empty for
            none. (:mod:`nanoemox.inference.transcribe` hears those that nobody wrote down.)
        history: Earlier turns of the dialogue, oldest first.
        name: What to call the clip; default the file's name.
        start_s: Where the clip starts in the file, seconds.
        end_s: Where it ends; None for the end of the file.
        isolated: Decode in a child process with time and memory limits: a hostile file can kill the child only. True
            starts one; :class:`nanoemox.media.forking.Forkers` have them sooner.
        options: Stream choice and limits; ``num_frames``, ``start_s`` and ``end_s`` above replace its own.

    Raises:
        MediaError: Nothing in the source can be read, or a limit is passed.
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


def media_duration_s(source: str | Path) -> float:
    """Return the length of a file in seconds from its container, 0.0 for a still picture; only its end is decoded.

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
    """Make a clip from what is already decoded (camera, microphone, another library).

    Args:
        frames: uint8[N, H, W, 3] RGB, or None.
        fps: Frames per second; needed with more than one frame.
        waveform: float[S'] or float[C, S'] in -1..1, or int16 of the same shape, or None.
        sample_rate_hz: Rate of ``waveform``; resampled to 16 kHz.
        num_frames: T frames at the middles of T equal spans; None keeps all.
        subtitle: The words, if known.
        history: Earlier turns of the dialogue.
        name: What to call the clip.
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
        sound, warnings = checked_sound(AudioTrack.resample(finite, sample_rate_hz))
        warnings += lost
        seconds = max(seconds, np.shape(waveform)[-1] / sample_rate_hz)
    if picked is None and sound is None and not subtitle:
        raise MediaError(f"{name}: no frames, no sound and no words: give at least one of them")
    return Clip(name, picked, times, sound, seconds, fps, subtitle, tuple(history), warnings=tuple(warnings))


def _finite(waveform: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], list[str]]:
    """Put silence where a sample is no number; refuse samples far out of range, whose squares would overflow."""
    if waveform.dtype.kind != "f":
        return waveform, []
    bad = ~np.isfinite(waveform)
    clean = np.where(bad, 0, waveform)
    if (peak := float(np.abs(clean).max())) > _MAX_PEAK:
        raise MediaError(f"waveform reaches {peak:g}: floats must lie in -1..1; divide samples of 16 bits by 32768")
    return clean, [f"{int(bad.sum())} samples are no numbers: silence is put in their place"] if bad.any() else []


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
    size = path.stat().st_size if path else len(source) if isinstance(source, bytes) else None
    if size == 0:
        raise MediaError(f"{name}: the file is empty (0 bytes)")
    if isinstance(source, bytes) and len(source) > max_bytes:
        raise MediaError(f"{name}: {size} bytes in memory, limit {max_bytes}: give a path instead or raise max_bytes")
