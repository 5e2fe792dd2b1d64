"""Packed weights give the same answers and are saved unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from nanoemox.inference.checkpoints import load_checkpoint
from nanoemox.inference.decoding import Decoder, GenerationOptions
from nanoemox.inference.engine import Engine
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.packing import PackedLinear, can_pack, pack
from tests.inference.test_decoding import END, PROMPTS, QUESTIONS, language_model, prefixed

LONG = GenerationOptions(max_new_tokens=20)
PACKED = [dtype for dtype in (torch.float32, torch.bfloat16) if can_pack(torch.device("cpu"), dtype)]


@pytest.mark.parametrize("least", [1, 4])
@pytest.mark.parametrize("dtype", PACKED)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (3, 1), (1, 5), (2, 40), (0,)])
def test_packed_product_equals_dense_product(
    shape: tuple[int, ...], bias: bool, dtype: torch.dtype, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rows of both kinds of processor, whichever this is."""
    monkeypatch.setattr("nanoemox.model.packing.ROWS_LEAST", least)
    torch.manual_seed(0)
    linear = nn.Linear(48, 80, bias=bias, dtype=dtype)
    x = torch.randn(*shape, 48, dtype=dtype)
    with torch.no_grad():
        found = PackedLinear(linear)(x)
        assert found.shape == (*shape, 80)
        torch.testing.assert_close(found, linear(x))


def test_packed_rows_are_independent_of_the_batch() -> None:
    torch.manual_seed(0)
    packed = PackedLinear(nn.Linear(64, 96))
    x = torch.randn(4, 64)
    with torch.no_grad():
        together = packed(x)
        assert all(torch.equal(packed(x[i : i + 1])[0], together[i]) for i in range(4))


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_packed_model_generates_the_same_text(kind: str) -> None:
    model = language_model(kind)
    before = Decoder(model, prefixed(model, PROMPTS), QUESTIONS, END, LONG).finish()
    pack(model)
    assert Decoder(model, prefixed(model, PROMPTS), QUESTIONS, END, LONG).finish() == before
    assert not any(type(m) is nn.Linear for m in model.modules())


def test_packing_does_not_change_saved_weights(tmp_path: Path) -> None:
    model, _, _ = load_checkpoint("mini", device="cpu")
    assert isinstance(model.get_output_embeddings(), PackedLinear) == can_pack(torch.device("cpu"), torch.float32)
    model.save_pretrained(tmp_path)
    again = NanoEmoXForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    first, _, _ = load_checkpoint("mini", device="cpu")
    assert again.keys() == first.state_dict().keys()
    assert all(torch.equal(again[name], value) for name, value in first.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_type_loads_and_answers_packed_or_not(dtype: torch.dtype) -> None:
    engine = Engine.from_pretrained("mini", device="cpu", dtype=dtype)
    packed = isinstance(engine.model.get_output_embeddings(), PackedLinear)
    assert packed == can_pack(torch.device("cpu"), dtype)
    assert engine.answer(text="I got the job!", tasks=("msa",)).tasks["msa"].label is not None


def test_packed_weights_cannot_be_trained() -> None:
    with pytest.raises(RuntimeError, match="no gradient"):
        PackedLinear(nn.Linear(8, 8))(torch.randn(2, 8, requires_grad=True))
