"""The authors' whole model with tiny backbones, end to end: splicing, logits and loss of five modality sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.images import normalise
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.weights.convert_reference import convert_state

CASES = ("full", "no_multi", "audio_text", "face_frame", "text")


def reference_config(meta: dict) -> NanoEmoXConfig:
    """The ``reference`` fields at the sizes of the golden file."""
    tiny, ids, counts = meta["replaced"], meta["token_ids"], meta["tokens_per_placeholder"]
    former = tiny["qformer"]
    adapter = {
        "hidden_size": former["hidden"],
        "num_attention_heads": former["heads"],
        "intermediate_size": former["ffn"],
        "num_hidden_layers": former["layers"],
    }
    llm = {k: v for k, v in tiny["llm"].items() if k not in ("type", "rope_theta")}
    return NanoEmoXConfig(
        vision={
            "encoder": {"model_type": "clip_vision_model", **tiny["clip"]},
            "fit": "squash",
            "num_queries": counts["frame"],
            **adapter,
        },
        speech={
            "encoder": {"model_type": "hubert", **tiny["hubert"]},
            "normalise": "batch",
            "grid": "reference",
            "window_s": 0.2,
            "num_queries": counts["audio"],
            **adapter,
        },
        face={
            "kind": "swin",
            "encoder": {"model_type": "swin", "drop_path_rate": 0.0, "image_size": 28, **tiny["swin"]},
            "crop": "whole_frame",
            "normalise": "none",
            "time_position": False,
            "image_size": 28,
            "num_queries": counts["face"],
        },
        fusion={"hidden_size": tiny["fusion_hidden"], "shared_projection": True, "time_position": False},
        text_config={
            "model_type": "qwen2",
            **llm,
            "rope_parameters": {"rope_type": "default", "rope_theta": tiny["llm"]["rope_theta"]},
        },
        vision_token_id=ids["frame"],
        speech_token_id=ids["audio"],
        face_token_id=ids["face"],
        fusion_token_id=ids["multi"],
    )


@pytest.fixture(scope="module")
def golden(shared: Path) -> tuple[dict, dict[str, Tensor]]:
    meta = json.loads((shared / "golden" / "full_tiny.json").read_text())
    return meta, load_file(shared / "golden" / "full_tiny.safetensors")


@pytest.fixture(scope="module")
def model(golden: tuple[dict, dict[str, Tensor]]) -> NanoEmoXForConditionalGeneration:
    meta, tensors = golden
    config = reference_config(meta)
    model = NanoEmoXForConditionalGeneration(config).eval()
    official = {k.removeprefix("state/"): v for k, v in tensors.items() if k.startswith("state/")}
    lora = meta["config"]
    state = convert_state(official, config, lora_scale=lora["lora_alpha"] / lora["lora_r"])
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {"language_model.lm_head.weight"}, "tied to the embedding"
    model.tie_weights()
    return model


def media_of(case: dict, tensors: dict[str, Tensor], config: NanoEmoXConfig) -> dict[str, Tensor]:
    """The batch's media in our layout: raw frames 0..255 for the face, CLIP statistics for the scene."""
    out: dict[str, Tensor] = {}
    if case["uses_frames"]:
        frames = tensors["in/raw_frames_uint8"].transpose(1, 2)  # B, T, 3, H, W
        flat = normalise(frames.flatten(0, 1), config.vision.image_mean, config.vision.image_std)
        out["pixel_values"] = flat.view(frames.shape)
        out["face_values"] = frames.float()
    if case["uses_audio"]:
        out["speech_values"] = tensors["in/raw_audios"].squeeze(2)
    return out


def close(ours: Tensor, reference: Tensor, factor: float) -> None:
    assert ours.shape == reference.shape
    assert (ours - reference).abs().max() <= factor * reference.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_splicing_logits_and_loss(
    name: str, golden: tuple[dict, dict[str, Tensor]], model: NanoEmoXForConditionalGeneration
) -> None:
    meta, tensors = golden
    ids, mask = tensors[f"{name}/input_ids"], tensors[f"{name}/attention_masks"]
    labels = tensors[f"{name}/labels"]
    media = media_of(meta["cases"][name], tensors, model.config)
    held = {b for b, i in model.config.placeholder_token_ids.items() if (ids == i).any()}
    if "vision" not in held:
        media.pop("pixel_values", None)
    if "face" not in held:
        media.pop("face_values", None)
    with torch.no_grad():
        embeds = model(input_ids=ids, attention_mask=mask, **media).features
        out = model(input_ids=ids, attention_mask=mask.long(), labels=labels, **media)
    assert embeds is not None
    real = mask.bool()
    # The authors' final eos is a label but carries attention 0: every position is compared all the same.
    close(out.logits[real], tensors[f"{name}/logits"][real], 3e-4)
    assert abs(out.loss.item() - meta["cases"][name]["loss"]) <= 1e-4 * meta["cases"][name]["loss"]


@pytest.mark.parametrize("name", CASES)
def test_the_spliced_embeddings(
    name: str, golden: tuple[dict, dict[str, Tensor]], model: NanoEmoXForConditionalGeneration
) -> None:
    meta, tensors = golden
    ids = tensors[f"{name}/input_ids"]
    media = media_of(meta["cases"][name], tensors, model.config)
    held = {b for b, i in model.config.placeholder_token_ids.items() if (ids == i).any()}
    keys = {"pixel_values": "vision", "speech_values": "speech", "face_values": "face"}
    with torch.no_grad():
        embeds, _ = model.embed(ids, {k: v for k, v in media.items() if keys[k] in held})
    close(embeds, tensors[f"{name}/inputs_embeds"], 1e-4)


def test_encoder_features(golden: tuple[dict, dict[str, Tensor]], model: NanoEmoXForConditionalGeneration) -> None:
    meta, tensors = golden
    with torch.no_grad():
        seen = model.encode(media_of(meta["cases"]["full"], tensors, model.config))
    close(seen["vision_last"], tensors["tokens/frame_hidden"], 1e-4)
    close(seen["speech_last"], tensors["tokens/audio_hidden"], 1e-4)
    close(seen["vision_levels"].transpose(1, 2).flatten(2), tensors["tokens/video_multi_scale"], 1e-4)
    close(seen["speech_levels"].transpose(1, 2).flatten(2), tensors["tokens/audio_multi_scale"], 1e-4)
