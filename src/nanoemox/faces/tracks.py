"""Faces in a clip: detection, tracking, and the crops for the face encoder.

OpenCV's Haar cascades (frontal, then profile) run on every frame, or a YuNet ONNX file if one is given. Detections are
linked to one track per person, and unreliable tracks are dropped. Gaps are searched again near the track, tilted heads
included; a frame without a detection repeats the nearest box. If there is no track, tilted heads and then close-ups are
searched. A clip without a reliable track has no face: a wrong crop misleads the model more than a missing modality.

Letters: ``T`` frames, ``H``/``W`` pixels. For *detection* see ``detectors``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from nanoemox.faces.detectors import (
    DetectionCache,
    Detections,
    Detector,
    Image,
    haar_detector,
    overlap,
    same_face,
    yunet_detector,
)
from nanoemox.faces.search import TILTS_DEG, may_be_crop, search, search_close_up, search_rotated, search_tilted
from nanoemox.types import Clip, FaceTrack, MediaError

ENLARGE: Final = 1.5
"""Enlarged by this factor, a detected box contains hairline, ears and chin."""
SEARCH_SIDE_PX: Final = 64
"""Size to which the expected face is scaled when a gap is searched."""
NOTHING: Final = np.zeros((0, 4))
LINK_GAP_S: Final = 1.0
LINK_GAP_FRAMES: Final = 3
"""A track continues over gaps of this many frames or of ``LINK_GAP_S``, whichever is longer."""
MEAN_CONFIDENCE: Final = 0.5
NO_FACE: Final = "no face found: the face modality is left out"
"""Warning of a clip without a detected face."""
BRIEF_CONFIDENCE: Final = 0.7


@dataclass(slots=True)
class _Track:
    """Detections of one person: frame index -> detection."""

    detections: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)

    def near(self, frame: int) -> int:
        """Return the frame with a detection nearest to ``frame``, the earlier of two."""
        return min(self.detections, key=lambda t: (abs(t - frame), t))

    @property
    def weight(self) -> float:
        """Area summed over the frames; tracks are sorted by it."""
        return float(sum(s[2] ** 2 for s in self.detections.values()))


def find_faces(
    frames: Image,
    times_s: npt.NDArray[np.float64] | None = None,
    *,
    yunet: Path | None = None,
    cache: DetectionCache | None = None,
    thorough: bool = True,
    everyone: bool = True,
) -> tuple[FaceTrack, ...]:
    """Find the faces in the frames of one clip, one track per person.

    Track 0 has the largest area summed over its detections, in film dialogue usually the person in focus. In shot and
    reverse shot both speakers are tracks, and each repeats its nearest box while the other is visible. There is no
    face recognition: somebody who reappears elsewhere in the image after a cut is a new track.

    Args:
        frames: uint8[T, H, W, 3] RGB.
        times_s: float64[T] presentation times, used to link across gaps of up to a second; without them gaps of up to
            three frames are linked.
        yunet: A YuNet ONNX file to use instead of the Haar cascades.
        cache: Detections in earlier clips that may share frames with this one; does not change the result.
        thorough: If there is no upright face in any frame, try tilted heads and close-ups, at five times the cost.
        everyone: False returns only the first track, in a third of the time.

    Returns:
        Tracks, largest area first; empty if no face is reliable.

    Raises:
        MediaError: ``frames`` has the wrong shape or type, or ``yunet`` cannot be read.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise MediaError(f"faces: frames must be uint8[T, H, W, 3] RGB, got {frames.dtype}{list(frames.shape)}")
    if not frames.size:
        return ()
    detector = haar_detector() if yunet is None else yunet_detector(yunet)
    first = haar_detector(everyone=False) if yunet is None and not everyone else detector
    if cache is not None:
        detector, first = cache.wrap(detector), cache.wrap(first)
    seen = [search(first, frame) for frame in frames]
    tracks = _convincing(_link(seen, times_s), len(frames))
    close = may_be_crop(frames[0])
    for harder in (search_tilted, search_close_up) if thorough else ():
        if tracks:
            break
        # Every second frame is enough to find a person; the gap search below does the rest.
        seen = [harder(detector, frame) if t % 2 == 0 else NOTHING for t, frame in enumerate(frames)]
        tracks = _convincing(_link(seen, times_s), len(frames))
        close = close or harder is search_close_up
    tracks.sort(key=lambda t: (-t.weight, min(t.detections)))
    for track in tracks:
        _search_gaps(detector, frames, track, [t for t in tracks if t is not track])
    tracks.sort(key=lambda t: (-t.weight, min(t.detections)))
    kept = tracks if everyone else tracks[:1]
    found = tuple(_finish(track, len(frames), i, len(tracks)) for i, track in enumerate(kept))
    return tuple(_inside(track, frames[0]) for track in found) if close else found


def with_face(
    clip: Clip,
    index: int = 0,
    yunet: Path | None = None,
    *,
    cache: DetectionCache | None = None,
    thorough: bool = True,
    everyone: bool = True,
) -> Clip:
    """Return the clip with its ``index``-th face, or with a warning if no face is found.

    Args:
        clip: A clip; without frames it is returned unchanged.
        index: Track index, 0 is the largest.
        yunet: A YuNet ONNX file to use instead of the Haar cascades.
        cache: As in :func:`find_faces`.
        thorough: As in :func:`find_faces`.
        everyone: As in :func:`find_faces`; False only for index 0, and ``num_tracks`` may then omit smaller faces.

    Raises:
        MediaError: There are faces, but none with this index.
    """
    if clip.frames is None:
        return clip
    tracks = find_faces(clip.frames, clip.frame_times_s, yunet=yunet, cache=cache, thorough=thorough, everyone=everyone)
    if not tracks:
        return replace(clip, face=None, warnings=(*clip.warnings, NO_FACE))
    if not 0 <= index < len(tracks):
        people = "1 face was" if len(tracks) == 1 else f"{len(tracks)} faces were"
        raise MediaError(
            f"{clip.name}: face index {index} does not exist, {people} found; choose 0 to {len(tracks) - 1}"
        )
    return replace(clip, face=tracks[index])


def crop_faces(frames: Image, track: FaceTrack, size: int) -> Image:
    """Cut the track's face out of every frame.

    Args:
        frames: uint8[T, H, W, 3] RGB.
        track: Boxes for these frames.
        size: Side of a crop in pixels.

    Returns:
        uint8[T, size, size, 3]; outside the frame its edge pixels are repeated.

    Raises:
        MediaError: The number of frames and of boxes differ, or ``size`` is not positive.
    """
    if len(frames) != len(track.boxes) or size < 1:
        raise MediaError(
            f"faces: {len(track.boxes)} boxes for {len(frames)} frames at {size} px: need one box per frame and a "
            "positive size"
        )
    height, width = frames.shape[1:3]
    crops = np.empty((len(frames), size, size, 3), np.uint8)
    for out, frame, (x0, y0, x1, y1) in zip(crops, frames, track.boxes, strict=True):
        side = max(1, round(float(max(x1 - x0, y1 - y0))))
        columns = np.clip(round(float(x0)) + np.arange(side), 0, width - 1)
        rows = np.clip(round(float(y0)) + np.arange(side), 0, height - 1)
        patch = np.ascontiguousarray(frame[rows][:, columns])
        out[:] = cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
    return crops


def _link(seen: list[Detections], times_s: npt.NDArray[np.float64] | None) -> list[_Track]:
    """Link detections of successive frames to tracks, nearest pairs first."""
    tracks: list[_Track] = []
    for t, detections in enumerate(seen):
        pairs = []
        for i, track in enumerate(tracks):
            last = max(track.detections)
            soon = times_s is not None and times_s[t] - times_s[last] <= LINK_GAP_S
            if t - last > LINK_GAP_FRAMES and not soon:
                continue
            for j, row in enumerate(detections):
                if same_face(track.detections[last], row, 0.75):
                    pairs.append((float(np.hypot(*(track.detections[last][:2] - row[:2]))), i, j))
        free_tracks, free_rows = set(range(len(tracks))), set(range(len(detections)))
        for _, i, j in sorted(pairs):
            if i in free_tracks and j in free_rows:
                tracks[i].detections[t] = detections[j]
                free_tracks.discard(i)
                free_rows.discard(j)
        tracks.extend(_Track({t: detections[j]}) for j in sorted(free_rows))
    return tracks


def _convincing(tracks: list[_Track], num_frames: int) -> list[_Track]:
    """Drop tracks of low mean confidence; brief ones (at most a quarter of the clip) need a higher one."""
    kept = []
    for track in tracks:
        brief = num_frames > 2 and len(track.detections) <= max(1, num_frames // 4)
        least = BRIEF_CONFIDENCE if brief else MEAN_CONFIDENCE
        if np.mean([s[3] for s in track.detections.values()]) >= least:
            kept.append(track)
    return kept


def _search_gaps(detector: Detector, frames: Image, track: _Track, others: list[_Track]) -> None:
    """Search again, enlarged and also for tilted heads, in frames where the track has no detection."""
    missing = [t for t in range(len(frames)) if 0 < abs(t - track.near(t)) <= LINK_GAP_FRAMES]
    for t in sorted(missing, key=lambda t: (abs(t - track.near(t)), t)):
        expected = track.detections[track.near(t)]
        found = _search(detector, frames[t], expected)
        if found is not None and all(t not in o.detections or overlap(found, o.detections[t]) < 0.4 for o in others):
            track.detections[t] = found


def _search(detector: Detector, frame: Image, expected: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Return the most confident face near ``expected``, or None."""
    x, y, side = expected[:3]
    x0, y0 = (max(0, int(v - 1.25 * side)) for v in (x, y))
    region = frame[y0 : int(y + 1.25 * side) + 1, x0 : int(x + 1.25 * side) + 1]
    scale = SEARCH_SIDE_PX / side
    size = (max(1, round(region.shape[1] * scale)), max(1, round(region.shape[0] * scale)))
    image = cv2.resize(region, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    image = cv2.copyMakeBorder(image, 16, 16, 16, 16, cv2.BORDER_REPLICATE)
    for degrees in (0.0, *TILTS_DEG):
        detections = search_rotated(detector, image, degrees, SEARCH_SIDE_PX / 1.8)
        detections[:, :2] = (detections[:, :2] - 16) / scale + (x0, y0)
        detections[:, 2] /= scale
        near = [row for row in detections if same_face(expected, row, 0.5)]
        if near:
            return max(near, key=lambda row: float(row[3]))
    return None


def _finish(track: _Track, num_frames: int, index: int, num_tracks: int) -> FaceTrack:
    """Smooth, fill and enlarge a track."""
    seen = sorted(track.detections)
    rows = _smooth(np.stack([track.detections[t][:3] for t in seen]))
    nearest = [seen.index(track.near(t)) for t in range(num_frames)]
    centre, half = rows[nearest, :2], rows[nearest, 2:] * ENLARGE / 2
    boxes = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
    detected = np.isin(np.arange(num_frames), seen)
    return FaceTrack(boxes=boxes, detected=detected, index=index, num_tracks=num_tracks)


def _inside(track: FaceTrack, frame: Image) -> FaceTrack:
    """Shrink and shift boxes into a frame that is itself a face crop and has no margin to enlarge into."""
    limits = np.array([frame.shape[1], frame.shape[0]], np.float32)
    half = np.minimum(track.boxes[:, 2:] - track.boxes[:, :2], limits.max()) / 2
    centre = (track.boxes[:, :2] + track.boxes[:, 2:]) / 2
    centre = np.where(2 * half > limits, limits / 2, np.clip(centre, half, np.maximum(half, limits - half)))
    return replace(track, boxes=np.concatenate([centre - half, centre + half], 1).astype(np.float32))


def _smooth(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Average each box with its two neighbours in time, weighted by their similarity.

    Frames may be a second apart, so a plain average would pull the box off a moving head: a neighbour has weight 0.5
    if equal, less if it differs by detector noise (a tenth of the side), and almost none if the head has moved.

    Args:
        rows: float64[T, 3], centre x, centre y, side in pixels, for the frames with a detection.

    Returns:
        float64[T, 3].
    """
    total, weight = rows.copy(), np.ones(rows.shape)
    for step in (-1, 1):
        here = slice(max(0, -step), len(rows) - max(0, step))
        there = slice(max(0, step), len(rows) - max(0, -step))
        share = 0.5 * np.exp(-(((rows[there] - rows[here]) / (0.1 * rows[here, 2:])) ** 2))
        total[here] += share * rows[there]
        weight[here] += share
    smoothed: npt.NDArray[np.float64] = total / weight
    return smoothed
