from __future__ import annotations

import pytest
import torch

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


def test_calibration_divides_by_the_prior(engine: Engine) -> None:
    assert _calibrate(engine, 1.0, 1.0) != pytest.approx(_calibrate(engine, 0.0, 1.0), abs=1e-6)


def test_prior_is_cached_until_the_weights_change() -> None:
    engine = Engine(tiny_model(), tiny_processor(), "tiny")
    first = _calibrate(engine, 1.0, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nanoemox.inference.calibrating.prefill", None)
        assert _calibrate(engine, 1.0, 1.0) == first
    with torch.no_grad():
        engine.model.get_input_embeddings().weight.mul_(1.5)
    changed = _calibrate(engine, 1.0, 1.0)
    assert changed != pytest.approx(first, abs=1e-6)
    fresh = tiny_model()
    fresh.load_state_dict(engine.model.state_dict())
    assert _calibrate(Engine(fresh, tiny_processor(), "tiny"), 1.0, 1.0) == pytest.approx(changed, abs=1e-6)


def test_calibration_works_for_models_made_in_inference_mode() -> None:
    with torch.inference_mode():
        engine = Engine(tiny_model(), tiny_processor(), "tiny")
        made = _calibrate(engine, 1.0, 1.0)
    assert made == pytest.approx(_calibrate(Engine(tiny_model(), tiny_processor(), "tiny"), 1.0, 1.0), abs=1e-6)


def test_prior_follows_the_dtype_of_the_weights() -> None:
    engine = Engine(tiny_model(), tiny_processor(), "tiny")
    single = _calibrate(engine, 1.0, 1.0)
    engine.model.double()
    double = _calibrate(engine, 1.0, 1.0)
    assert double == _calibrate(Engine(tiny_model().double(), tiny_processor(), "tiny"), 1.0, 1.0)
    assert double == pytest.approx(single, abs=1e-4)
