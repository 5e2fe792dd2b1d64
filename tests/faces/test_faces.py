"""Face detection and tracking: real clips, shifts and scales, clips without a face."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest

from nanoemox.faces import detectors as face_detectors
from nanoemox.faces import tracks as faces
from nanoemox.faces.detectors import DetectionCache, haar_detector, yunet_detector
from nanoemox.faces.search import may_be_crop
from nanoemox.faces.tracks import crop_faces, find_faces, with_face
from nanoemox.media.load import load_clip
from nanoemox.types import Clip, FaceTrack, MediaError


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """uint8[200, 200, 3]: head and collar of the sample clip."""
    clip = load_clip(Path(str(files("nanoemox") / "assets/sample.mp4")))
    return clip.frames[0][30:230, 105:305].copy()


def scene(
    portrait: np.ndarray, corners: list[tuple[int, int]], side: int = 120, size: tuple[int, int] = (480, 270)
) -> np.ndarray:
    """uint8[1, H, W, 3]: the portrait at each corner (x, y) of a gray picture."""
    canvas = np.full((size[1], size[0], 3), 128, np.uint8)
    small = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    for x, y in corners:
        canvas[y : y + side, x : x + side] = small
    return canvas[None]


def centre(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def test_finds_the_person_and_is_deterministic(portrait: np.ndarray) -> None:
    frames = np.concatenate([scene(portrait, [(100 + 8 * t, 60)]) for t in range(8)])
    (track,) = find_faces(frames)
    (again,) = find_faces(frames.copy())
    assert track.detected.all()
    assert track.boxes.shape == (8, 4)
    assert track.boxes.dtype == np.float32
    np.testing.assert_array_equal(track.boxes, again.boxes)
    np.testing.assert_allclose(np.diff(centre(track.boxes)[:, 0]), 8, atol=5)


def test_largest_only_search_finds_the_same_person(portrait: np.ndarray) -> None:
    both = np.concatenate([scene(portrait, [(20 + 4 * t, 200)], side=60) for t in range(4)])
    both[:, 20:240, 240:460] = scene(portrait, [(0, 0)], side=220)[:, :220, :220]
    everyone, lone = find_faces(both), find_faces(both, everyone=False)
    assert [len(everyone), len(lone)] == [2, 1]
    np.testing.assert_array_equal(lone[0].boxes, everyone[0].boxes)
    np.testing.assert_array_equal(lone[0].detected, everyone[0].detected)


def test_largest_face_is_found_if_small_or_uncertain(portrait: np.ndarray) -> None:
    small = scene(portrait, [(20, 60)], side=110)
    turned = cv2.warpAffine(
        scene(portrait, [(150, 60)])[0],
        cv2.getRotationMatrix2D((210, 120), 12, 1.0),
        (480, 270),
        borderValue=(128,) * 3,
    )
    for frames in (np.repeat(small, 3, 0), np.stack([turned] * 3)):
        (wanted,) = find_faces(frames)
        (found,) = find_faces(frames, everyone=False)
        np.testing.assert_array_equal(found.boxes, wanted.boxes)


def test_cache_saves_detections_and_changes_nothing(portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def counting() -> face_detectors.Detector:
        detector = haar_detector()

        def detect(image: np.ndarray, least: float) -> np.ndarray:
            looks.append(len(looks))
            return detector(image, least)

        return detect

    monkeypatch.setattr(faces, "haar_detector", counting)
    # The person leaves the picture and comes back: gaps are searched, and that is remembered too.
    shown = [[(100 + 6 * t, 60), (330, 20)] if t % 4 else [] for t in range(12)]
    frames = np.concatenate([scene(portrait, corners, 90) for corners in shown])
    cache = DetectionCache()
    for start in (0, 2, 4):  # windows that overlap
        window = frames[start : start + 8]
        wanted, before = find_faces(window), len(looks)
        found = find_faces(window, cache=cache)
        assert [(t.boxes.tobytes(), t.detected.tobytes()) for t in found] == [
            (t.boxes.tobytes(), t.detected.tobytes()) for t in wanted
        ]
        assert len(found) == 2
    assert len(looks) - before < 8  # the last window alone has as many frames
    before = len(looks)
    find_faces(frames[4:12], cache=cache)
    assert len(looks) == before


def test_cache_evicts_the_least_recently_used() -> None:
    calls: list[float] = []

    def detector(image: np.ndarray, least: float) -> np.ndarray:
        calls.append(float(image[0, 0, 0]))
        return np.full((1, 4), image[0, 0, 0], float)

    cache = DetectionCache(most=2)
    detect = cache.wrap(detector)
    one, two, three = (np.full((2, 2, 3), value, np.uint8) for value in (1, 2, 3))
    detect(one, 5.0)[:] = 9  # a caller may change what it was given
    np.testing.assert_array_equal(detect(one, 5.0), np.full((1, 4), 1.0))
    for image in (two, one, three, one, two):
        detect(image, 5.0)
    assert calls == [1, 2, 3, 2]
    detect(two, 6.0)  # another question
    detect(two.reshape(1, 4, 3), 6.0)  # another picture
    assert calls == [1, 2, 3, 2, 2, 2]
    assert len(cache) == 2


def test_search_without_upright_faces_is_cheap_unless_thorough(portrait: np.ndarray) -> None:
    turned = cv2.warpAffine(
        scene(portrait, [(150, 60)])[0],
        cv2.getRotationMatrix2D((210, 120), 25, 1.0),
        (480, 270),
        borderValue=(128,) * 3,
    )
    frames = np.stack([turned] * 4)
    assert len(find_faces(frames)) == 1
    assert find_faces(frames, thorough=False) == ()


def test_boxes_shift_and_scale_with_the_image(portrait: np.ndarray) -> None:
    (at,) = find_faces(scene(portrait, [(100, 60)]))
    (moved,) = find_faces(scene(portrait, [(167, 91)]))
    side = at.boxes[0, 2] - at.boxes[0, 0]
    np.testing.assert_allclose(centre(moved.boxes) - centre(at.boxes), [[67, 31]], atol=0.05 * side)
    np.testing.assert_allclose(moved.boxes[0, 2] - moved.boxes[0, 0], side, rtol=0.1)
    twice = cv2.resize(scene(portrait, [(100, 60)])[0], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    (double,) = find_faces(twice[None])
    np.testing.assert_allclose(double.boxes / 2, at.boxes, atol=0.05 * side)


def test_boxes_are_square_and_contain_the_head(portrait: np.ndarray) -> None:
    (track,) = find_faces(scene(portrait, [(100, 60)]))
    x0, y0, x1, y1 = track.boxes[0]
    assert x1 - x0 == pytest.approx(y1 - y0, abs=0.01)
    assert 60 < x1 - x0 < 150
    np.testing.assert_allclose(centre(track.boxes)[0], [160, 125], atol=20)


def test_two_people_the_larger_first(portrait: np.ndarray) -> None:
    both = scene(portrait, [(20, 60)], side=100)
    both[:, 50:210, 250:410] = scene(portrait, [(0, 0)], side=160)[:, :160, :160]
    large, small = find_faces(np.repeat(both, 3, 0))
    assert [large.index, small.index] == [0, 1]
    assert large.num_tracks == small.num_tracks == 2
    assert centre(large.boxes)[0, 0] > 250 > centre(small.boxes)[0, 0]


def test_frames_without_a_face_repeat_the_nearest_box(portrait: np.ndarray) -> None:
    empty = np.full((1, 270, 480, 3), 128, np.uint8)
    left, right = scene(portrait, [(60, 60)]), scene(portrait, [(90, 60)])
    (track,) = find_faces(np.concatenate([empty, left, left, empty, empty, right, right, empty]))
    assert track.detected.tolist() == [False, True, True, False, False, True, True, False]
    for filled, source in ((0, 1), (3, 2), (4, 5), (7, 6)):
        np.testing.assert_array_equal(track.boxes[filled], track.boxes[source])


@pytest.mark.parametrize("picture", ["gray", "noise", "stripes"])
def test_missing_face_gives_a_warning(picture: str) -> None:
    frames = {
        "gray": np.full((4, 180, 320, 3), 90, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (4, 180, 320, 3), np.uint8),
        "stripes": np.tile(np.uint8([0, 255] * 160)[None, None, :, None], (4, 180, 1, 3)),
    }[picture]
    assert find_faces(frames) == ()
    clip = with_face(Clip(name="x.mp4", frames=frames, frame_times_s=np.arange(4.0), warnings=("earlier",)))
    assert clip.face is None
    assert "face" in clip.missing
    assert clip.warnings[0] == "earlier"
    assert "no face found" in clip.warnings[1]


@pytest.mark.parametrize("shape", [(0, 20, 20, 3), (1, 1, 1, 3), (2, 3, 400, 3), (1, 500, 2, 3)])
def test_odd_frame_shapes_have_no_face(shape: tuple[int, ...]) -> None:
    assert find_faces(np.zeros(shape, np.uint8)) == ()


@pytest.mark.parametrize("frames", [np.zeros((2, 20, 20), np.uint8), np.zeros((2, 20, 20, 3), np.float32)])
def test_invalid_frames_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"uint8\[T, H, W, 3\]"):
        find_faces(frames)


def test_with_face_selects_a_person(portrait: np.ndarray) -> None:
    clip = Clip(name="two.mp4", frames=scene(portrait, [(20, 60), (300, 60)]), frame_times_s=np.zeros(1))
    assert {with_face(clip, i).face.index for i in (0, 1)} == {0, 1}
    for index in (2, -1):
        with pytest.raises(MediaError, match=r"two\.mp4: face index -?\d does not exist, 2 faces were found"):
            with_face(clip, index)
    sound_only = Clip(name="a.wav", waveform=np.zeros(16000, np.float32))
    assert with_face(sound_only) is sound_only


def test_tight_crops_get_a_face_that_stays_inside(portrait: np.ndarray) -> None:
    tight = portrait[10:160, 5:155][None]
    (track,) = find_faces(tight)
    assert (track.boxes >= 0).all()
    assert (track.boxes <= 150).all()
    assert track.boxes[0, 2] - track.boxes[0, 0] > 75


def test_a_face_that_fills_a_tall_frame_is_found(portrait: np.ndarray) -> None:
    """Cut at both cheeks and above the brows: the cascades see it only with a border put around."""
    (whole,) = find_faces(portrait[None])
    x, y = centre(whole.boxes)[0]
    half = (whole.boxes[0, 2] - whole.boxes[0, 0]) / 2
    narrow = portrait[int(y - 0.85 * half) : int(y + 0.95 * half), int(x - 0.45 * half) : int(x + 0.45 * half)]
    close = cv2.resize(narrow, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    assert not may_be_crop(close)
    (track,) = find_faces(close[None])
    side = track.boxes[0, 2] - track.boxes[0, 0]
    assert close.shape[1] <= side <= close.shape[0] + 1
    np.testing.assert_allclose(centre(track.boxes)[0, 0], close.shape[1] / 2, atol=0.15 * close.shape[1])


def scripted(monkeypatch: pytest.MonkeyPatch, script: list[list[tuple[float, ...]]]) -> np.ndarray:
    """Let the detector see these sights, frame by frame, and nothing when asked again."""
    calls = iter([*script])

    def detect(image: np.ndarray, min_side_px: float) -> np.ndarray:
        return np.array(next(calls, []), np.float64).reshape(-1, 4)

    monkeypatch.setattr(faces, "haar_detector", lambda: detect)
    return np.zeros((len(script), 270, 480, 3), np.uint8)


def test_uncertain_detections_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    sure, lone, weak = (200.0, 100.0, 80.0, 0.9), (400.0, 200.0, 60.0, 0.6), (50.0, 200.0, 40.0, 0.4)
    frames = scripted(monkeypatch, [[sure, weak], [sure, lone, weak], [sure, weak], [sure, weak]])
    (track,) = find_faces(frames)
    np.testing.assert_allclose(centre(track.boxes), [[200, 100]] * 4)
    np.testing.assert_allclose(track.boxes[:, 2] - track.boxes[:, 0], 120)


def test_long_gaps_are_linked_by_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    sure = (200.0, 100.0, 80.0, 0.9)
    script = [[sure], [sure], *[[]] * 5, [sure], [sure]]
    assert len(find_faces(scripted(monkeypatch, script))) == 2
    assert len(find_faces(scripted(monkeypatch, script), np.arange(9) / 10)) == 1
    assert len(find_faces(scripted(monkeypatch, script), np.arange(9) * 1.0)) == 2


def test_smoothing_removes_jitter_and_keeps_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    jitter = np.array([2.0, -2, 2, -2, 2, -2, 2, -2])
    still = scripted(monkeypatch, [[(200 + j, 100.0, 80 + j, 0.9)] for j in jitter])
    (track,) = find_faces(still)
    assert np.abs(centre(track.boxes)[:, 0] - 200).max() < 1.0
    moving = scripted(monkeypatch, [[(100 + 40.0 * t, 100.0, 80.0, 0.9)] for t in range(8)])
    (track,) = find_faces(moving)
    np.testing.assert_allclose(centre(track.boxes)[:, 0], 100 + 40 * np.arange(8), atol=0.1)


def test_crop_is_exact_inside_and_repeats_the_edge_outside() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 40, 60, 3), np.uint8)
    inside = FaceTrack(np.float32([[10, 5, 30, 25]]), np.ones(1, bool))
    np.testing.assert_array_equal(crop_faces(frame, inside, 20)[0], frame[0, 5:25, 10:30])
    outside = crop_faces(frame, FaceTrack(np.float32([[-10, -10, 10, 10]]), np.ones(1, bool)), 20)
    np.testing.assert_array_equal(outside[0, 10:, 10:], frame[0, :10, :10])
    assert (outside[0, :10, :10] == frame[0, 0, 0]).all()
    flat = crop_faces(
        np.full((2, 40, 60, 3), 7, np.uint8), FaceTrack(np.float32([[0, 0, 33, 33]] * 2), np.ones(2, bool)), 8
    )
    assert flat.shape == (2, 8, 8, 3)
    assert (flat == 7).all()


def test_crop_refuses_mismatched_frames() -> None:
    track = FaceTrack(np.zeros((2, 4), np.float32), np.ones(2, bool))
    with pytest.raises(MediaError, match="2 boxes for 3 frames"):
        crop_faces(np.zeros((3, 8, 8, 3), np.uint8), track, 4)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"not a network", "does not work with OpenCV"),
    ],
)
def test_unusable_yunet_files_are_explained(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "yunet.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=says):
        yunet_detector(path)


def test_yunet_rows_become_detections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Network:
        def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802
            assert size == (480, 270)

        def detect(self, image: np.ndarray) -> tuple[int, np.ndarray | None]:
            if not image.any():  # the trial picture
                return 1, None
            assert tuple(image[0, 0]) == (3, 2, 1)
            small, large = np.zeros(15, np.float32), np.zeros(15, np.float32)
            small[[0, 1, 2, 3, 14]] = 10, 10, 8, 8, 0.95
            large[[0, 1, 2, 3, 14]] = 200, 100, 60, 80, 0.9
            return 1, np.stack([small, large])

    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"any")
    monkeypatch.setattr(face_detectors.cv2.FaceDetectorYN, "create", lambda *_: Network())
    (track,) = find_faces(np.tile(np.uint8([1, 2, 3]), (2, 270, 480, 1)), yunet=path)
    np.testing.assert_allclose(track.boxes[0], [230 - 52.5, 140 - 52.5, 230 + 52.5, 140 + 52.5])


@pytest.mark.shared
def test_real_clips_spot_values(shared: Path) -> None:
    clips = shared / "data/media/clips"
    one = with_face(load_clip(clips / "sample_00002422.mp4"))
    assert one.face.detected.all()
    assert one.face.num_tracks == 1
    # Shot and reverse shot: the speaker, then in the last frame the one who listens.
    both = load_clip(clips / "samplenew_00061200.mp4")
    speaker, listener = with_face(both).face, with_face(both, 1).face
    assert speaker.num_tracks == listener.num_tracks == 2
    assert speaker.detected.tolist() == [True] * 7 + [False]
    assert listener.detected.tolist() == [False] * 7 + [True]
    assert centre(listener.boxes)[0, 0] - centre(speaker.boxes)[0, 0] > 200


@pytest.mark.shared
@pytest.mark.slow
def test_only_the_largest_is_the_same_in_every_real_clip(shared: Path) -> None:
    for path in sorted((shared / "data/media/clips").glob("*.mp4")):
        frames = load_clip(path, num_frames=6).frames
        everyone, lone = find_faces(frames), find_faces(frames, everyone=False)
        assert [t.boxes.tobytes() for t in lone] == [t.boxes.tobytes() for t in everyone[:1]], path.name


@pytest.mark.shared
@pytest.mark.slow
def test_nine_of_ten_frames_of_real_clips_show_a_face(shared: Path) -> None:
    tracks = [with_face(load_clip(p)).face for p in sorted((shared / "data/media/clips").glob("*.mp4"))]
    assert len(tracks) == 21
    seen = sum(int(t.detected.sum()) for t in tracks if t is not None)
    assert seen / (8 * 21) >= 0.9


@pytest.mark.shared
@pytest.mark.slow
def test_face_crops_get_a_face(shared: Path) -> None:
    corpora = shared / "data/corpora"
    clips = sorted((corpora / "ravdess_av_actor01/clips").glob("*.mp4"))[::4]
    assert all(with_face(load_clip(p)).face is not None for p in clips)
    photos = sorted((corpora / "facial_expressions/images").iterdir())[::10]
    found = sum(with_face(load_clip(p)).face is not None for p in photos)
    assert found / len(photos) >= 0.93
