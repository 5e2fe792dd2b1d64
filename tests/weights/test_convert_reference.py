"""The authors' tensor names: strict and complete; a small checkpoint, LoRA merged or separate, with gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.lora import LoraSpec, attach_lora, group_of, load_adapters, save_adapters
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.types import CheckpointError
from nanoemox.weights.convert_reference import convert_state, convert_swin, drop_reason
from tests.model.test_oracle_full import close, media_of, reference_config

GRADIENT_TOLERANCE = 3e-4  # golden/README
FULL_SIZE = {"face": {"time_position": False}, "fusion": {"shared_projection": True, "time_position": False}}
LM = "llama_model.base_model.model."


@pytest.fixture(scope="module")
def meta(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "golden" / "full_tiny.json").read_text())


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "golden" / "full_tiny.safetensors")


@pytest.fixture(scope="module")
def official(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("state/"): v for k, v in tensors.items() if k.startswith("state/")}


@pytest.fixture(scope="module")
def config(meta: dict[str, Any]) -> NanoEmoXConfig:
    return reference_config(meta)


@pytest.fixture(scope="module")
def checkpoint(meta: dict[str, Any], official: dict[str, Tensor]) -> dict[str, Tensor]:
    """What an official save keeps: adapters, fusion, LoRA, counting buffers and the tied head, no frozen weights."""
    return {n: t for n, t in official.items() if n in set(meta["checkpoint_keys"])}


def spec(meta: dict[str, Any]) -> LoraSpec:
    return LoraSpec(meta["config"]["lora_r"], meta["config"]["lora_alpha"], 0.0)


def test_merged_and_separate_lora_give_the_same_model(
    meta: dict[str, Any], official: dict[str, Tensor], config: NanoEmoXConfig
) -> None:
    merged = convert_state(official, config, lora_scale=spec(meta).alpha / spec(meta).r)
    own = NanoEmoXForConditionalGeneration(config).state_dict()
    assert set(own) - set(merged) == {"language_model.lm_head.weight"}
    assert {n: t.shape for n, t in merged.items()} == {n: own[n].shape for n in merged}
    kept = convert_state(official, config)
    assert set(merged) == {n for n in kept if ".lora_" not in n}
    name = "language_model.model.layers.1.mlp.up_proj"
    update = kept[f"{name}.lora_B.default.weight"] @ kept[f"{name}.lora_A.default.weight"] * 2
    torch.testing.assert_close(merged[f"{name}.weight"], kept[f"{name}.weight"] + update)


def test_gradients_with_lora_attached(
    meta: dict[str, Any],
    tensors: dict[str, Tensor],
    official: dict[str, Tensor],
    config: NanoEmoXConfig,
    tmp_path: Path,
) -> None:
    model = NanoEmoXForConditionalGeneration(config)
    state = convert_state(official, config)
    _, unexpected = model.load_state_dict({n: t for n, t in state.items() if ".lora_" not in n}, strict=False)
    assert not unexpected
    model.tie_weights()
    attach_lora(model, spec(meta))
    model.load_state_dict({n: t for n, t in state.items() if ".lora_" in n}, strict=False)
    model.eval()
    out = model(
        input_ids=tensors["full/input_ids"],
        attention_mask=tensors["full/attention_masks"].long(),
        labels=tensors["full/labels"],
        **media_of(meta["cases"]["full"], tensors, config),
    )
    assert abs(out.loss.item() - meta["cases"]["full"]["loss"]) <= 1e-4 * meta["cases"]["full"]["loss"]
    out.loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    compared = 0
    for name, tensor in tensors.items():
        if name.startswith("grad/"):
            ours = next(n for n in state if state[n] is official[name.removeprefix("grad/")])
            close(gradients[ours], tensor, GRADIENT_TOLERANCE)
            compared += 1
    assert compared == 5
    # What an official save keeps goes onto a fresh base by the way our own adapters do.
    fresh = NanoEmoXForConditionalGeneration(config)
    load_adapters(fresh, save_adapters(model, tmp_path / "adapters.safetensors"))
    loaded = dict(fresh.named_parameters())
    assert all(torch.equal(t, loaded[n]) for n, t in state.items() if group_of(n) is not None)


def test_an_official_save_converts_without_the_frozen_weights(
    checkpoint: dict[str, Tensor], config: NanoEmoXConfig
) -> None:
    state = convert_state(checkpoint, config)
    assert {group_of(n) for n in state} == {"vision_adapter", "speech_adapter", "face_adapter", "fusion", "lora"}
    dropped = {n for n in checkpoint if drop_reason(n) is not None}
    assert len(state) + len(dropped) == len(checkpoint)
    with pytest.raises(CheckpointError, match=r"lacks \['llama_model.*base_layer.weight'.*lora_scale=None"):
        convert_state(checkpoint, config, lora_scale=2.0)


@pytest.mark.parametrize(
    ("phase", "parts"),
    [
        ("phase1_1", {"speech_adapter"}),
        ("phase1_2", {"vision_adapter", "face_adapter"}),
        ("phase2", {"vision_adapter", "speech_adapter", "face_adapter", "fusion"}),
        ("phase3", {"vision_adapter", "speech_adapter", "face_adapter", "fusion", "language_model"}),
    ],
)
def test_full_size_names_of_every_phase(phase: str, parts: set[str], shared: Path) -> None:
    table = json.loads((shared / "golden" / "official_checkpoint_keys.json").read_text())
    absent = set(table["phases"][phase]["absent_keys_of_union"])
    official = {
        name: torch.empty(entry["shape"], dtype=getattr(torch, entry["dtype"]), device="meta")
        for name, entry in table["shapes"].items()
        if name not in absent and not name.endswith(("position_ids", "relative_position_index"))
    }
    assert {n.partition(".")[0] for n in convert_state(official, NanoEmoXConfig(**FULL_SIZE), parts=parts)} == parts
    if phase == "phase1_1":
        with pytest.raises(CheckpointError, match=r"missing \['face_adapter.projector.0.bias'"):
            convert_state(official, NanoEmoXConfig(**FULL_SIZE))


def test_a_missing_tensor_and_a_wrong_shape_are_listed(checkpoint: dict[str, Tensor], config: NanoEmoXConfig) -> None:
    broken = dict(checkpoint)
    del broken["multi_llama_proj.bias"]
    broken["audio_query_tokens"] = torch.zeros(1, 7, 48)
    with pytest.raises(CheckpointError) as error:
        convert_state(broken, config)
    assert "missing ['fusion.projection.bias']" in str(error.value)
    assert "speech_adapter.qformer.queries: file (1, 7, 48), model (1, 6, 48)" in str(error.value)


@pytest.mark.parametrize("fields", [{"fusion": {"shared_projection": False}}, {"fusion": {"time_position": True}}])
def test_unsupported_fields_are_named(
    fields: dict[str, Any], checkpoint: dict[str, Tensor], meta: dict[str, Any]
) -> None:
    config = reference_config(meta)
    for name, value in fields["fusion"].items():
        setattr(config.fusion, name, value)
    with pytest.raises(CheckpointError, match=r"`reference`.*missing \['fusion\.speech_p"):
        convert_state(checkpoint, config)


def test_incomplete_parts_are_refused(checkpoint: dict[str, Tensor], config: NanoEmoXConfig) -> None:
    assert {n.partition(".")[0] for n in convert_state(checkpoint, config, parts=["fusion"])} == {"fusion"}
    with pytest.raises(CheckpointError, match=r"missing \['vision_encoder"):
        convert_state(checkpoint, config, parts=["vision_encoder"])
    with pytest.raises(CheckpointError, match="'visual' is no part"):
        convert_state(checkpoint, config, parts=["visual"])


@pytest.mark.parametrize("end", ["lora_A", "lora_B"])
def test_incomplete_lora_pair_is_refused(end: str, checkpoint: dict[str, Tensor], config: NanoEmoXConfig) -> None:
    name = f"{LM}model.layers.0.self_attn.q_proj.{end}.default.weight"
    broken = {n: t for n, t in checkpoint.items() if n != name}
    with pytest.raises(CheckpointError, match=rf"lacks \['{name}'\]"):
        convert_state(broken, config)


def test_counting_buffers_are_checked(official: dict[str, Tensor], config: NanoEmoXConfig) -> None:
    ids = "audio_Qformer.bert.embeddings.position_ids"
    index = "facial_encoder.facexformer.backbone.0.5.1.attn.relative_position_index"
    for name in (ids, index):
        with pytest.raises(CheckpointError, match=rf"\['{name}'\]"):
            convert_state({**official, name: official[name].flip(-1)}, config)
    with pytest.raises(CheckpointError, match="count"):
        convert_swin({"features.1.0.attn.relative_position_index": torch.zeros(2401, dtype=torch.int64)})


def test_every_dropped_name_has_a_reason() -> None:
    assert drop_reason("facial_encoder.lynorm.weight") == "created, never called"
    assert drop_reason(f"{LM}lm_head.weight") == "tied to the word embeddings"
    assert drop_reason("facial_encoder.query") is None
