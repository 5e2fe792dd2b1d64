"""Oracles that anybody can run: a module of transformers, and the equations written out in numpy.

The oracles of the authors' modules need the project's shared folder; these need nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import erf, softmax
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from nanoemox.model.adapters import VectorAdapter
from nanoemox.model.branches.vision import VisionBranchConfig
from nanoemox.model.fusion import build_fusion
from nanoemox.model.qformer import QFormer
from tests.model.test_face import face_config
from tests.tiny import CLIP_TINY, QFORMER_TINY, tiny_config

Array = npt.NDArray[np.float64]
ATTENTION = {"out": "output.dense", "norm": "output.LayerNorm"}
KINDS = {"self_attention": "attention", "cross_attention": "crossattention"}
PARTS = {"up": "intermediate_query.dense", "down": "output_query.dense", "norm": "output_query.LayerNorm"}
"""Parts of a Q-Former's layer here -> in transformers."""


def seeded(module: nn.Module) -> nn.Module:
    """Draw all weights large enough for an error to show."""
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


def library_name(name: str) -> str:
    """Name in transformers' module of one of our weights."""
    if not name.startswith("layers."):
        return name.replace("norm.", "layernorm.")
    _, index, *parts, leaf = name.split(".")
    inner = [KINDS[parts[0]], ATTENTION.get(parts[1], f"attention.{parts[1]}")] if len(parts) > 1 else [PARTS[parts[0]]]
    return ".".join(("encoder.layer", index, *inner, leaf))


def test_the_q_former_is_that_of_transformers() -> None:
    section = VisionBranchConfig(encoder=CLIP_TINY, last=3, taps=[1], num_queries=5, **QFORMER_TINY)
    ours = seeded(QFormer(section))
    config = Blip2QFormerConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, encoder_hidden_size=32,
        cross_attention_frequency=1, attn_implementation="eager",
    )  # fmt: skip
    theirs = Blip2QFormerModel(config).double().eval()
    state = {library_name(name): value for name, value in ours.state_dict().items() if name != "queries"}
    theirs.load_state_dict(state, strict=True)
    features = torch.randn(3, 7, 32, dtype=torch.float64)
    with torch.no_grad():
        found = ours(features)
        wanted = theirs(
            query_embeds=ours.queries.expand(3, -1, -1), encoder_hidden_states=features, output_attentions=True
        )
    torch.testing.assert_close(found.hidden, wanted.last_hidden_state)
    shares = torch.stack(wanted.cross_attentions).mean(dim=(0, 2, 3))
    torch.testing.assert_close(found.attention, shares)


# ---------------------------------------------------------------- the equations in numpy


def of(module: nn.Module) -> dict[str, Array]:
    return {name: value.numpy() for name, value in module.state_dict().items()}


def linear(state: dict[str, Array], name: str, x: Array) -> Array:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def gelu(x: Array) -> Array:
    return x * (1 + erf(x / np.sqrt(2))) / 2


def layer_norm(state: dict[str, Array], name: str, x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def attend(state: dict[str, Array], name: str, heads: int, query: Array, source: Array) -> tuple[Array, Array]:
    """Multi-head attention of one sample: what was gathered, and the weights averaged over the heads."""
    w, b = (np.split(state[f"{name}.in_proj_{part}"], 3) for part in ("weight", "bias"))
    q, k, v = (np.split(x @ w[i].T + b[i], heads, axis=-1) for i, x in enumerate((query, source, source)))
    weights = [softmax(q[h] @ k[h].T / np.sqrt(q[h].shape[-1]), axis=-1) for h in range(heads)]
    joined = np.concatenate([weights[h] @ v[h] for h in range(heads)], axis=-1)
    return linear(state, f"{name}.out_proj", joined), np.mean(weights, axis=0)


@pytest.mark.parametrize("time_position", [True, False])
def test_the_face_adapter_is_its_equations(time_position: bool) -> None:
    adapter = seeded(VectorAdapter(face_config(time_position=time_position), 24))
    vectors, state = torch.randn(2, 5, 32, dtype=torch.float64), of(adapter)
    with torch.no_grad():
        found = adapter(vectors)
    for i, sample in enumerate(vectors.numpy()):
        placed = sample + state["positions.weight"][:5] if time_position else sample
        gathered, weights = attend(state, "attention", 4, state["queries"], placed)
        tokens = linear(state, "projector.3", gelu(linear(state, "projector.0", gathered)))
        np.testing.assert_allclose(found.tokens[i], tokens, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.attention[i], weights.mean(axis=0), rtol=1e-9, atol=1e-12)


def fused(state: dict[str, Array], fields: dict[str, Any], vision: Array, speech: Array) -> tuple[Array, Array]:
    """The paper's fusion of one sample: E experts, a gate, the mean over time, a projection."""
    experts = len(speech)

    def project(kind: str, e: int, tap: Array) -> Array:
        out = linear(state, f"{kind}_projections.{0 if fields['shared_projection'] else e}", tap)
        return out + state[f"{kind}_positions.weight"][: len(tap)] if fields["time_position"] else out

    seen = [project("vision", e, vision[e]) for e in range(experts)]
    heard = []
    for e in range(experts):
        source = np.concatenate(seen) if fields["pairing"] == "cross" else seen[e]
        own, name = project("speech", e, speech[e]), f"experts.{e}"
        hidden = own + attend(state, f"{name}.attention", 4, own, source)[0]
        inner = gelu(linear(state, f"{name}.up", layer_norm(state, f"{name}.norm", hidden)))
        heard.append(hidden + linear(state, f"{name}.down", inner))
    gate = np.full(experts, 1 / experts)
    if fields["gate"] == "softmax":
        means = np.concatenate([out.mean(axis=0) for out in heard])
        gate = softmax(linear(state, "gate.3", gelu(linear(state, "gate.0", means))))
    mixed = sum(share * out for share, out in zip(gate, heard, strict=True))
    return linear(state, "projection", np.mean(mixed, axis=0)), gate


@pytest.mark.parametrize(
    "fields",
    [
        {"gate": "softmax", "pairing": "sequential", "shared_projection": False, "time_position": True},
        {"gate": "softmax", "pairing": "sequential", "shared_projection": True, "time_position": False},
        {"gate": "mean", "pairing": "cross", "shared_projection": False, "time_position": True},
    ],
    ids=["ours", "authors", "cross"],
)
def test_the_fusion_is_its_equations(fields: dict[str, Any]) -> None:
    module = seeded(build_fusion(tiny_config(fusion=fields)))
    vision, speech = (torch.randn(2, 3, steps, 32, dtype=torch.float64) for steps in (4, 6))
    found: tuple[Tensor, Tensor]
    with torch.no_grad():
        found = module(vision, speech)
    state = of(module)
    for i in range(2):
        token, gate = fused(state, fields, vision[i].numpy(), speech[i].numpy())
        np.testing.assert_allclose(found[0][i, 0], token, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found[1][i], gate, rtol=1e-9, atol=1e-12)
