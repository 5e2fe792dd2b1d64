from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoemox.media.windows import coverage_warning, frame_indices_reference, rolling_windows, speech_window_starts


def test_reference_speech_grid_equals_the_golden_file(shared: Path) -> None:
    golden = json.loads((shared / "golden/windows.json").read_text())
    assert len(golden["audio"]) >= 10
    for case in golden["audio"]:
        got = speech_window_starts(case["n_samples"], 8, 32_000, "reference")
        assert got.dtype == np.int64
        assert got.tolist() == case["start_sample"], case["duration_s"]
        real = np.minimum(got + 32_000, case["n_samples"]) - got
        assert real.tolist() == case["n_real_samples_per_window"], case["duration_s"]


def test_reference_frame_indices_equal_the_golden_file(shared: Path) -> None:
    golden = json.loads((shared / "golden/windows.json").read_text())
    assert len(golden["frames"]) > 10
    for length, case in golden["frames"].items():
        assert frame_indices_reference(int(length), 8).tolist() == case["indices"], length


@given(st.integers(0, 2_000_000), st.integers(1, 12), st.integers(1, 40_000))
def test_cover_grid_starts_at_zero_and_ends_with_the_clip(samples: int, windows: int, length: int) -> None:
    starts = speech_window_starts(samples, windows, length, "cover")
    assert len(starts) == windows
    assert starts[0] == 0
    assert (np.diff(starts) >= 0).all()
    if windows > 1 and samples > length:
        assert starts[-1] + length == samples
    if samples <= length:
        assert not starts.any()


@given(st.floats(0.01, 5000), st.floats(0.1, 10), st.floats(0, 20))
def test_rolling_windows_cover_the_whole_clip(duration: float, every: float, more: float) -> None:
    spans = rolling_windows(duration, every, every + more)
    assert spans[0].start_s == 0
    assert spans[-1].end_s == pytest.approx(duration)
    assert all(b.start_s <= a.end_s + 1e-6 for a, b in itertools.pairwise(spans))
    assert all(a.end_s - a.start_s <= every + more + 1e-6 for a in spans)


def test_rolling_windows_literal() -> None:
    assert rolling_windows(4) == ((0, 4),)
    assert rolling_windows(17) == ((0, 10), (3, 13), (6, 16), (7, 17))
    with pytest.raises(ValueError, match="hop"):
        rolling_windows(10, every_s=5, window_s=3)


def test_coverage_warning_points_to_every() -> None:
    assert coverage_warning(10, 8) is None
    assert coverage_warning(0, 0) is None
    assert "--every" in (coverage_warning(120, 16) or "")
