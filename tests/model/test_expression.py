"""The expression net: TensorFlow's padding, shapes, use as a face encoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from nanoemox.model.adapters import VectorAdapter
from nanoemox.model.branches.face import FaceBranchConfig, FaceEncoder
from nanoemox.model.expression import EXPRESSION_SIZE, DenseBlock, ExpressionNet, Separable


def test_an_even_side_is_padded_at_its_end_only() -> None:
    separable = Separable(1, 1)
    with torch.no_grad():
        separable.depthwise.weight.zero_()
        separable.depthwise.weight[0, 0, 0, 0] = 1  # picks the upper left of each 3x3 field
        separable.pointwise.weight.fill_(1)
        separable.pointwise.bias.zero_()  # type: ignore[union-attr]
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    assert separable(picture, 2).flatten().tolist() == [0, 2, 8, 10]  # nothing was put before the first row
    assert separable(picture, 1)[0, 0, 0].tolist() == [0, 0, 0, 0]  # stride 1 pads both sides


def test_dense_block_sums_before_relu() -> None:
    torch.manual_seed(0)
    block, x = DenseBlock(2, 4, first=False), torch.randn(1, 2, 8, 8)
    first, second, third, fourth = block.convolutions
    one = functional.relu(first(x, 2))
    two = second(one, 1)
    three = third(functional.relu(one + two), 1)
    four = fourth(functional.relu(one + two + three), 1)
    torch.testing.assert_close(block(x), functional.relu(one + two + three + four))


def test_face_encoder_gives_one_vector_per_frame() -> None:
    config = FaceBranchConfig(kind="expression", image_size=112, normalise="colour", num_queries=2, projector_size=8)
    assert (config.encoder, config.feature_size) == (None, EXPRESSION_SIZE)
    encoder, adapter = FaceEncoder(config), VectorAdapter(config, 16)
    frames = torch.randn(2, 3, 3, 112, 112)
    vectors = encoder(frames)
    assert vectors.shape == (2, 3, EXPRESSION_SIZE)
    torch.testing.assert_close(vectors[1, 2], encoder(frames[1:, 2:])[0, 0], rtol=1e-4, atol=1e-5)
    assert adapter(vectors).tokens.shape == (2, 2, 16)


@pytest.mark.parametrize("kind", ["swin", "backbone"])
def test_other_kinds_keep_their_backbone(kind: str) -> None:
    assert FaceBranchConfig(kind=kind).encoder is not None


def test_the_net_has_a_third_of_a_million_parameters() -> None:
    assert sum(p.numel() for p in ExpressionNet().parameters()) == pytest.approx(0.32e6, rel=0.02)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in ExpressionNet().modules())
