"""A fusion kind from outside the package: the element-wise product of speech and vision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nanoemox.inference.engine import Engine
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.fusion import FUSIONS, FusionOutput
from nanoemox.model.processing import Ask
from tests.tiny import save_tiny, tiny_clip, tiny_config, tiny_model, tiny_processor


class ProductFusion(nn.Module):
    """Mean over time and taps of each, projected and multiplied."""

    def __init__(self, config: NanoEmoXConfig) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        self.seen = nn.Linear(config.vision.feature_size, width)
        self.heard = nn.Linear(config.speech.feature_size, width)

    def forward(self, vision_levels: Tensor, speech_levels: Tensor) -> FusionOutput:
        token = self.seen(vision_levels.mean(dim=(1, 2))) * self.heard(speech_levels.mean(dim=(1, 2)))
        return FusionOutput(token[:, None], None)


def test_new_fusion_is_built_trained_saved_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FUSIONS, "product", ProductFusion)  # the one line
    config = tiny_config(fusion={"kind": "product"})
    model, processor = tiny_model(config), tiny_processor(config)
    model.train()(**processor(tiny_clip(), Ask("mer", answer="happy"))).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.fusion.parameters() if p.ndim > 1)

    engine = Engine.from_pretrained(save_tiny(tmp_path / "model", config), device="cpu")
    assert isinstance(engine.model.fusion, ProductFusion)
    answer = engine.answer(tiny_clip(), ("mer",))
    assert answer.gate is None
    with torch.no_grad():
        engine.model.fusion.seen.weight.mul_(-3)
    assert engine.answer(tiny_clip(), ("mer",)).tasks["mer"].probabilities != answer.tasks["mer"].probabilities


def test_unknown_fusion_kind_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"fusion\.kind 'product' is unknown: choose experts, attention or none"):
        tiny_model(tiny_config(fusion={"kind": "product"}))
