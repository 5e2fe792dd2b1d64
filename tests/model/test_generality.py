"""Any causal language model, speech encoder, vision tower and face backbone of the library: build, answer, reload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nanoemox.inference.decoding import GenerationOptions
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions
from nanoemox.model.branches.vision import VisionBranchConfig, VisionEncoder
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask
from nanoemox.types import CheckpointError
from tests.tiny import HUBERT_TINY, WHISPER_TINY, tiny_clip, tiny_config, tiny_model, tiny_processor

SHORT = AnswerOptions(generation=GenerationOptions(8))
TOWER = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2,
    "patch_size": 8, "image_size": 32,
}  # fmt: skip
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "num_stages": 4}
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "llama": ("llama", {}),
    "wavlm": ("qwen2", {"speech": {"encoder": {**HUBERT_TINY, "model_type": "wavlm"}}}),
    "whisper": ("qwen2", {"speech": {"encoder": WHISPER_TINY, "window_s": 2.0}}),
    "siglip": ("qwen2", {"vision": {"encoder": {"model_type": "siglip_vision_model", **TOWER}}}),
    "dinov2": ("qwen2", {"vision": {"encoder": {"model_type": "dinov2", **TOWER}}}),
    "convnext": ("qwen2", {"face": {"kind": "backbone", "encoder": {"model_type": "convnext", **STAGES}}}),
    "convnextv2": ("qwen2", {"face": {"kind": "backbone", "encoder": {"model_type": "convnextv2", **STAGES}}}),
    "resnet": (
        "qwen2",
        {"face": {"kind": "backbone", "encoder": {"model_type": "resnet", "embedding_size": 8, **STAGES}}},
    ),
}
ASK = Ask("mer", answer="happy")


def make(name: str) -> NanoEmoXConfig:
    language, sections = PARTS[name]
    return tiny_config(language, **sections)


def logits(model: NanoEmoXForConditionalGeneration, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**{k: v for k, v in batch.items() if k != "labels"}).logits


@pytest.mark.parametrize("name", PARTS)
def test_builds_forwards_generates_and_reloads(name: str, tmp_path: Path) -> None:
    config = make(name)
    model, processor = tiny_model(config), tiny_processor(config)
    batch = processor(tiny_clip(), ASK)
    out = model(**batch)
    assert torch.isfinite(out.loss)
    assert out.gate.shape == (1, 3)
    for branch in ("vision_levels", "speech_levels", "face_vectors"):
        assert torch.isfinite(out.features[branch]).all()
    # Every branch is heard: without it the answer is another one.
    whole = out.logits[:, -2]
    for modality in ("vision", "speech", "face"):
        part = model(**processor(tiny_clip(without=(modality,)), ASK)).logits[:, -2]
        assert not torch.allclose(whole, part, atol=1e-4)
    answer = Engine(model, processor).answer(tiny_clip(), ("msa", "eri"), options=SHORT)
    assert answer.modalities == ("vision", "speech", "face", "text")
    assert sum(answer.tasks["msa"].probabilities.values()) == pytest.approx(1, abs=1e-5)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    engine = Engine.from_pretrained(tmp_path, device="cpu")
    state = engine.model.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    # Kernels round by where a tensor lies in memory.
    torch.testing.assert_close(
        logits(engine.model, engine.processor(tiny_clip(), ASK)), logits(model, batch), atol=3e-5, rtol=1e-5
    )
    again = engine.answer(tiny_clip(), ("msa", "eri"), options=SHORT)
    assert again.tasks["eri"].raw == answer.tasks["eri"].raw


@pytest.mark.parametrize("name", PARTS)
def test_gradients_reach_the_adapters(name: str) -> None:
    config = make(name)
    model = tiny_model(config).train()
    model(**tiny_processor(config)(tiny_clip(), ASK)).loss.backward()
    for adapter in (model.vision_adapter, model.speech_adapter, model.face_adapter, model.fusion):
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in adapter.parameters())


def test_vision_tower_with_other_inputs_is_refused() -> None:
    # SigLIP2 of fixed resolution is a plain SigLIP; only its variant for any aspect ratio takes loose patches.
    patches = {**TOWER, "num_patches": 16}
    del patches["image_size"]
    encoder = VisionBranchConfig(encoder={"model_type": "siglip2_vision_model", **patches}, last=3, taps=[1, 2, 4])
    with pytest.raises(CheckpointError, match=r"Siglip2VisionModel needs pixel_attention_mask, spatial_shapes"):
        VisionEncoder(encoder)
