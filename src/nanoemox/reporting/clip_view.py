"""What a page shows of a clip: small pictures, the face that was read, the outline of the sound, the words.

Made from a :class:`~nanoemox.types.Clip` right after decoding, so that its arrays need not be kept.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from nanoemox.faces.tracks import crop_faces
from nanoemox.types import Clip, Word

NUM_PEAKS: Final = 300
"""Columns of the drawn waveform."""
MAX_SHOTS: Final = 24
_FRAME_SIDE, _FACE_SIDE, _QUALITY = 240, 112, 80


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame, small.

    Attributes:
        time_s: When, in seconds from the start of the clip.
        frame: The picture as a ``data:`` URI, a JPEG.
        face: The face that was read in it, likewise, or None.
        index: Which of the clip's frames it is.
    """

    time_s: float
    frame: str
    face: str | None
    index: int


@dataclass(frozen=True, slots=True)
class ClipView:
    """What is shown of a clip.

    Attributes:
        duration_s: Length in seconds; 0.0 for a still picture.
        shots: Frames in order of time.
        peaks: Loudest sample of each of ``NUM_PEAKS`` equal stretches, in 0..1 of the loudest; empty without sound.
        subtitle: The words, or None.
        words: The words with their times, where they are known.
    """

    duration_s: float
    shots: tuple[Shot, ...] = ()
    peaks: tuple[float, ...] = ()
    subtitle: str | None = None
    words: tuple[Word, ...] = ()


def view_clip(clip: Clip) -> ClipView:
    """Take from a clip what a page shows of it."""
    return ClipView(
        clip.duration_s, _shots(clip), _peaks(clip.waveform), clip.subtitle, clip.heard.words if clip.heard else ()
    )


def _shots(clip: Clip) -> tuple[Shot, ...]:
    if clip.frames is None or not len(clip.frames):
        return ()
    chosen = np.unique(np.linspace(0, len(clip.frames) - 1, min(MAX_SHOTS, len(clip.frames))).round().astype(int))
    times = np.zeros(len(clip.frames)) if clip.frame_times_s is None else clip.frame_times_s
    faces = None
    if clip.face is not None and len(clip.face.boxes) == len(clip.frames):
        faces = crop_faces(clip.frames, clip.face, _FACE_SIDE)
    return tuple(
        Shot(
            float(times[i]),
            _jpeg(_small(clip.frames[i])),
            None if faces is None else _jpeg(faces[i]),
            int(i),
        )
        for i in chosen
    )


def _small(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Scale a picture down until its longer side is ``_FRAME_SIDE`` pixels at most."""
    height, width = frame.shape[:2]
    scale = min(1.0, _FRAME_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: npt.NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _peaks(waveform: npt.NDArray[np.float32] | None) -> tuple[float, ...]:
    if waveform is None or not len(waveform):
        return ()
    cuts = np.linspace(0, len(waveform), min(NUM_PEAKS, len(waveform)) + 1).astype(np.int64)[:-1]
    loudest = np.maximum.reduceat(np.abs(waveform), cuts)
    return tuple(np.round(loudest / max(float(loudest.max()), 1e-9), 3).tolist())
