from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nanoemox.model.lora import (
    LoraSpec,
    attach_lora,
    fold_lora,
    load_adapters,
    read_adapters,
    save_adapters,
    write_adapters,
)
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.named_adapters import NamedAdapters
from nanoemox.model.processing import Ask
from nanoemox.types import CheckpointError
from tests.tiny import tiny_clip, tiny_model, tiny_processor

SETS = {
    "emotion": (LoraSpec(4, 8), ("vision_adapter", "fusion", "lora")),
    "intent": (LoraSpec(2, 4, 0.1, 1), ("speech_adapter", "lora")),
    "sight": (None, ("vision_adapter",)),
}


def logits(model: NanoEmoXForConditionalGeneration) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**tiny_processor()([tiny_clip(0)], Ask("mer"))).logits


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for seed, (name, (spec, groups)) in enumerate(SETS.items()):
        model = tiny_model()
        if spec is not None:
            attach_lora(model, spec)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if ".lora_" in parameter_name or parameter_name.split(".")[0] in groups:
                    parameter += 0.3 * torch.randn_like(parameter)
        save_adapters(model, tmp_path / f"{name}.safetensors", groups)
    return {name: tmp_path / f"{name}.safetensors" for name in SETS}


def test_adapter_sets_are_independent(files: dict[str, Path]) -> None:
    alone = {None: logits(tiny_model())}
    for name, path in files.items():
        model = tiny_model()
        load_adapters(model, path)
        alone[name] = logits(model)
    model = tiny_model()
    named = NamedAdapters(model)
    for name, path in files.items():
        named.add(name, path)
        assert named.current == name
    assert named.names == tuple(SETS)
    for name in ("intent", "emotion", None, "sight", "intent", "sight", None):
        named.use(name)
        torch.testing.assert_close(logits(model), alone[name])
    assert not any(torch.equal(alone[a], alone[b]) for a in alone for b in alone if a != b)


def test_invalid_adapter_operations_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    model = tiny_model()
    named = NamedAdapters(model)
    named.add("emotion", files["emotion"])
    before = logits(model)
    for name in ("emotion", "a.b", ""):
        with pytest.raises(CheckpointError, match="letters, digits, _ and -, and not emotion"):
            named.add(name, files["intent"])
    with pytest.raises(CheckpointError, match="no adapters 'mood': there are emotion"):
        named.use("mood")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        named.add("gone", tmp_path / "gone.safetensors")
    with pytest.raises(CheckpointError, match="LoRA is attached already"):
        NamedAdapters(model)
    assert named.names == ("emotion",)
    assert torch.equal(logits(model), before)


def test_a_refused_set_leaves_the_current_one_in_use(files: dict[str, Path], tmp_path: Path) -> None:
    model = tiny_model()
    adapters = NamedAdapters(model)
    adapters.add("emotion", files["emotion"])
    before = logits(model)
    state, spec = read_adapters(files["intent"])
    wrong = {n: torch.cat([t, t]) if ".lora_B" in n else t for n, t in state.items()}
    write_adapters(wrong, tmp_path / "wrong.safetensors", spec)
    with pytest.raises(CheckpointError, match="shape"):
        adapters.add("intent", tmp_path / "wrong.safetensors")
    assert torch.equal(logits(model), before)
    adapters.add("intent", files["intent"])
    adapters.use("emotion")
    assert torch.equal(logits(model), before)


def test_names_may_equal_parts_of_the_model(files: dict[str, Path]) -> None:
    model = tiny_model()
    adapters = NamedAdapters(model)
    for name in ("0", "mlp", "self_attn"):
        adapters.add(name, files["emotion"])
    by_number = logits(model)
    adapters.use("0")
    assert torch.equal(logits(model), by_number)


def test_only_the_set_in_use_is_folded(files: dict[str, Path], tmp_path: Path) -> None:
    model = tiny_model()
    plain = logits(model)
    adapters = NamedAdapters(model)
    adapters.add("emotion", files["emotion"])
    with pytest.raises(CheckpointError, match=r"emotion.*fold_lora"):
        save_adapters(model, tmp_path / "x.safetensors", ("lora",))
    adapters.use(None)
    fold_lora(model)
    assert torch.equal(logits(model), plain)
