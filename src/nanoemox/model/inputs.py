"""Conversion of inputs of transformers processors, and of conversations, to clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nanoemox.media.load import clip_from_arrays
from nanoemox.types import SAMPLE_RATE_HZ, Clip, MediaError, Turn

_FRAMES_PER_S = 1.0
"""Images have no times; they are placed one second apart."""


def clips_from_inputs(
    text: str | Sequence[str] | None, images: Any, audio: Any, sampling_rate: int = SAMPLE_RATE_HZ
) -> list[Clip]:
    """Make clips from the arguments of a transformers processor.

    Args:
        text: The transcript of one clip, or a list with one per clip.
        images: One clip: an image (PIL or uint8[H, W, 3] RGB), a list of images, or uint8[T, H, W, 3]. If
            ``text`` is a list: a list with one of these, or None, for each clip.
        audio: One clip: float[S] in -1..1, float[C, S], or int16. If ``text`` is a list: a list of these or None.
        sampling_rate: Sampling rate of the audio in hertz.

    Raises:
        MediaError: There is no input, or the lists have different lengths.
    """
    if text is None or isinstance(text, str):
        return [_clip(text, images, audio, sampling_rate)]
    pictures, sounds = _column("images", images, len(text)), _column("audio", audio, len(text))
    return [_clip(*row, sampling_rate) for row in zip(text, pictures, sounds, strict=True)]


def clip_from_conversation(messages: Sequence[Mapping[str, Any]], sampling_rate: int = SAMPLE_RATE_HZ) -> Clip:
    """Make a clip from a conversation in the format of chat templates.

    The ``text``, ``image`` and ``audio`` parts of the last message become the clip. Earlier
    messages become the history, text only.

    Raises:
        MediaError: There is no message, or a part of another type.
    """
    if not messages:
        raise MediaError("the conversation has no message: give at least one, of the role user")
    *earlier, last = messages
    words, images, sounds = _parts(last)
    clip = _clip(words or None, images or None, sounds[-1] if sounds else None, sampling_rate)
    return replace(clip, history=tuple(Turn(str(message["role"]), _parts(message)[0]) for message in earlier))


def _column(name: str, values: Any, length: int) -> list[Any]:
    column = [None] * length if values is None else list(values)
    if len(column) != length:
        raise MediaError(f"{name}: {len(column)} for {length} texts: give one, or None, for each text")
    return column


def _clip(words: str | None, images: Any, audio: Any, sampling_rate: int) -> Clip:
    frames = None if images is None else _pictures(images)
    waveform = None if audio is None else np.asarray(audio)
    return clip_from_arrays(frames, _FRAMES_PER_S, waveform, sampling_rate, num_frames=None, subtitle=words)


def _pictures(images: Any) -> npt.NDArray[np.uint8]:
    """Return uint8[T, H, W, 3]; the images of a clip must have one size."""
    several = list(images) if isinstance(images, list | tuple) else [images]
    arrays = [np.asarray(image.convert("RGB") if hasattr(image, "convert") else image) for image in several]
    stacked = [array if array.ndim == 4 else array[None] for array in arrays]
    if len({array.shape[1:] for array in stacked}) != 1:
        raise MediaError(f"pictures of one clip are of sizes {[a.shape[1:3] for a in stacked]}: bring them to one size")
    return np.concatenate(stacked)


def _parts(message: Mapping[str, Any]) -> tuple[str, list[Any], list[Any]]:
    """Return the text, images and audio of a message."""
    content = message.get("content", "")
    found: dict[str, list[Any]] = {"text": [], "image": [], "audio": []}
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        kind = part.get("type")
        if kind not in found or part.get(kind) is None:
            raise MediaError(f"a part of type {kind!r}: use text, image or audio, with the value under the same key")
        found[kind].append(part[kind])
    return " ".join(found["text"]).strip(), found["image"], found["audio"]
