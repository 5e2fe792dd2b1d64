"""Q-Former and token adapter: positions, attention shares, every layer, no unused weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nanoemox.model.adapters import TokenAdapter
from nanoemox.model.branches.speech import SpeechBranchConfig
from nanoemox.model.branches.vision import VisionBranchConfig
from nanoemox.model.qformer import QFormer
from nanoemox.weights.convert_reference import convert_state
from tests.model.test_oracle_modules import cases, close, config_with, hubert, load, state_of  # noqa: F401 (fixture)
from tests.tiny import CLIP_TINY, HUBERT_TINY, QFORMER_TINY


def section(**fields: Any) -> VisionBranchConfig:
    return VisionBranchConfig(
        **{"encoder": CLIP_TINY, "last": 3, "taps": [1], "num_queries": 5, "max_positions": 8, **QFORMER_TINY, **fields}
    )


def adapter_of(config: VisionBranchConfig | SpeechBranchConfig) -> TokenAdapter:
    torch.manual_seed(0)
    adapter = TokenAdapter(config, 24)
    for parameter in adapter.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return adapter.eval()


@pytest.mark.parametrize("steps", [1, 5, 8])
def test_qformer_output_for_any_length(steps: int) -> None:
    tokens, attention = adapter_of(section())(torch.randn(3, steps, 32))
    assert tokens.shape == (3, 5, 24)
    assert attention.shape == (3, steps)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3))


def test_qformer_accepts_a_speech_section() -> None:
    config = SpeechBranchConfig(encoder=HUBERT_TINY, last_states=2, taps=[1], num_queries=3, **QFORMER_TINY)
    assert adapter_of(config)(torch.randn(2, 8, 32)).tokens.shape == (2, 3, 24)


def test_order_matters_only_with_positions() -> None:
    adapter, features = adapter_of(section()), torch.randn(2, 6, 32)
    with torch.no_grad():
        plain, flipped = adapter.qformer(features), adapter.qformer(features.flip(1))
        torch.testing.assert_close(plain.hidden, flipped.hidden, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(plain.attention, flipped.attention.flip(1))
        assert not torch.allclose(adapter(features).tokens, adapter(features.flip(1)).tokens, atol=1e-3)


@pytest.mark.parametrize(("name", "per_frame"), [("grid2", 4), ("grid4", 16)])
def test_grid_tokens_share_the_position_and_attention_of_their_frame(name: str, per_frame: int) -> None:
    adapter = adapter_of(section(frame_tokens=name))
    features = torch.randn(2, 3 * per_frame, 32)
    order = torch.cat([t * per_frame + torch.randperm(per_frame) for t in range(3)])
    with torch.no_grad():
        plain, shuffled = adapter(features), adapter(features[:, order])
    assert plain.attention.shape == (2, 3)
    torch.testing.assert_close(plain.attention.sum(-1), torch.ones(2))
    torch.testing.assert_close(plain.tokens, shuffled.tokens, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain.attention, shuffled.attention)


def test_attention_share_peaks_at_the_informative_frame() -> None:
    adapter = adapter_of(section(num_hidden_layers=1))
    attention = adapter.qformer.layers[0].cross_attention
    with torch.no_grad():
        for linear, bias in ((attention.query, 4.0), (attention.key, 0.0)):
            linear.weight.zero_()
            linear.bias.fill_(bias)
        attention.key.weight.copy_(torch.eye(32))
        features = torch.zeros(1, 4, 32)
        features[0, 2] = 1.0
        share = adapter.qformer(features).attention
    assert share.argmax() == 2
    assert share[0, 2] > 0.99


def test_every_weight_trains_and_queries_start_small() -> None:
    torch.manual_seed(0)
    former = QFormer(section(num_queries=64, dropout=0.0))
    assert 0.018 < former.queries.std() < 0.022
    adapter = adapter_of(section(dropout=0.0)).train()
    adapter(torch.randn(2, 8, 32)).tokens.square().sum().backward()
    assert not [n for n, p in adapter.named_parameters() if p.grad is None]


def test_dropout_only_in_training_and_never_in_attention_shares() -> None:
    adapter, features = adapter_of(section(dropout=0.5)), torch.randn(2, 6, 32)
    with torch.no_grad():
        assert torch.equal(adapter(features).tokens, adapter(features).tokens)
        adapter.train()
        one, two = adapter(features), adapter(features)
    assert not torch.equal(one.tokens, two.tokens)
    torch.testing.assert_close(one.attention.sum(-1), torch.ones(2))


def test_bfloat16_is_close_to_float32() -> None:
    adapter, features = adapter_of(section()), torch.randn(2, 6, 32)
    with torch.no_grad():
        full = adapter(features).tokens
        half = adapter.to(torch.bfloat16)(features.to(torch.bfloat16)).tokens
    assert (full - half.float()).abs().max() <= 0.1 * full.abs().max()


def test_every_intermediate_of_every_layer(shared: Any, cases: dict[str, Any]) -> None:  # noqa: F811
    case, tensors = cases["audio_qformer"], load_file(shared / "golden" / "modules.safetensors")
    state = state_of(tensors, "audio_qformer")
    config = config_with(
        case["llm_dim"],
        speech={
            **hubert(hidden_size=case["encoder_width"], num_hidden_layers=24),
            "num_queries": case["queries"],
            "hidden_size": case["hidden"],
            "num_attention_heads": case["heads"],
            "num_hidden_layers": case["layers"],
            "intermediate_size": case["ffn"],
            "max_positions": len(state["audio_position_embedding.weight"]),
        },
    )
    adapter = TokenAdapter(config.speech, case["llm_dim"])
    load(adapter, convert_state(state, config), "speech_adapter.")
    features = tensors["audio_qformer/mid/features_plus_position"]
    with torch.no_grad():
        hidden = adapter.qformer.norm(adapter.qformer.queries).expand(len(features), -1, -1)
        close(hidden, tensors["audio_qformer/mid/query_embeddings"])
        for i, layer in enumerate(adapter.qformer.layers):
            heard, _ = layer.self_attention(hidden, hidden)
            close(heard, tensors[f"audio_qformer/mid/layer{i}_self_attention"])
            close(layer.cross_attention(heard, features)[0], tensors[f"audio_qformer/mid/layer{i}_cross_attention"])
            hidden, _ = layer(hidden, features)
            close(hidden, tensors[f"audio_qformer/mid/layer{i}_output"])
