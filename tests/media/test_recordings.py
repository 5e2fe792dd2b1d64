"""Recordings of body sensors: valid and hostile files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from edfio import Edf, EdfSignal

from nanoemox.media.recordings import electrode_of, kind_of, read_recording
from nanoemox.types import MediaError
from tests.media.recordings import Columns, ecg, waves, write_csv, write_edf

RATE_HZ = 128
COLUMNS: Columns = {
    "ECG": ("uV", ecg(8, 70, RATE_HZ)),
    "EDA": ("uS", 5 + np.linspace(0, 1, 8 * RATE_HZ)),
    "EEG F3": ("uV", waves(8, RATE_HZ, f10=20.0)),
    "Temp": ("degC", np.full(8 * RATE_HZ, 36.5)),
}


def test_csv_and_edf_agree(tmp_path: Path) -> None:
    tables = [
        read_recording(write_csv(tmp_path / "a.csv", COLUMNS, RATE_HZ)),
        read_recording(write_csv(tmp_path / "b.csv", COLUMNS, RATE_HZ, clock=False)),
        read_recording(write_edf(tmp_path / "c.edf", COLUMNS, RATE_HZ)),
    ]
    for channels in tables:
        assert [(c.kind, c.name) for c in channels] == [("ecg", "ECG"), ("eda", "EDA"), ("eeg", "EEG F3")]
        for channel, (_, wanted) in zip(channels, COLUMNS.values(), strict=False):
            assert channel.rate_hz == pytest.approx(RATE_HZ, rel=1e-4)
            np.testing.assert_allclose(channel.times_s, np.arange(8 * RATE_HZ) / RATE_HZ, atol=1e-5)
            step = 2 * (np.abs(wanted).max() + 2) / 65_535  # of 16 bits
            np.testing.assert_allclose(channel.values, wanted, atol=2 * step)


@pytest.mark.parametrize("suffix", [".csv", ".edf"])
def test_span_equals_part_of_the_whole(tmp_path: Path, suffix: str) -> None:
    file = (write_csv if suffix == ".csv" else write_edf)(tmp_path / f"a{suffix}", COLUMNS, RATE_HZ)
    whole, part = read_recording(file)[0], read_recording(file, 2.0, 3.5)[0]
    inside = (whole.times_s >= 2.0) & (whole.times_s < 3.5)
    np.testing.assert_array_equal(part.times_s, whole.times_s[inside])
    np.testing.assert_array_equal(part.values, whole.values[inside])
    assert read_recording(file, 100.0, 101.0) == ()


def test_units_become_microvolts_and_microsiemens(tmp_path: Path) -> None:
    rows = "0,1.5,100,nan,1.2\n500,-0.5,50,60,\n1000,0.5,0,62,1.3\n"
    (tmp_path / "a.csv").write_text(f"time [ms],ecg (mV),gsr [kOhm],heart_rate [bpm],Fp1 [mV]\n{rows}")
    found = {c.kind: c for c in read_recording(tmp_path / "a.csv")}
    assert found["ecg"].values.tolist() == [1500, -500, 500]
    assert found["ecg"].times_s.tolist() == [0, 0.5, 1]
    assert found["eda"].values.tolist() == [10, 20]  # no resistance is no conductance
    assert found["heart_rate"].times_s.tolist() == [0.5, 1]
    np.testing.assert_allclose(found["eeg"].values, [1200, 1300])


@pytest.mark.parametrize(
    ("name", "unit", "kind"),
    [("ECG II", "mV", "ecg"), ("BVP", "", "ppg"), ("Pulse", "bpm", "heart_rate"), ("GSR2", "uS", "eda"),
     ("EEG_Fp1-A2", "uV", "eeg"), ("EEG-F3", "", "eeg"), ("Cz", "µV", "eeg"), ("ecgonine", "mV", None),
     ("Temp", "degC", None), ("", "", None), ("T", "degC", None), ("O2", "%", None), ("Cz", "", None),
     ("heart_rate", "bpm", "heart_rate"), ("Pulse rate", "bpm", "heart_rate"), ("pulse transit time", "s", None),
     ("HR variability", "ms", None)],
)  # fmt: skip
def test_names(name: str, unit: str, kind: str | None) -> None:
    assert kind_of(name, unit) == kind


def test_other_channels_are_passed_over(tmp_path: Path) -> None:
    others = "T [degC],O2 [%],P (hPa),pulse transit time [s]"
    (tmp_path / "a.csv").write_text(f"time [s],eda [uS],{others}\n0,4,36,98,1013,0.2\n1,4,36,98,1013,0.2\n")
    assert [c.name for c in read_recording(tmp_path / "a.csv")] == ["eda"]
    signals = [
        EdfSignal(np.ones(64), 32, label=label, physical_dimension=unit, physical_range=(0, 100))
        for label, unit in (("EDA", "uS"), ("O2", "%"), ("Pulse transit", "ms"))
    ]
    Edf(signals).write(tmp_path / "b.edf")
    assert [c.name for c in read_recording(tmp_path / "b.edf")] == ["EDA"]


def test_the_electrode_is_named_without_its_reference(tmp_path: Path) -> None:
    names = ["EEG F3-A1", "f4", "EEG-F3", "EEG_F4-REF", "EEG: Cz", "EEG", "EEG F3_A1"]
    header = ",".join(f"{name} [uV]" for name in names)
    (tmp_path / "a.csv").write_text(f"time [s],{header}\n0,1,2,3,4,5,6,7\n1,2,3,4,5,6,7,8\n")
    found = {c.name: electrode_of(c) for c in read_recording(tmp_path / "a.csv")}
    assert found == dict(zip(names, ["f3", "f4", "f3", "f4", "cz", "", "f3"], strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no known channel among .none."),
        ("time [s],temperature [degC]\n0,36\n", "no known channel among time, temperature"),
        ("ecg [mV]\n1\n", "neither a column `time .s.` nor a first line"),
        ("# sampling_rate_hz: -256\necg [mV]\n1\n", "sampling_rate_hz -256: give a number in 0..50000"),
        ("# sampling_rate_hz: nan\necg [mV]\n1\n", "sampling_rate_hz nan: give a number"),
        ("# sampling_rate_hz: fast\necg [mV]\n1\n", "sampling_rate_hz fast: give a number"),
        ("time [s],ecg [mV]\n", "no rows below the header"),
        ("time [s],ecg [mV]\n0,1\n0.1,x\n", r"a\.csv:3: not a row of numbers"),
        ("time [s],ecg [mV]\n0,1\n0.1\n", r"a\.csv:3: not a row of numbers"),
        ("time [s],ecg [mV]\n1,1\n0,1\n", "the time does not increase at sample 2"),
        ("time [s],ecg [mV]\nnan,1\n0,1\n", "a row without a time"),
        ("time [h],ecg [mV]\n0,1\n1,1\n", "time has unit 'h'"),
        ("time [s],ecg [furlong]\n0,1\n1,1\n", "channel 'ecg' has unit 'furlong': ecg needs one of v, mv, uv, nv"),
        ("time [s],ecg [mV]\n0,inf\n1,1\n", "channel 'ecg' contains infinity"),
        ("time [s],ecg [mV]\n0,1\n0.000001,1\n", "1000000 samples a second"),
        ("time [s],ecg [mV]\n0,1\n0.01,1\n0.02,1\n1000000000,1\n", "100000000000 samples of 'ecg', limit 16777216"),
        (",".join(f"eeg{i} [uV]" for i in range(600)) + "\n", "600 columns, limit 512"),
        ("time [s],eda [uS]\n0,1\n1," + "1" * 200_000 + "\n", r"a\.csv:3: field larger than field limit \(131072\)"),
        ("time [s],eda [uS]," + "x" * 200_000 + "\n0,1\n", r"a\.csv:1: field larger than field limit"),
        ("time [s],a" + " " * 100_000 + "b," + "c[" * 50_000 + "\n0,1\n", "no known channel among time, a"),
    ],
)
def test_bad_table_gives_a_message(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(MediaError, match=message):
        read_recording(tmp_path / "a.csv")


def test_samples_of_all_channels_together_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = ",".join(f"eeg C{i} [uV]" for i in range(400))
    rows = "".join(f"{time}{',1' * 400}\n" for time in (0, 0.00002, 0.00004, 0.00006, 330))
    (tmp_path / "a.csv").write_text(f"time [s],{heads}\n{rows}")
    with pytest.raises(MediaError, match="6600000000 samples in 400 channels, limit 67108864: shorten the recording"):
        read_recording(tmp_path / "a.csv")
    file = write_edf(tmp_path / "a.edf", COLUMNS, RATE_HZ)
    monkeypatch.setattr("nanoemox.media.recordings.MAX_TOTAL_SAMPLES", 3 * 7 * RATE_HZ)
    with pytest.raises(MediaError, match=f"{3 * 8 * RATE_HZ} samples in 3 channels, limit {3 * 7 * RATE_HZ}"):
        read_recording(file)
    assert len(read_recording(file, 0.0, 7.0)) == 3, "only what is read counts"
    monkeypatch.setattr("nanoemox.media.recordings.MAX_SAMPLES", 100)
    with pytest.raises(MediaError, match="1024 samples of 'ECG', limit 100"):
        read_recording(file)


def test_binary_and_large_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_bytes(b"time [s],ecg [mV]\n0,\xff\n")
    with pytest.raises(MediaError, match="not UTF-8 at byte 20"):
        read_recording(tmp_path / "a.csv")
    monkeypatch.setattr("nanoemox.media.recordings.MAX_CSV_BYTES", 10)
    with pytest.raises(MediaError, match="22 bytes, limit 10: shorten the recording"):
        read_recording(tmp_path / "a.csv")
    with pytest.raises(MediaError, match=r"suffix \.wav of a recording: need \.edf or \.csv"):
        read_recording(_touch(tmp_path / "a.wav"))
    with pytest.raises(MediaError, match="no such recording"):
        read_recording(tmp_path / "b.edf")


def _touch(path: Path) -> Path:
    path.touch()
    return path


def damaged(file: Path, start: int, text: str) -> Path:
    """Write over a field of a header."""
    data = bytearray(file.read_bytes())
    data[start : start + len(text)] = text.encode("ascii")
    file.write_bytes(data)
    return file


@pytest.mark.parametrize(
    ("start", "text", "message"),
    [
        (184, "x       ", "its header lacks the numbers"),
        (252, "-1  ", "a header of -1 channels"),
        (252, "9999", "a header of 9999 channels"),
        (236, "99999999", "announces 99999999 records of"),
        (236, "-1      ", "announces -1 records"),
        (244, "-1      ", "not a complete EDF file|samples a second"),
        (256 + 4 * 216, "99999999", "announces 8 records of"),
        (256 + 4 * 216, "-128    ", "announces|not a complete EDF file|samples a second"),
    ],
)
def test_bad_edf_header_gives_a_message(tmp_path: Path, start: int, text: str, message: str) -> None:
    file = damaged(write_edf(tmp_path / "a.edf", COLUMNS, RATE_HZ), start, text)
    with pytest.raises(MediaError, match=message):
        read_recording(file)


def test_short_records_of_an_edf_are_read_to_the_end(tmp_path: Path) -> None:
    for records in range(50, 90):  # of 0.1 s: for some of them, records * 0.1 * 70 is past the last sample
        wave = EdfSignal(np.arange(7.0 * records), 70, label="EDA", physical_dimension="uS")
        Edf([wave], data_record_duration=0.1).write(tmp_path / "a.edf")
        (channel,) = read_recording(tmp_path / "a.edf")
        assert len(channel.values) == 7 * records


def test_truncated_or_unknown_edf_gives_a_message(tmp_path: Path) -> None:
    file = write_edf(tmp_path / "a.edf", COLUMNS, RATE_HZ)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(MediaError, match=r"the file has .* it is truncated"):
        read_recording(file)
    file.write_bytes(b"")
    with pytest.raises(MediaError, match="not an EDF file"):
        read_recording(file)
    Edf([EdfSignal(np.ones(64), 32, label="Temp", physical_dimension="degC", physical_range=(0, 50))]).write(file)
    with pytest.raises(MediaError, match="no known channel among Temp"):
        read_recording(file)


def test_missing_edf_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_edf(tmp_path / "a.edf", COLUMNS, RATE_HZ)
    monkeypatch.setitem(sys.modules, "edfio", None)
    with pytest.raises(MediaError, match=r"pip install 'nanoemox\[physiology\]'"):
        read_recording(file)
