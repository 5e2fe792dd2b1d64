from __future__ import annotations

import pytest

from nanoemox.inference.engine import Engine
from nanoemox.model.calibration import Calibration, TaskCalibration
from tests.tiny import tiny_model, tiny_processor


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(tiny_model(), tiny_processor(), "tiny")


def _calibrate(engine: Engine, strength: float, temperature: float) -> dict[str, float]:
    engine.processor.calibration = Calibration(
        content_free=("N/A", "..."), tasks={"mer": TaskCalibration(strength=strength, temperature=temperature)}
    )
    found = engine.answer(text="I finally got the job!", tasks=("mer",)).tasks["mer"].probabilities
    assert found is not None
    return dict(found)


def test_a_temperature_keeps_the_order_and_needs_no_second_scoring(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _calibrate(engine, 0.0, 1.0)
    monkeypatch.setattr("nanoemox.inference.calibrating.prefill", None)
    flat = _calibrate(engine, 0.0, 3.0)
    assert sorted(plain, key=plain.get) == sorted(flat, key=flat.get)  # type: ignore[arg-type]
    assert max(flat.values()) < max(plain.values())


def test_the_prior_is_taken_off(engine: Engine) -> None:
    assert _calibrate(engine, 1.0, 1.0) != pytest.approx(_calibrate(engine, 0.0, 1.0), abs=1e-6)
