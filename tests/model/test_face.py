"""Face branch: stages at any size, kinds of backbone, frame order, no unused weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nanoemox.model.adapters import VectorAdapter
from nanoemox.model.branches.face import FaceBranchConfig, FaceEncoder
from tests.tiny import SWIN_TINY

BACKBONES: dict[str, dict[str, Any]] = {
    "swin": {"kind": "swin", "encoder": SWIN_TINY},
    "resnet": {
        "kind": "backbone",
        "encoder": {
            "model_type": "resnet",
            "embedding_size": 8,
            "hidden_sizes": [8, 16, 32, 64],
            "depths": [1, 1, 1, 1],
        },
    },
    "convnext": {
        "kind": "backbone",
        "encoder": {"model_type": "convnext", "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]},
    },
}


def face_config(name: str = "swin", **fields: Any) -> FaceBranchConfig:
    return FaceBranchConfig(**{**BACKBONES[name], "fuse_size": 32, "image_size": 64, "projector_size": 48, **fields})


def encoder_of(name: str = "swin", **fields: Any) -> FaceEncoder:
    torch.manual_seed(0)
    encoder = FaceEncoder(face_config(name, **fields))
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder


def adapter_of(**fields: Any) -> VectorAdapter:
    torch.manual_seed(0)
    return VectorAdapter(face_config(**fields), 24).eval()


def crops(*size: int, batch: int = 2, frames: int = 3) -> Tensor:
    return torch.randn(batch, frames, 3, *size, generator=torch.Generator().manual_seed(sum(size)))


def test_input_size_can_change_without_side_effects() -> None:
    shared, sizes = encoder_of(), [(64, 64), (16, 16), (128, 96), (32, 32), (64, 64), (128, 96), (16, 16)]
    for size in sizes:
        fresh = encoder_of()
        shared.backbone.set_input_size(*size)
        fresh.backbone.set_input_size(*size)
        with torch.no_grad():
            assert torch.equal(shared(crops(*size)), fresh(crops(*size)))


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="32x32, expected 64x64"):
        encoder_of()(crops(32, 32))


def test_the_shift_matters_where_a_window_does_not_cover_the_map() -> None:
    stages = encoder_of().backbone  # 64x64: maps of 16, 8, 4 and 2 with windows of 4
    shifts = [[block.shift_size for block in stage.blocks] for stage in stages.model.encoder.layers]
    assert shifts == [[0, 2], [0, 2], [0, 0], [0, 0]]


def test_window_covering_one_side_only_is_refused() -> None:
    with pytest.raises(ValueError, match=r"64x16 gives a map of 16x4.*square"):
        encoder_of().backbone.set_input_size(64, 16)


@pytest.mark.parametrize("raw_stages", [True, False])
@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_one_vector_per_frame_and_uses_all_weights(name: str, raw_stages: bool) -> None:
    encoder = encoder_of(name, raw_stages=raw_stages)
    vectors = encoder(crops(64, 64))
    assert vectors.shape == (2, 3, 32)
    vectors.square().sum().backward()
    assert not [n for n, p in encoder.named_parameters() if p.grad is None]
    assert any(n.startswith("norms.") for n, _ in encoder.named_parameters()) is not raw_stages


@pytest.mark.parametrize("name", BACKBONES)
def test_frames_are_independent_and_training_mode_has_no_effect(name: str) -> None:
    encoder = encoder_of(name)
    if name == "swin":
        encoder = encoder_of(encoder={**SWIN_TINY, "drop_path_rate": 0.5})
    pixels = crops(64, 64)
    with torch.no_grad():
        vectors = encoder.eval()(pixels)
        torch.testing.assert_close(encoder.train()(pixels), vectors, atol=0, rtol=0)
        torch.testing.assert_close(encoder(pixels[1:, 2:]), vectors[1:, 2:], atol=1e-4, rtol=1e-4)


def test_stages_are_concatenated_deepest_first_and_pooled() -> None:
    encoder = encoder_of()
    pixels = crops(64, 64, batch=1, frames=1)
    with torch.no_grad():
        stages = encoder.backbone(pixels[0])
        assert [tuple(s.shape[1:]) for s in stages] == [(8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2)]
        pooled = []
        for stage, projection in zip(stages, encoder.projections, strict=True):
            level = projection(stage.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            pooled.append(nn.functional.interpolate(level, (16, 16), mode="bilinear").mean(dim=(2, 3)))
        # The 1x1 convolution is linear, so it may as well follow the mean over the map.
        expected = torch.cat(pooled[::-1], dim=1) @ encoder.fuse.weight[:, :, 0, 0].T
        torch.testing.assert_close(encoder(pixels)[0], expected, atol=1e-4, rtol=1e-4)


def test_precomputed_vectors_pass_through_and_need_no_weights() -> None:
    config = FaceBranchConfig(kind="precomputed", vector_size=20, num_queries=2, projector_size=48)
    encoder, adapter = FaceEncoder(config), VectorAdapter(config, 24)
    vectors = torch.randn(2, 5, 20)
    assert encoder(vectors) is vectors
    assert not list(encoder.parameters())
    assert adapter(vectors).tokens.shape == (2, 2, 24)


@pytest.mark.parametrize("time_position", [True, False])
def test_frame_order_matters_only_with_time_positions(time_position: bool) -> None:
    adapter, vectors = adapter_of(time_position=time_position), torch.randn(2, 5, 32)
    if adapter.positions is not None:
        nn.init.normal_(adapter.positions.weight)
    with torch.no_grad():
        forward, backward = adapter(vectors), adapter(vectors.flip(1))
    assert torch.allclose(forward.tokens, backward.tokens, atol=1e-5) is not time_position
    if not time_position:
        torch.testing.assert_close(forward.attention, backward.attention.flip(1))


@pytest.mark.parametrize("frames", [1, 5, 32])
def test_face_tokens_for_any_number_of_frames(frames: int) -> None:
    tokens, attention = adapter_of(num_queries=6)(torch.randn(2, frames, 32))
    assert tokens.shape == (2, 6, 24)
    torch.testing.assert_close(attention.sum(-1), torch.ones(2))


def test_every_weight_of_the_adapter_trains_and_dropout_is_off_in_eval_mode() -> None:
    adapter, vectors = adapter_of(dropout=0.5), torch.randn(2, 5, 32)
    assert torch.equal(adapter(vectors).tokens, adapter(vectors).tokens)
    adapter.train()
    first = adapter(vectors).tokens
    assert not torch.equal(first, adapter(vectors).tokens)
    first.sum().backward()
    assert not [n for n, p in adapter.named_parameters() if p.grad is None]


def test_bfloat16_is_close_to_float32() -> None:
    encoder, adapter = encoder_of(), adapter_of()
    with torch.no_grad():
        vectors = encoder(crops(64, 64))
        half = encoder.to(torch.bfloat16)(crops(64, 64).to(torch.bfloat16))
        tokens = adapter(vectors).tokens
        half_tokens = adapter.to(torch.bfloat16)(vectors.to(torch.bfloat16)).tokens
    assert (vectors - half.float()).abs().max() <= 0.1 * vectors.abs().max()
    assert (tokens - half_tokens.float()).abs().max() <= 0.1 * tokens.abs().max()
