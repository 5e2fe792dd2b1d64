"""Eight-bit matrices: near the matrices they stand for, each row by itself, and refused where they cannot be."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nanoemox import Engine
from nanoemox.inference.decoding import GenerationOptions
from nanoemox.inference.int8 import Int8Linear, quantize_language_model
from nanoemox.inference.precision import default_dtype
from nanoemox.types import CheckpointError, Clip


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_near_the_layer_it_stands_for(bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 96, bias=bias).to(dtype)
    values = torch.randn(2, 5, 64).to(dtype) * torch.logspace(-3, 3, 5)[:, None].to(dtype)
    found, wanted = Int8Linear(layer)(values), layer(values)
    assert found.dtype == dtype
    errors = (found - wanted).float().norm(dim=-1) / wanted.float().norm(dim=-1)
    assert errors.max() < 0.02


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    layer = Int8Linear(nn.Linear(64, 96))
    row, loud = torch.randn(1, 3, 64), 1000 * torch.randn(1, 3, 64)
    assert torch.equal(layer(torch.cat([row, loud]))[:1], layer(row))


def test_no_rows_and_rows_of_zeros() -> None:
    layer = Int8Linear(nn.Linear(8, 4))
    assert layer(torch.zeros(2, 0, 8)).shape == (2, 0, 4)
    assert torch.allclose(layer(torch.zeros(2, 8)), layer._bias.expand(2, 4))


def test_an_engine_in_eight_bits_answers_nearly_the_same() -> None:
    clip = Clip("words", subtitle="I finally got the job, and I do not know whom to tell first.")
    wide, narrow = Engine.from_pretrained("mini"), Engine.from_pretrained("mini", quantize="int8")
    held = [m for m in narrow.model.modules() if isinstance(m, Int8Linear)]
    layers = narrow.model.config.text_config.num_hidden_layers
    assert len(held) == 7 * layers + 1
    options = GenerationOptions(max_new_tokens=8)
    first, second = (e.answer(clip, generation=options).tasks for e in (wide, narrow))
    for task in ("msa", "mer", "mir"):
        assert first[task].label == second[task].label
        for label, share in first[task].probabilities.items():
            assert second[task].probabilities[label] == pytest.approx(share, abs=0.05)


def test_refusals() -> None:
    model = SimpleNamespace(device=torch.device("meta"))
    with pytest.raises(CheckpointError, match="'int4' is unknown: choose int8"):
        quantize_language_model(model, "int4")
    with pytest.raises(CheckpointError, match="runs on a CPU, the model is on meta"):
        quantize_language_model(model, "int8")


@pytest.mark.parametrize(
    ("device", "stored", "native", "wanted"),
    [
        ("cuda", torch.float32, False, torch.bfloat16),
        ("cpu", torch.bfloat16, True, torch.bfloat16),
        ("cpu", torch.bfloat16, False, torch.float32),
        ("cpu", torch.float16, True, torch.float32),
        ("cpu", None, True, torch.float32),
        ("mps", torch.bfloat16, True, torch.float32),
    ],
)
def test_format_by_device_and_processor(
    device: str, stored: torch.dtype | None, native: bool, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanoemox.inference.precision.multiplies_bfloat16", lambda: native)
    assert default_dtype(torch.device(device), stored) == wanted
