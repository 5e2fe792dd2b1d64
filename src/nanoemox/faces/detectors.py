"""Face detectors for one image: OpenCV's Haar cascades, or a YuNet network from a file.

Letters: ``H``/``W`` pixels, ``N`` faces in one image. A *detection* is one row
``centre x, centre y, side, confidence`` (pixels, pixels, pixels, 0..1) of a float64[N, 4] array.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
import cv2.data
import numpy as np
import numpy.typing as npt

from nanoemox.types import MediaError

Image = npt.NDArray[np.uint8]
Detections = npt.NDArray[np.float64]
Detector = Callable[[Image, float], Detections]
"""From uint8[H, W, 3] RGB and the smallest face side in pixels to float64[N, 4] detections."""
Window = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""

SURE_WINDOWS: Final = 20
DOUBTFUL_WINDOWS: Final = 8
"""Number of agreeing windows with confidence 0.5: below are mostly posters and cloth, above mostly faces."""
CLEARLY_SMALLER: Final = 2.25
"""Faces whose sizes differ by this factor are never merged, by OpenCV (1.4) or by ``same_face`` (1.8)."""
SIZE_STEP: Final = 1.15
"""Step of the search from large to small if only the largest face matters."""
PROFILE_SCALE: Final = 0.7
"""Image scale for the profile cascade: it finds as many faces in half the time."""
PROFILE_TO_FRONTAL: Final = (0.15, 0.02, 0.84)
"""Profile boxes contain the whole head: shift towards the nose, shift down, scale (medians over real clips)."""


class DetectionCache:
    """A least-recently-used cache of detections by image, for overlapping windows of a stream.

    It stores digests and boxes, no images. Use one cache per detector; several threads may share it.

    Args:
        most: Limit of entries.
    """

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._known: OrderedDict[bytes, Detections] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def wrap(self, detector: Detector) -> Detector:
        """Return a detector that caches the results of ``detector``."""

        def detect(image: Image, min_side_px: float) -> Detections:
            digest = hashlib.blake2b(f"{image.shape} {min_side_px!r} ".encode(), digest_size=16)
            digest.update(np.ascontiguousarray(image).data)
            key = digest.digest()
            with self._lock:
                if key in self._known:
                    self._known.move_to_end(key)
                    return self._known[key].copy()
            detections = detector(image, min_side_px)
            with self._lock:
                self._known[key] = detections.copy()
                while len(self._known) > self._most:
                    self._known.popitem(last=False)
            return detections

        return detect


def haar_detector(everyone: bool = True) -> Detector:
    """Return a detector with OpenCV's cascades: two frontal ones, and a profile one if those are in doubt.

    Use it only in the thread that called this function.

    Args:
        everyone: False skips faces that are clearly smaller than a certain one in the same image. The others are found
            as before in a third of the time, since small sizes take most of it.
    """
    frontal = [_cascade("frontalface_alt2"), _cascade("frontalface_default")]
    profile = _cascade("profileface")

    def detect(image: Image, min_side_px: float) -> Detections:
        gray = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        rows = _frontal_rows(frontal, gray, min_side_px, everyone)
        # The profile cascade is slower than both frontal ones, so it runs only if those are in doubt.
        if sum(row[3] for row in rows) < SURE_WINDOWS:
            rows += _profile_rows(profile, gray, min_side_px)
        return non_overlapping(_fuse(np.array(rows, np.float64).reshape(-1, 4)))

    return detect


def yunet_detector(path: Path) -> Detector:
    """Return a detector with a YuNet ONNX file (``face_detection_yunet_2023mar.onnx`` of OpenCV's model zoo).

    Raises:
        MediaError: The file is missing, a Git LFS pointer, or not a YuNet network.
    """
    if not path.is_file():
        raise MediaError(f"YuNet file {path} does not exist; give the path of face_detection_yunet_2023mar.onnx")
    with path.open("rb") as file:
        if file.read(30).startswith(b"version https://git-lfs"):
            raise MediaError(f"YuNet file {path} is a Git LFS pointer, not the network; download the file itself")
    try:
        network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), 0.6, 0.3, 50)
        # Another kind of network also loads, but fails at the first image: find out now.
        network.detect(np.zeros((320, 320, 3), np.uint8))
    except cv2.error as error:
        raise MediaError(
            f"YuNet file {path} does not work with OpenCV {cv2.__version__}: {error.err}; see OpenCV's model zoo"
        ) from error

    def detect(image: Image, min_side_px: float) -> Detections:
        network.setInputSize((image.shape[1], image.shape[0]))
        _, found = network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        rows = np.zeros((0, 15)) if found is None else np.asarray(found, np.float64)
        x, y, width, height, score = rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3], rows[:, 14]
        # YuNet boxes reach from hairline to chin; their mean side corresponds to the side of a frontal cascade.
        side = (width + height) / 2
        return non_overlapping(np.stack([x + width / 2, y + height / 2, side, score], 1)[side >= min_side_px])

    return detect


_read = threading.local()
"""Cascades loaded by a thread: loading takes a fifth of a detection, and threads must not share them."""


def _cascade(name: str) -> cv2.CascadeClassifier:
    known: dict[str, cv2.CascadeClassifier] = _read.__dict__
    if name not in known:
        path = Path(cv2.data.haarcascades) / f"haarcascade_{name}.xml"
        cascade = cv2.CascadeClassifier(str(path))
        if cascade.empty():
            raise MediaError(f"OpenCV {cv2.__version__} lacks {path.name}; install opencv-python-headless>=4.10,<5")
        known[name] = cascade
    return known[name]


def _frontal_rows(
    cascades: list[cv2.CascadeClassifier], gray: Image, min_side_px: float, everyone: bool
) -> list[tuple[float, ...]]:
    """Return ``centre x, centre y, side, number of agreeing windows`` for each face of a cascade."""
    windows: list[list[Window]] = [[] for _ in cascades]
    rows: list[tuple[float, ...]] = []
    sure = SURE_WINDOWS / (SURE_WINDOWS + DOUBTFUL_WINDOWS)
    for least, most in _sizes(min_side_px, min(gray.shape), everyone):
        for cascade, found in zip(cascades, windows, strict=True):
            found += _windows(cascade, gray, least, most)
        rows = [row for found in windows for row in _joined(found)]
        fused = _fuse(np.array(rows, np.float64).reshape(-1, 4))
        if np.any((fused[:, 3] >= sure) & (fused[:, 2] >= CLEARLY_SMALLER * least)):
            break
    return rows


def _sizes(min_side_px: float, max_side_px: int, everyone: bool) -> list[tuple[int, int]]:
    """Return the smallest and largest side of each search step, large faces first."""
    bounds = [_least_px(min_side_px)]
    while not everyone and bounds[-1] * SIZE_STEP < max_side_px:
        bounds.append(round(bounds[-1] * SIZE_STEP))
    return [(low, high - 1) for low, high in zip(bounds, [*bounds[1:], max_side_px + 1], strict=True)][::-1]


def _least_px(min_side_px: float) -> int:
    """Return the smallest side for a cascade, at least 20; its own window has 20 or 24."""
    return max(20, round(min_side_px))


def _windows(cascade: cv2.CascadeClassifier, gray: Image, least: int, most: int) -> list[Window]:
    """Return all windows of these sizes that pass the cascade."""
    found = cascade.detectMultiScale(
        gray, scaleFactor=1.1, minNeighbors=0, minSize=(least, least), maxSize=(most, most)
    )
    return [(int(x), int(y), int(width), int(height)) for x, y, width, height in found]


def _joined(windows: list[Window]) -> list[tuple[float, ...]]:
    """Merge the windows of a face, at least three, as ``detectMultiScale`` does at the end."""
    boxes, counts = cv2.groupRectangles(windows, groupThreshold=3, eps=0.2)
    return [(x + w / 2, y + w / 2, float(w), float(n)) for (x, y, w, _), n in zip(boxes, np.ravel(counts), strict=True)]


def _profile_rows(cascade: cv2.CascadeClassifier, gray: Image, min_side_px: float) -> list[tuple[float, ...]]:
    """Return profile faces, with boxes converted to those of a frontal cascade."""
    small = cv2.resize(gray, None, fx=PROFILE_SCALE, fy=PROFILE_SCALE, interpolation=cv2.INTER_AREA)
    least = _least_px(min_side_px * PROFILE_SCALE)
    right, down, scale = PROFILE_TO_FRONTAL
    rows: list[tuple[float, ...]] = []
    # The cascade detects faces turned to the left of the image; the mirrored image gives the others.
    for sign, picture in ((1, small), (-1, np.ascontiguousarray(small[:, ::-1]))):
        for x, y, side, count in _joined(_windows(cascade, picture, least, min(small.shape))):
            across = x - right * side if sign == 1 else small.shape[1] - x + right * side
            rows.append(
                (across / PROFILE_SCALE, (y + down * side) / PROFILE_SCALE, scale * side / PROFILE_SCALE, count)
            )
    return rows


def _fuse(rows: Detections) -> Detections:
    """Merge the boxes of several cascades; window counts become confidences in 0..1."""
    fused: list[npt.NDArray[np.float64]] = []
    # Sorted by value too, since OpenCV's threads return boxes in no fixed order.
    for row in rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0], -rows[:, 3]))]:
        same = next((i for i, other in enumerate(fused) if same_face(other, row, 0.4)), None)
        if same is None:
            fused.append(row.copy())
            continue
        total = fused[same][3] + row[3]
        fused[same][:3] = (fused[same][:3] * fused[same][3] + row[:3] * row[3]) / total
        fused[same][3] = total
    out = np.array(fused, np.float64).reshape(-1, 4)
    out[:, 3] /= out[:, 3] + DOUBTFUL_WINDOWS
    return out


def same_face(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64], distance: float) -> bool:
    """Whether two detections differ by less than ``distance`` sides and a factor of 1.8 in size."""
    large, small = max(one[2], two[2]), min(one[2], two[2])
    return bool(np.hypot(*(one[:2] - two[:2])) < distance * large and large < 1.8 * small)


def overlap(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]) -> float:
    """Return the share of the smaller box that is inside the other, 0..1."""
    sides = np.minimum(one[:2] + one[2] / 2, two[:2] + two[2] / 2) - np.maximum(
        one[:2] - one[2] / 2, two[:2] - two[2] / 2
    )
    return float(np.prod(np.maximum(sides, 0)) / min(one[2], two[2]) ** 2)


def non_overlapping(detections: Detections) -> Detections:
    """Keep the most confident of overlapping detections (non-maximum suppression)."""
    kept: list[npt.NDArray[np.float64]] = []
    for row in detections[np.lexsort((detections[:, 1], detections[:, 0], -detections[:, 3]))]:
        if all(overlap(row, other) < 0.4 for other in kept):
            kept.append(row)
    return np.array(kept, np.float64).reshape(-1, 4)
