"""One look of a detector at one whole frame: upright, with the head tilted, or at a close-up that cuts the face off.

Letters: ``H``/``W`` pixels. What a *sight* is: ``detectors``. Lengths are in pixels of the frame.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from nanoemox.faces.detectors import Detector, Image, Sights, strongest

WORK_SIDE_PX: Final = 480
"""Frames are looked at with this long side: more finds no more faces in real clips and costs in proportion."""
MIN_SIDE: Final = 1 / 15
"""Smallest face side as a share of the frame's long side; below it Haar mostly sees texture."""
MIN_SIDE_PX: Final = 24
"""Smallest face side in pixels of the frame: fewer show no expression, and enlarging them invents faces."""
CROP_ASPECT: Final = 1.25
"""Frames nearer to square than this may be tight face crops, whose face touches the edge."""
CROP_SIDE_PX: Final = 160
CROP_BORDER: Final = 0.2
"""Border put around such a frame, as a share of its long side: cascades need room around a face."""
TILTS_DEG: Final = (-20.0, 20.0)
"""Head tilts tried where the upright look finds nothing; a cascade itself bears about 15 degrees."""
CLOSE_BORDERS: Final = (0.2, 0.4)
"""Borders tried at last, as shares of the long side: a close-up of whatever shape may cut the face off."""
CLOSE_SIDE: Final = 0.5
"""Smallest face side in a close-up, as a share of the frame's short side: a border gives textures room as well."""


def look(detector: Detector, frame: Image, degrees: float = 0.0) -> Sights:
    """Run the detector on a whole frame turned by ``degrees``; sights are in pixels of the frame."""
    border = CROP_BORDER if may_be_crop(frame) else 0.0
    least = max(MIN_SIDE * max(frame.shape[:2]) * (1 + 2 * border), MIN_SIDE_PX)
    return _framed(detector, frame, degrees, border, least)


def look_tilted(detector: Detector, frame: Image) -> Sights:
    """Look for heads tilted to either side."""
    return strongest(np.concatenate([look(detector, frame, degrees) for degrees in TILTS_DEG]))


def look_close(detector: Detector, frame: Image) -> Sights:
    """Look for one face that fills the frame and more."""
    least = max(CLOSE_SIDE * min(frame.shape[:2]), MIN_SIDE_PX)
    tried = [(degrees, border) for border in CLOSE_BORDERS for degrees in (0.0, *TILTS_DEG)]
    return strongest(np.concatenate([_framed(detector, frame, *one, least) for one in tried]))


def _framed(detector: Detector, frame: Image, degrees: float, border: float, min_side_px: float) -> Sights:
    """Run the detector on a frame with a border (share of its long side); all lengths are in pixels of the frame."""
    height, width = frame.shape[:2]
    scale = WORK_SIDE_PX / (max(height, width) * (1 + 2 * border))
    out_w, out_h = round(width * scale), round(height * scale)
    mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(frame, (max(1, out_w), max(1, out_h)), interpolation=mode)
    pad = round(border * max(out_w, out_h))
    small = cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    sights = turned(detector, small, degrees, min_side_px * scale)
    sights[:, :2] -= pad
    sights[:, :3] /= scale
    return sights


def may_be_crop(frame: Image) -> bool:
    """Say whether the frame is near to square or tiny, as face crops are."""
    short, long = sorted(frame.shape[:2])
    return long < CROP_ASPECT * short or long < CROP_SIDE_PX


def turned(detector: Detector, image: Image, degrees: float, min_side_px: float) -> Sights:
    """Run the detector on a turned picture and turn the centres back."""
    if degrees == 0:
        return detector(image, min_side_px)
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    sights = detector(cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE), min_side_px)
    back = cv2.invertAffineTransform(turn)
    sights[:, :2] = sights[:, :2] @ back[:, :2].T + back[:, 2]
    return sights
