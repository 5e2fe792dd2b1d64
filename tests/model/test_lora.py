"""LoRA and adapter files: attach, train, merge, save, reload onto a fresh base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nanoemox.model import lora
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.named_adapters import NamedAdapters
from nanoemox.model.processing import Ask
from nanoemox.types import CheckpointError
from tests.tiny import tiny_clip, tiny_model, tiny_processor


def _inputs():
    return tiny_processor()(tiny_clip(), Ask("msa"))


def _logits(model: NanoEmoXForConditionalGeneration) -> torch.Tensor:
    with torch.no_grad():
        return model(**_inputs()).logits


def _trained() -> NanoEmoXForConditionalGeneration:
    model = tiny_model()
    lora.attach_lora(model, lora.LoraSpec(r=4, alpha=8, dropout=0.0))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if lora.group_of(name) is not None:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def test_lora_is_only_in_the_language_model_and_starts_as_identity() -> None:
    model = tiny_model()
    before = _logits(model)
    lora.attach_lora(model, lora.LoraSpec(r=4))
    names = lora.lora_layers(model)
    assert len(names) == 2 * 7
    assert all(n.startswith("language_model.") for n in names)
    assert torch.equal(before, _logits(model))
    assert all(p.requires_grad for p in model.parameters()), "freezing is the curriculum's business"
    with pytest.raises(CheckpointError, match="attached already"):
        lora.attach_lora(model, lora.LoraSpec(r=4))


def test_merged_lora_computes_the_same() -> None:
    model = _trained()
    before = _logits(model)
    lora.fold_lora(model)
    assert not lora.lora_layers(model)
    assert set(model.state_dict()) == set(tiny_model().state_dict())
    torch.testing.assert_close(_logits(model), before, atol=1e-5, rtol=1e-5)


def test_adapters_reload_onto_a_fresh_base(tmp_path: Path) -> None:
    model = _trained()
    path = lora.save_adapters(model, tmp_path / "adapters.safetensors")
    fresh = tiny_model()
    assert not torch.equal(_logits(fresh), _logits(model))
    names = lora.load_adapters(fresh, path)
    assert {lora.group_of(n) for n in names} == {"vision_adapter", "speech_adapter", "face_adapter", "fusion", "lora"}
    assert not any(n.startswith(("vision_encoder", "speech_encoder", "face_encoder")) for n in names)
    assert torch.equal(_logits(fresh), _logits(model))


def test_group_file_contains_its_group_and_unknown_tensors_raise(tmp_path: Path) -> None:
    path = lora.save_adapters(_trained(), tmp_path / "speech.safetensors", groups=["speech_adapter"])
    model = tiny_model()
    assert all(n.startswith("speech_adapter.") for n in lora.load_adapters(model, path))
    with pytest.raises(CheckpointError, match=r"missing \['face_adapter"):
        lora.load_adapters(model, path, groups=["speech_adapter", "face_adapter"])
    (tmp_path / "bad.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        lora.load_adapters(model, tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    "size",
    [None, "{", '{"r": "4", "alpha": 8}', '{"r": 0, "alpha": 8}', '{"r": 1000000000, "alpha": 8}', "[4]"],
    ids=["none", "no JSON", "a string", "zero", "huge", "a list"],
)
def test_lora_without_its_size_is_refused(size: str | None, tmp_path: Path) -> None:
    state = load_file(lora.save_adapters(_trained(), tmp_path / "whole.safetensors"))
    save_file(state, tmp_path / "x.safetensors", metadata=None if size is None else {"nanoemox_lora": size})
    with pytest.raises(
        CheckpointError, match=r"x\.safetensors: (holds LoRA, but not its size|its LoRA has rank 4, but)"
    ):
        lora.load_adapters(tiny_model(), tmp_path / "x.safetensors")
    named = NamedAdapters(tiny_model())
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        named.add("x", tmp_path / "x.safetensors")
    assert named.names == ()


def test_save_pretrained_refuses_attached_lora_and_saves_merged_model(tmp_path: Path) -> None:
    model = _trained()
    with pytest.raises(CheckpointError, match="fold_lora"):
        model.save_pretrained(tmp_path)
    expected = _logits(model)
    lora.fold_lora(model)
    model.save_pretrained(tmp_path)
    again = NanoEmoXForConditionalGeneration.from_pretrained(tmp_path)
    torch.testing.assert_close(_logits(again), expected, atol=1e-5, rtol=1e-5)


def test_lower_layers_can_be_excluded_from_lora_and_this_is_saved(tmp_path: Path) -> None:
    model = tiny_model()
    lora.attach_lora(model, lora.LoraSpec(r=4, first_layer=1))
    assert len(lora.lora_layers(model)) == 7
    assert all(".layers.1." in name for name in lora.lora_layers(model))
    path = lora.save_adapters(model, tmp_path / "adapters.safetensors")
    fresh = tiny_model()
    lora.load_adapters(fresh, path)
    assert set(lora.lora_layers(fresh)) == set(lora.lora_layers(model))
