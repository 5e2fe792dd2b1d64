"""All kinds of fusion: shapes, configuration fields, inputs of experts, no unused weights."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nanoemox.model.fusion import AttentionFusion, ExpertFusion, FusionOutput, build_fusion
from tests.tiny import HUBERT_TINY, tiny_config

SPEECH_SIZE = 48  # differs from vision's 32 on purpose
CHOICES = [
    {"kind": "experts", "gate": g, "pairing": p, "shared_projection": s, "time_position": t}
    for g, p, s, t in product(("softmax", "mean"), ("sequential", "cross"), (True, False), (True, False))
] + [{"kind": "attention", "time_position": t} for t in (True, False)]


def fusion_of(taps: int = 3, **fields: Any) -> nn.Module:
    speech = {"encoder": {**HUBERT_TINY, "hidden_size": SPEECH_SIZE}, "taps": [1, 2, 3, 4][:taps]}
    config = tiny_config(vision={"taps": [1, 2, 3, 4][:taps]}, speech=speech, fusion={"dropout": 0.0, **fields})
    torch.manual_seed(0)
    module = build_fusion(config)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module.eval()


def levels(taps: int = 3, batch: int = 2, frames: int = 6, windows: int = 4) -> tuple[Tensor, Tensor]:
    seeded = torch.Generator().manual_seed(taps)
    return (
        torch.randn(batch, taps, frames, 32, generator=seeded),
        torch.randn(batch, taps, windows, SPEECH_SIZE, generator=seeded),
    )


@pytest.mark.parametrize("fields", CHOICES, ids=lambda f: "-".join(str(v) for v in f.values()))
def test_every_choice_uses_all_its_weights(fields: dict[str, Any]) -> None:
    module = fusion_of(num_tokens=2, **fields)
    out: FusionOutput = module(*levels())
    assert out.tokens.shape == (2, 2, 32)
    assert torch.equal(out.tokens[:, 0], out.tokens[:, 1])
    out.tokens.square().sum().backward()
    # A weight that the arithmetic cancels gets a gradient of rounding errors, not of exact zeros.
    unused = [n for n, p in module.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-4]
    assert not unused
    if fields["kind"] == "attention":
        assert out.gate is None
    else:
        torch.testing.assert_close(out.gate.sum(-1), torch.ones(2))


def test_shared_or_independent_projections() -> None:
    shared, independent = fusion_of(shared_projection=True), fusion_of(shared_projection=False)
    assert [len(m.speech_projections) for m in (shared, independent)] == [1, 3]
    assert [len(m.vision_projections) for m in (shared, independent)] == [1, 3]


def test_shared_projection_equals_three_equal_independent_ones() -> None:
    shared, independent = fusion_of(shared_projection=True), fusion_of(shared_projection=False)
    state = shared.state_dict()
    for name in list(state):
        if "_projections.0." in name:
            for e in (1, 2):
                state[name.replace(".0.", f".{e}.")] = state[name]
    independent.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(shared(*levels()).tokens, independent(*levels()).tokens)


def gate_of(module: nn.Module, *inputs: Tensor) -> Tensor:
    gate = module(*inputs).gate
    assert gate is not None
    return gate


def test_a_mean_gate_has_no_weights_and_a_softmax_gate_follows_the_content() -> None:
    mean, learned = fusion_of(gate="mean"), fusion_of(gate="softmax")
    assert not any(n.startswith("gate") for n, _ in mean.named_parameters())
    assert torch.equal(gate_of(mean, *levels()), torch.full((2, 3), 1 / 3))
    gate = gate_of(learned, *levels())
    assert not torch.allclose(gate[0], gate[1], atol=1e-3)
    assert not torch.allclose(gate, torch.full((2, 3), 1 / 3), atol=1e-2)


@pytest.mark.parametrize("pairing", ["sequential", "cross"])
def test_inputs_of_an_expert(pairing: str) -> None:
    module = fusion_of(pairing=pairing, shared_projection=False)
    vision, speech = (t.requires_grad_() for t in levels())
    # Expert 1 alone: its output depends on its own pair, or on every vision tap where the pairing is cross.
    heard: list[Tensor] = []
    module.experts[1].register_forward_hook(lambda _m, _a, out: heard.append(out))
    module(vision, speech)
    heard[0].sum().backward()
    assert vision.grad is not None
    assert speech.grad is not None
    assert [bool(g.any()) for g in vision.grad.unbind(1)] == [pairing == "cross", True, pairing == "cross"]
    assert [bool(g.any()) for g in speech.grad.unbind(1)] == [False, True, False]


@pytest.mark.parametrize("kind", ["experts", "attention"])
@pytest.mark.parametrize("time_position", [True, False])
def test_time_order_matters_only_with_time_positions(kind: str, time_position: bool) -> None:
    module = fusion_of(kind=kind, time_position=time_position)
    vision, speech = levels()
    with torch.no_grad():
        plain, flipped = module(vision, speech).tokens, module(vision.flip(2), speech.flip(2)).tokens
    assert torch.allclose(plain, flipped, atol=1e-5) is not time_position


@pytest.mark.parametrize("kind", ["experts", "attention"])
@pytest.mark.parametrize(("taps", "frames", "windows"), [(1, 8, 8), (2, 1, 8), (4, 128, 3)])
def test_other_numbers_of_taps_and_steps(kind: str, taps: int, frames: int, windows: int) -> None:
    tokens, gate = fusion_of(taps, kind=kind)(*levels(taps, 3, frames, windows))
    assert tokens.shape == (3, 1, 32)
    assert gate is None or gate.shape == (3, taps)


@pytest.mark.parametrize("kind", ["experts", "attention"])
def test_samples_are_independent(kind: str) -> None:
    module = fusion_of(kind=kind)
    vision, speech = levels()
    with torch.no_grad():
        torch.testing.assert_close(module(vision, speech).tokens[1:], module(vision[1:], speech[1:]).tokens)


@pytest.mark.parametrize("kind", ["experts", "attention"])
def test_bfloat16_is_close_to_float32(kind: str) -> None:
    module = fusion_of(kind=kind)
    with torch.no_grad():
        full = module(*levels()).tokens
        half = module.to(torch.bfloat16)(*(t.to(torch.bfloat16) for t in levels())).tokens
    assert (full - half.float()).abs().max() <= 0.1 * full.abs().max()


def test_the_kind_chooses_the_module() -> None:
    assert isinstance(fusion_of(kind="experts"), ExpertFusion)
    assert isinstance(fusion_of(kind="attention"), AttentionFusion)
