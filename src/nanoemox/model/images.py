"""Images for the encoders: square, resized, normalised, in plain torch (no image library).

Letters: ``T`` frames, ``H``/``W`` pixels of the source, ``S`` side of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def fit_square(frames: np.ndarray, size: int, fit: Literal["squash", "crop", "pad"]) -> Tensor:
    """Make frames square: uint8[T, H, W, 3] -> uint8[T, 3, S, S].

    Args:
        frames: RGB frames.
        size: S.
        fit: ``squash`` ignores the aspect ratio (Reference), ``crop`` scales the shorter side to S and takes the
            centre (as CLIP does), ``pad`` scales the longer side to S and fills with black.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    height, width = pixels.shape[-2:]
    if fit == "squash":
        return _resize(pixels, size, size)
    if fit == "crop":
        short = min(height, width)
        # The library's own rounding: the longer side is cut, not rounded.
        pixels = _resize(pixels, int(size * height / short), int(size * width / short))
        top, left = (pixels.shape[-2] - size) // 2, (pixels.shape[-1] - size) // 2
        return pixels[..., top : top + size, left : left + size].contiguous()
    long = max(height, width)
    new_h, new_w = max(1, round(size * height / long)), max(1, round(size * width / long))
    top, left = (size - new_h) // 2, (size - new_w) // 2
    return functional.pad(_resize(pixels, new_h, new_w), (left, size - new_w - left, top, size - new_h - top))


def _resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Resize uint8[T, 3, H, W] bicubically with antialiasing, to 8-bit levels.

    Width first, then height, with rounding and clipping between the passes as image libraries do: one pass in float
    differs from them by up to 13 levels where an overshoot is cut.
    """
    for size in ((pixels.shape[-2], width), (height, width)):
        if pixels.shape[-2:] != size:
            wide = functional.interpolate(pixels.float(), size, mode="bicubic", antialias=True, align_corners=False)
            pixels = (wide + 0.5).floor().clamp(0, 255).to(torch.uint8)  # rounds half up, as they do
    return pixels.contiguous()


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale uint8[T, 3, S, S] to 0..1 and standardise each channel: float32[T, 3, S, S]."""
    shape = (1, 3, 1, 1)
    return (pixels.float() / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
