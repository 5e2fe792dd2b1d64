"""The authors' modules, one by one, through our public classes (golden/modules, golden/swin_2222)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nanoemox.model.adapters import TokenAdapter, VectorAdapter
from nanoemox.model.branches.face import FaceEncoder
from nanoemox.model.branches.speech import SpeechEncoder
from nanoemox.model.branches.vision import VisionEncoder
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.fusion import ExpertFusion
from nanoemox.model.images import normalise
from nanoemox.types import CheckpointError
from nanoemox.weights.convert_reference import convert_state, convert_swin
from tests.tiny import text_config

TOLERANCE = 1e-4  # of the reference's largest value, across torch versions and kernels (golden/README)


@pytest.fixture(scope="module")
def tensors(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "golden" / "modules.safetensors")


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "golden" / "modules.json").read_text())["cases"]


def close(ours: Tensor, reference: Tensor) -> None:
    assert ours.shape == reference.shape
    assert (ours - reference).abs().max() <= TOLERANCE * reference.abs().max()


def state_of(tensors: dict[str, Tensor], case: str) -> dict[str, Tensor]:
    prefix = f"{case}/state/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load(module: nn.Module, state: dict[str, Tensor], prefix: str) -> None:
    part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    module.load_state_dict(part, strict=True)
    module.eval()


def config_with(llm_size: int = 40, **sections: Any) -> NanoEmoXConfig:
    return NanoEmoXConfig(**sections, text_config={**text_config(), "hidden_size": llm_size, "head_dim": 10})


def clip(**fields: Any) -> dict[str, Any]:
    return {"encoder": {"model_type": "clip_vision_model", "num_attention_heads": 2, **fields}}


def hubert(**fields: Any) -> dict[str, Any]:
    return {"encoder": {"model_type": "hubert", "num_attention_heads": 2, **fields}}


@pytest.fixture(scope="module")
def fusion(tensors: dict[str, Tensor], cases: dict[str, Any]) -> ExpertFusion:
    case = cases["fusion"]
    config = config_with(
        vision=clip(hidden_size=case["visual_dim"], num_hidden_layers=24),
        speech=hubert(hidden_size=case["audio_dim"], num_hidden_layers=24),
        fusion={
            "hidden_size": case["hidden_dim"],
            "num_attention_heads": case["heads"],
            "shared_projection": True,
            "time_position": False,
        },
    )
    module = ExpertFusion(config)
    load(module, convert_state(state_of(tensors, "fusion"), config), "fusion.")
    return module


def levels(joined: Tensor) -> Tensor:
    """The authors join the taps on the channel axis: float[B, T, 3 D] -> float[B, 3, T, D]."""
    return torch.stack(joined.chunk(3, dim=-1), dim=1)


def test_fusion_tokens_and_gate(fusion: ExpertFusion, tensors: dict[str, Tensor], cases: dict[str, Any]) -> None:
    vision, speech = levels(tensors["fusion/in/visual_multi"]), levels(tensors["fusion/in/audio_multi"])
    with torch.no_grad():
        sequence, gate = fusion.sequence(vision, speech)
        tokens, again = fusion(vision, speech)
        fusion.num_tokens = 4
        four = fusion(vision, speech).tokens
        fusion.num_tokens = 1
    close(sequence, tensors["fusion/mid/fused_sequence"])
    close(gate, tensors["fusion/mid/gate_weights"])
    close(gate, torch.tensor(cases["fusion"]["gate_weights"]))
    assert torch.equal(gate, again)
    close(tokens, tensors["fusion/out/tokens_1"])
    close(four, tensors["fusion/out/tokens_4"])


def test_fusion_of_unequal_lengths(fusion: ExpertFusion, tensors: dict[str, Tensor]) -> None:
    vision, speech = levels(tensors["fusion/in/visual_multi_b"]), levels(tensors["fusion/in/audio_multi_b"])
    with torch.no_grad():
        close(fusion.sequence(vision, speech)[0], tensors["fusion/out/fused_sequence_b"])


def test_every_expert(fusion: ExpertFusion, tensors: dict[str, Tensor]) -> None:
    for i, expert in enumerate(fusion.experts):
        speech, vision = tensors[f"fusion/mid/audio_projected_{i}"], tensors[f"fusion/mid/visual_projected_{i}"]
        with torch.no_grad():
            close(expert(speech, vision), tensors[f"fusion/mid/expert_{i}"])


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_qformer(kind: str, tensors: dict[str, Tensor], cases: dict[str, Any]) -> None:
    case = cases[f"{kind}_qformer"]
    branch = {"video": "vision", "audio": "speech"}[kind]
    state = state_of(tensors, f"{kind}_qformer")
    table = next(v for k, v in state.items() if "position_embedding" in k)
    section = {
        **(clip if kind == "video" else hubert)(hidden_size=case["encoder_width"], num_hidden_layers=24),
        "num_queries": case["queries"],
        "hidden_size": case["hidden"],
        "num_attention_heads": case["heads"],
        "num_hidden_layers": case["layers"],
        "intermediate_size": case["ffn"],
        "max_positions": len(table),
    }
    config = config_with(case["llm_dim"], **{branch: section})
    adapter = TokenAdapter(getattr(config, branch), case["llm_dim"])
    load(adapter, convert_state(state, config), f"{branch}_adapter.")
    for suffix in ("", "_5"):
        features = tensors[f"{kind}_qformer/in/features{suffix}"]
        with torch.no_grad():
            tokens, attention = adapter(features)
        close(tokens, tensors[f"{kind}_qformer/out/tokens{suffix}"])
        torch.testing.assert_close(attention.sum(-1), torch.ones(len(features)))
    with torch.no_grad():
        hidden = adapter.qformer(tensors[f"{kind}_qformer/mid/features_plus_position"]).hidden
    close(hidden, tensors[f"{kind}_qformer/mid/last_hidden_state"])


@pytest.mark.parametrize("suffix", ["", "_b"])
def test_face(suffix: str, tensors: dict[str, Tensor], cases: dict[str, Any]) -> None:
    case = cases["face"]
    config = config_with(
        case["llm_dim"],
        face={
            "encoder": {"model_type": "swin", "drop_path_rate": 0.0, **case["swin"]},
            "fuse_size": case["fusion_dim"],
            "num_queries": case["queries"],
            "num_attention_heads": case["heads"],
            "projector_size": case["projector_hidden"],
            "normalise": "none",
            "crop": "whole_frame",
            "time_position": False,
        },
    )
    state = convert_state(state_of(tensors, "face"), config)
    encoder, adapter = FaceEncoder(config.face), VectorAdapter(config.face, case["llm_dim"])
    load(encoder, state, "face_encoder.")
    load(adapter, state, "face_adapter.")
    pictures = tensors[f"face/in/raw_frames{suffix}_uint8"].float()
    encoder.backbone.set_input_size(*pictures.shape[-2:])
    with torch.no_grad():
        vectors = encoder(pictures)
        tokens, attention = adapter(vectors)
    close(vectors, tensors[f"face/mid/frame_features{suffix}"])
    close(tokens, tensors[f"face/out/tokens{suffix}"])
    if not suffix:
        close(attention, tensors["face/mid/attention_weights_mean_over_heads"].mean(dim=1))


def test_clip_taps(tensors: dict[str, Tensor], cases: dict[str, Any]) -> None:
    config = config_with(vision={**clip(**cases["clip_taps"]["config"]), "fit": "squash"})
    encoder = VisionEncoder(config.vision)
    assert len(encoder.encoder.encoder.layers) == 23, "the block past the deepest tap does not exist"
    load(encoder, convert_state(state_of(tensors, "clip_taps"), config), "vision_encoder.")
    frames = tensors["clip_taps/in/raw_frames_uint8"].transpose(1, 2)
    pixels = normalise(frames.flatten(0, 1), config.vision.image_mean, config.vision.image_std)
    close(pixels, tensors["clip_taps/mid/pixel_values"])
    with torch.no_grad():
        last, taps = encoder(pixels.view(frames.shape))
    close(last, tensors["clip_taps/out/single_scale"])
    close(taps.transpose(1, 2).flatten(2), tensors["clip_taps/out/multi_scale"])


@pytest.mark.parametrize(
    ("suffix", "remove_mean", "samples"),
    [("", True, 2), ("_first_sample_alone", True, 1), ("_without_mean_removal", False, 2)],
)
def test_hubert_taps(
    suffix: str, remove_mean: bool, samples: int, tensors: dict[str, Tensor], cases: dict[str, Any]
) -> None:
    section = {**hubert(**cases["hubert_taps"]["config"]), "normalise": "batch", "remove_mean": remove_mean}
    config = config_with(speech=section)
    encoder = SpeechEncoder(config.speech)
    load(encoder, convert_state(state_of(tensors, "hubert_taps"), config), "speech_encoder.")
    windows = tensors["hubert_taps/in/windows_int16"].squeeze(2).float() / 32768
    with torch.no_grad():
        last, taps = encoder(windows[:samples])
    close(last, tensors[f"hubert_taps/out/single_scale{suffix}"])
    close(taps.transpose(1, 2).flatten(2), tensors[f"hubert_taps/out/multi_scale{suffix}"])


def test_swin_stages_at_alternating_sizes(shared: Path) -> None:
    golden = load_file(shared / "golden" / "swin_2222.safetensors")
    official = {k.removeprefix("state/"): v for k, v in golden.items() if k.startswith("state/")}
    swin = {"model_type": "swin", "embed_dim": 8, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8], "window_size": 7}
    config = config_with(face={"encoder": {**swin, "drop_path_rate": 0.0}, "fuse_size": 8})
    stages = FaceEncoder(config.face).backbone.eval()
    stages.model.load_state_dict(convert_swin(official), strict=True)
    for size in ("224x224", "56x56", "112x96", "224x224", "112x96"):
        pictures = golden[f"{size}/in"]
        stages.set_input_size(*pictures.shape[-2:])
        with torch.no_grad():
            maps = stages(pictures)
        for i, level in enumerate(maps):
            close(level.permute(0, 2, 3, 1), golden[f"{size}/out/stage{i + 1}"])


def test_unknown_names_are_listed() -> None:
    with pytest.raises(CheckpointError, match=r"2 tensor\(s\) of no known name: \['a.b', 'c'\]"):
        convert_state({"a.b": torch.zeros(1), "c": torch.zeros(1)}, config_with())
    with pytest.raises(CheckpointError, match=r"features\.9"):
        convert_swin({"features.9.0.weight": torch.zeros(1)})


def test_untied_head_is_refused() -> None:
    root = "llama_model.base_model.model."
    with pytest.raises(CheckpointError, match="differs from embed_tokens"):
        convert_state(
            {f"{root}lm_head.weight": torch.zeros(2), f"{root}model.embed_tokens.weight": torch.ones(2)}, config_with()
        )
