"""Face search in one whole frame: upright, with the head tilted, or in a close-up that truncates the face.

Letters: ``H``/``W`` pixels. For *detection* see ``detectors``. Lengths are in pixels of the frame.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from nanoemox.faces.detectors import Detections, Detector, Image, non_overlapping

WORK_SIDE_PX: Final = 480
"""Frames are searched at this long side: a larger one finds no more faces in real clips."""
MIN_SIDE: Final = 1 / 15
"""Smallest face side as a share of the frame's long side; below it Haar mostly sees texture."""
MIN_SIDE_PX: Final = 24
"""Smallest face side in pixels of the frame: smaller ones show no expression, and upscaling gives false positives."""
CROP_ASPECT: Final = 1.25
"""Frames with a smaller aspect ratio may be tight face crops, whose face touches the edge."""
CROP_SIDE_PX: Final = 160
CROP_BORDER: Final = 0.2
"""Border added to such a frame, as a share of its long side: cascades need a margin around a face."""
TILTS_DEG: Final = (-20.0, 20.0)
"""Head tilts tried if no upright face is found; a cascade itself tolerates about 15 degrees."""
CLOSE_BORDERS: Final = (0.2, 0.4)
"""Borders tried last, as shares of the long side, for close-ups that truncate the face."""
CLOSE_SIDE: Final = 0.5
"""Smallest face side in a close-up, as a share of the frame's short side, against false positives."""


def search(detector: Detector, frame: Image, degrees: float = 0.0) -> Detections:
    """Run the detector on a whole frame rotated by ``degrees``; detections are in pixels of the frame."""
    border = CROP_BORDER if may_be_crop(frame) else 0.0
    least = max(MIN_SIDE * max(frame.shape[:2]) * (1 + 2 * border), MIN_SIDE_PX)
    return _framed(detector, frame, degrees, border, least)


def search_tilted(detector: Detector, frame: Image) -> Detections:
    """Search for heads tilted to either side."""
    return non_overlapping(np.concatenate([search(detector, frame, degrees) for degrees in TILTS_DEG]))


def search_close_up(detector: Detector, frame: Image) -> Detections:
    """Search for a face that is larger than the frame."""
    least = max(CLOSE_SIDE * min(frame.shape[:2]), MIN_SIDE_PX)
    tried = [(degrees, border) for border in CLOSE_BORDERS for degrees in (0.0, *TILTS_DEG)]
    return non_overlapping(np.concatenate([_framed(detector, frame, *one, least) for one in tried]))


def _framed(detector: Detector, frame: Image, degrees: float, border: float, min_side_px: float) -> Detections:
    """Run the detector on a frame with a border (share of its long side); all lengths are in pixels of the frame."""
    height, width = frame.shape[:2]
    scale = WORK_SIDE_PX / (max(height, width) * (1 + 2 * border))
    out_w, out_h = round(width * scale), round(height * scale)
    mode = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(frame, (max(1, out_w), max(1, out_h)), interpolation=mode)
    pad = round(border * max(out_w, out_h))
    small = cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    detections = search_rotated(detector, small, degrees, min_side_px * scale)
    detections[:, :2] -= pad
    detections[:, :3] /= scale
    return detections


def may_be_crop(frame: Image) -> bool:
    """Whether the frame is nearly square or tiny, like face crops."""
    short, long = sorted(frame.shape[:2])
    return long < CROP_ASPECT * short or long < CROP_SIDE_PX


def search_rotated(detector: Detector, image: Image, degrees: float, min_side_px: float) -> Detections:
    """Run the detector on a rotated image and rotate the centres back."""
    if degrees == 0:
        return detector(image, min_side_px)
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    detections = detector(cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE), min_side_px)
    back = cv2.invertAffineTransform(turn)
    detections[:, :2] = detections[:, :2] @ back[:, :2].T + back[:, 2]
    return detections
