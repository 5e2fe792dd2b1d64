"""Calibration of closed answers: saved with the model, raw probabilities kept, optional."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanoemox.inference.batch import ClipBatch, make_plan
from nanoemox.model.calibration import Calibration, TaskCalibration, load_calibration
from nanoemox.types import CheckpointError, Clip
from tests.tiny import tiny_model, tiny_processor


def _readings(calibration: Calibration):
    processor = tiny_processor()
    processor.calibration = calibration
    clips = [Clip("a", subtitle="What a day"), Clip("b", subtitle="N/A")]
    return [r["mer"] for r in ClipBatch(tiny_model().eval(), processor, clips, make_plan("mer")).closed()]


def test_without_a_correction_nothing_changes() -> None:
    for reading in _readings(Calibration()):
        assert reading.uncalibrated is None
        assert "uncalibrated" not in reading.to_dict()


def test_calibration_divides_by_the_prior_and_keeps_raw_probabilities() -> None:
    raw = _readings(Calibration())
    found = _readings(Calibration(tasks={"mer": TaskCalibration(strength=1.0, temperature=2.0)}))
    for before, after in zip(raw, found, strict=True):
        assert after.uncalibrated == pytest.approx(before.probabilities)
        assert sum(after.probabilities.values()) == pytest.approx(1)
    # A clip that says what the content-free words say is left without any preference.
    even = 1 / len(found[1].probabilities)
    assert all(p == pytest.approx(even, abs=1e-4) for p in found[1].probabilities.values())


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"tasks": {"mer": {"temperature": 0}}}))
    with pytest.raises(CheckpointError, match="temperature"):
        load_calibration(path)
