from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nanoemox.faces import vectors
from nanoemox.faces.tracks import NO_FACE
from nanoemox.faces.vectors import COLUMNS, read_face_table, width_of, with_face_vectors
from nanoemox.types import Clip, MediaError
from tests.faces.openface import HEAD, write_openface

UNITS = ("au_intensity", "au_presence")
CLIP = Clip("clip.mp4", frame_times_s=np.array([0.0, 0.52, 1.04, 1.9]), duration_s=2.0)


def take(clip: Clip, source: object, groups: tuple[str, ...] = UNITS, width: int = 35, **more: object) -> Clip:
    return with_face_vectors(clip, source, width=width, groups=groups, num_frames=4, **more)


def test_the_widths_are_those_of_openface() -> None:
    assert {group: width_of([group]) for group in COLUMNS} == {
        "landmarks": 136, "au_intensity": 17, "au_presence": 18, "pose": 6, "gaze": 8,
    }  # fmt: skip
    for groups in ((), ("lips",), ("gaze", "gaze")):
        with pytest.raises(MediaError, match="need one or more of landmarks, au_intensity"):
            width_of(groups)


def test_rows_are_sampled_at_frame_times(tmp_path: Path) -> None:
    values = write_openface(tmp_path / "a.csv")
    first = len(COLUMNS["landmarks"])
    clip = take(CLIP, tmp_path / "a.csv")
    assert clip.face_vectors.dtype == np.float32
    np.testing.assert_allclose(clip.face_vectors, values[[0, 5, 10, 19], first : first + 35], rtol=1e-6)
    assert clip.warnings == ()
    assert clip.modalities == ("face",)
    later = take(CLIP, tmp_path / "a.csv", start_s=0.1)
    second = take(replace(CLIP, frame_times_s=np.array([0.1])), tmp_path / "a.csv")
    np.testing.assert_array_equal(later.face_vectors[:1], second.face_vectors)


def test_landmarks_are_normalised_and_positions_are_in_metres(tmp_path: Path) -> None:
    values = write_openface(tmp_path / "a.csv", rows=1)
    x, y = values[0, :68], values[0, 68:136]
    row = read_face_table(tmp_path / "a.csv", ("landmarks", "pose")).rows[0]
    size = np.sqrt(((x - x.mean()) ** 2 + (y - y.mean()) ** 2).mean())
    np.testing.assert_allclose(row[:68], (x - x.mean()) / size, rtol=1e-5)
    np.testing.assert_allclose(row[68:136], (y - y.mean()) / size, rtol=1e-5)
    pose = values[0, 136 + 35 : 136 + 41]
    np.testing.assert_allclose(row[136:], [*pose[:3] / 1000, *pose[3:]], rtol=1e-5)


def test_frames_without_a_face_use_the_nearest_row_with_a_warning(tmp_path: Path) -> None:
    values = write_openface(tmp_path / "a.csv", lost=(4, 5, 6))
    clip = take(CLIP, tmp_path / "a.csv")
    np.testing.assert_allclose(clip.face_vectors[1], values[7, 136:171], rtol=1e-6)
    assert clip.warnings == ("a.csv: no face in 1 of 4 frames: the nearest vectors are used for them",)
    write_openface(tmp_path / "none.csv", rows=3, lost=(0, 1, 2))
    clip = take(CLIP, tmp_path / "none.csv")
    assert clip.face_vectors is None
    assert clip.warnings == (NO_FACE,)


def test_vectors_far_from_the_clip_give_a_warning(tmp_path: Path) -> None:
    write_openface(tmp_path / "a.csv", rows=5)
    long = replace(CLIP, frame_times_s=np.array([0.0, 9.0]))
    assert take(long, tmp_path / "a.csv").warnings == (
        "a.csv: its rows are up to 8.6 s from the clip's frames: is it of another clip?",
    )


def test_arrays_are_evenly_spaced_over_the_recording(tmp_path: Path) -> None:
    rows = np.arange(40, dtype=np.float32).reshape(20, 2)
    np.save(tmp_path / "a.npy", rows)
    clip = take(CLIP, tmp_path / "a.npy", width=2)
    np.testing.assert_array_equal(clip.face_vectors, rows[[0, 5, 10, 18]])
    assert type(clip.face_vectors) is np.ndarray
    np.testing.assert_array_equal(take(CLIP, rows, width=2).face_vectors, clip.face_vectors)
    window = take(CLIP, rows, width=2, start_s=2.0, source_s=4.0)
    assert window.face_vectors[0, 0] == rows[9, 0]
    # Without pictures: the middles of equal spans; without any time: the rows themselves.
    heard = Clip("voice.wav", duration_s=2.0)
    np.testing.assert_array_equal(take(heard, rows, width=2).face_vectors, rows[[2, 7, 12, 17]])
    np.testing.assert_array_equal(take(Clip("words"), rows[:4], width=2).face_vectors.shape, (4, 2))
    np.testing.assert_array_equal(take(Clip("words"), rows[:1], width=2).face_vectors, rows[[0, 0, 0, 0]])


def test_persons_are_distinguished(tmp_path: Path) -> None:
    names = ("face_id", "timestamp", "success", *COLUMNS["gaze"])
    lines = [", ".join(names)]
    for i in range(6):
        lines.append(", ".join(map(str, (0, i / 10, 1, *[1.0] * 8))))
        if i < 4:
            lines.append(", ".join(map(str, (3, i / 10, 1, *[2.0] * 8))))
    (tmp_path / "two.csv").write_text("\n".join(lines))
    for index, value in ((0, 1.0), (1, 2.0)):
        assert (read_face_table(tmp_path / "two.csv", ("gaze",), index).rows == value).all()
    with pytest.raises(MediaError, match=r"two\.csv: face index 2 does not exist: choose 0 to 1"):
        read_face_table(tmp_path / "two.csv", ("gaze",), 2)


def test_table_gives_its_available_columns(tmp_path: Path) -> None:
    write_openface(tmp_path / "a.csv", columns={"gaze": COLUMNS["gaze"], "other": ("p_scale",)})
    assert read_face_table(tmp_path / "a.csv").rows.shape == (20, 8)
    with pytest.raises(MediaError, match=r"a\.csv: no column AU01_r and 16 more, needed for au_intensity"):
        read_face_table(tmp_path / "a.csv", UNITS)


TABLE = ", ".join((*HEAD, *COLUMNS["gaze"])).encode()
HOSTILE = {
    "empty.csv": (b"", "none of landmarks"),
    "header.csv": (TABLE, "no rows below the header"),
    "notimes.csv": (", ".join(COLUMNS["gaze"]).encode() + b"\n" + b"1," * 7 + b"1", "no column timestamp"),
    "words.csv": (TABLE + b"\n1, 0, 0.0, 1, 1, hello", r"words\.csv:2: not 13 numbers"),
    "nan.csv": (TABLE + b"\n1,0,0.0,1,1," + b"nan," * 7 + b"1", "NaN, infinity"),
    "huge.csv": (TABLE + b"\n1,0,0.0,1,1," + b"1e300," * 7 + b"1", "beyond float32"),
    "when.csv": (TABLE + b"\n1,0,nan,1,1," + b"1," * 7 + b"1", "must be numbers in every row"),
    "bytes.csv": (b"\xff\xfe\x00frame", "not UTF-8 at byte 0"),
    "nul.csv": (b"frame\x00,timestamp\n1,2", "none of landmarks|not a list of columns"),
    "text.npy": (b"no array", "not a .npy array"),
    "object.npy": (b"", "Python objects, which are never unpickled"),
    "pickle.npy": (pickle.dumps({"a": 1}), "pickles are never opened"),
    "cut.npy": (b"", "not a complete .npy array"),
    "lie.npy": (b"", "not a complete .npy array"),
    "zip.npy": (b"", "an archive, not a single array"),
    "flat.npy": (b"", r"float64\[3\]: need numbers \[N, F\]"),
    "none.npy": (b"", r"float64\[0, 3\]"),
    "strings.npy": (b"", "need numbers"),
    "nan.npy": (b"", "NaN, infinity"),
    "wide.xlsx": (b"PK", r"suffix \.xlsx of face vectors: need \.csv or \.npy"),
    "folder.csv": (None, "not a file"),
    "gone.csv": (None, "no such file"),
}  # fmt: skip


def write_hostile(folder: Path, name: str) -> None:
    path, data = folder / name, HOSTILE[name][0]
    if data is not None:
        path.write_bytes(data)
    arrays = {
        "object.npy": np.array([[{}]], dtype=object), "flat.npy": np.zeros(3), "none.npy": np.zeros((0, 3)),
        "strings.npy": np.array([["a"]]), "nan.npy": np.array([[1.0, np.nan]]),
    }  # fmt: skip
    if name in arrays:
        np.save(path, arrays[name], allow_pickle=True)
    if name == "folder.csv":
        path.mkdir()
    if name in ("cut.npy", "lie.npy"):
        np.save(path, np.zeros((9, 5)))
        whole = path.read_bytes()
        path.write_bytes(whole[:-20] if name == "cut.npy" else whole.replace(b"(9, 5), }", b"(9999999999999, 5), }"))
    if name == "zip.npy":
        np.savez(path.with_suffix(".npz"), a=np.zeros(2))
        path.with_suffix(".npz").rename(path)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_give_a_message(tmp_path: Path, name: str) -> None:
    write_hostile(tmp_path, name)
    with pytest.raises(MediaError, match=HOSTILE[name][1]) as caught:
        read_face_table(tmp_path / name)
    assert str(caught.value).startswith(name)
    assert str(tmp_path) not in str(caught.value)


def test_too_large_files_and_pipes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_openface(tmp_path / "a.csv")
    monkeypatch.setattr(vectors, "MAX_BYTES", 1000)
    with pytest.raises(MediaError, match=r"a\.csv: \d+ bytes, limit 1000: shorten the recording"):
        read_face_table(tmp_path / "a.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(MediaError, match="not a file"):
        read_face_table(tmp_path / "pipe.csv")


def test_another_width_is_refused(tmp_path: Path) -> None:
    write_openface(tmp_path / "a.csv")
    with pytest.raises(MediaError, match=r"a\.csv: vectors of width 35, this model needs 20 \(face\.vector_size\)"):
        take(CLIP, tmp_path / "a.csv", width=20)
    with pytest.raises(MediaError, match="NaN or infinity"):
        take(CLIP, np.full((2, 3), np.inf), width=3)
