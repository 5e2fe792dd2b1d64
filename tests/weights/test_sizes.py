"""Parameter counts of the presets, in millions, without allocating any."""

from __future__ import annotations

import pytest

from nanoemox.weights.presets import load_preset, model_config
from nanoemox.weights.sizes import Sizes, model_sizes, tensor_table
from tests.tiny import tiny_config, tiny_model


def sizes(name: str) -> Sizes:
    return model_sizes(model_config(load_preset(name)))


@pytest.mark.parametrize(("name", "trained"), [("reference", 50.84), ("paper", 52.94), ("nanoemox", 53.47)])
def test_full_size_by_part(name: str, trained: float) -> None:
    found = sizes(name)
    assert found.vision_tower / 1e6 == pytest.approx(303.2, abs=0.1)
    # Block 24 is never read, so it is not built.
    assert found.parts["vision_encoder"] / 1e6 == pytest.approx(290.6, abs=0.1)
    assert found.parts["speech_encoder"] / 1e6 == pytest.approx(315.4, abs=0.1)
    assert found.parts["face_encoder"] / 1e6 == pytest.approx(87.5, abs=0.1)
    assert found.parts["language_model"] / 1e6 == pytest.approx(1543.7, abs=0.1)
    assert found.adapters / 1e6 == pytest.approx(trained, abs=0.01)
    assert found.lora == {16: 18_464_768, 32: 36_929_536}
    assert 2.2e9 < found.total < found.total + found.lora[32] < 2.35e9


def test_light_is_under_one_billion() -> None:
    assert sizes("light").total < 1.0e9


def test_counts_and_names_are_those_of_the_model() -> None:
    config = tiny_config()
    model = tiny_model(config)
    assert model_sizes(config).total == sum(p.numel() for p in model.parameters())
    state = model.state_dict()
    table = tensor_table(config)
    assert set(state) - set(table) == {"language_model.lm_head.weight"}
    assert {n: t.shape for n, t in table.items()} == {n: state[n].shape for n in table}


def test_size_rows_distinguish_built_and_stored_parameters() -> None:
    rows = {part: (count, remark) for part, count, remark in sizes("reference").rows()}
    assert "303.2 M in the public file" in rows["vision encoder"][1]
    assert rows["total"][0] == sizes("reference").total
