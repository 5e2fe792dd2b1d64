"""Images: JPEG headers, decoding, scaling."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from nanoemox.types import MediaError

MAX_SIDE: Final = 640
"""Longer side of the images that a stream keeps."""
NO_JPEG: Final = "the image cannot be decoded: send JPEG"


_WITHOUT_LENGTH: Final = frozenset((0x00, 0x01, *range(0xD0, 0xDA)))


def is_jpeg(data: bytes) -> bool:
    """Whether a binary message is an image; a chunk of audio passes by chance once in 10^12."""
    return data[:3] == b"\xff\xd8\xff" and data[-2:] == b"\xff\xd9"


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG from its header, without decoding it.

    Markers without a length are refused before the size: a decoder skips them, and would read on elsewhere than we do.

    Raises:
        MediaError: There is no valid header.
    """
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # a byte that fills up, as decoders read it too
            at += 1
            continue
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _WITHOUT_LENGTH or length < 2:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            if width and height:
                return width, height
            break
        at += 2 + length
    raise MediaError(NO_JPEG)


def jpeg_pixels(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode a JPEG to uint8[H, W, 3], RGB.

    Raises:
        MediaError: It cannot be decoded.
    """
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # OpenCV's own limits
        decoded = None
    if decoded is None:
        raise MediaError(NO_JPEG)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def shrink(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Scale uint8[H, W, 3] down to a longer side of ``MAX_SIDE``."""
    scale = MAX_SIDE / max(frame.shape[:2])
    if scale >= 1:
        return frame
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def letterbox(frames: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Scale uint8[T, H, W, 3] into this height and width with black borders."""
    if frames.shape[1:3] == size:
        return frames
    height, width = size
    scale = min(height / frames.shape[1], width / frames.shape[2])
    h, w = max(1, round(frames.shape[1] * scale)), max(1, round(frames.shape[2] * scale))
    out = np.zeros((len(frames), height, width, 3), np.uint8)
    top, left = (height - h) // 2, (width - w) // 2
    for i, frame in enumerate(frames):
        out[i, top : top + h, left : left + w] = cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA)
    return out
