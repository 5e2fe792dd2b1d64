"""Frozen encoders: states, pooling, and what the features of a window depend on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from nanoemox.model.branches.branch import Levels
from nanoemox.model.branches.speech import SpeechBranchConfig, SpeechEncoder
from nanoemox.model.branches.vision import VisionBranchConfig, VisionEncoder
from tests.tiny import CLIP_TINY, HUBERT_TINY, WHISPER_TINY

SIZES = {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 64}
PICTURE = {"patch_size": 8, "image_size": 32}
TOWERS: dict[str, dict[str, Any]] = {
    "clip": {**CLIP_TINY, "num_hidden_layers": 5},
    "siglip": {"model_type": "siglip_vision_model", **SIZES, **PICTURE},
    "dinov2": {"model_type": "dinov2", **SIZES, **PICTURE},
    "dinov2_registers": {"model_type": "dinov2_with_registers", "num_register_tokens": 3, **SIZES, **PICTURE},
    "dinov3": {"model_type": "dinov3_vit", "num_register_tokens": 4, **SIZES, **PICTURE},
    "vit": {"model_type": "vit", **SIZES, **PICTURE},
}
PREFIX = {"clip": 1, "siglip": 0, "dinov2": 1, "dinov2_registers": 4, "dinov3": 5, "vit": 1}
WAVE: dict[str, dict[str, Any]] = {
    "hubert": HUBERT_TINY,
    "hubert_base": {**HUBERT_TINY, "feat_extract_norm": "group", "do_stable_layer_norm": False},
    "wavlm": {**HUBERT_TINY, "model_type": "wavlm"},
    "wav2vec2": {**HUBERT_TINY, "model_type": "wav2vec2"},
}


def scramble(module: nn.Module) -> None:
    """Large weights: at the library's 0.02, two blocks of a tiny tower are nearly the same."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)


def vision(tower: str = "clip", **fields: Any) -> VisionEncoder:
    encoder = VisionEncoder(VisionBranchConfig(**{"encoder": TOWERS[tower], "last": 3, "taps": [1, 2, 4], **fields}))
    scramble(encoder)
    return encoder.eval()


def speech(kind: str = "hubert", **fields: Any) -> SpeechEncoder:
    encoder = {**WAVE, "whisper": WHISPER_TINY}[kind]
    module = SpeechEncoder(SpeechBranchConfig(**{"encoder": encoder, "last_states": 2, "taps": [1, 2, 3], **fields}))
    scramble(module)
    return module.eval()


def frames(batch: int = 2, count: int = 3) -> torch.Tensor:
    return torch.randn(batch, count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def windows(batch: int = 2, count: int = 3) -> torch.Tensor:
    return torch.randn(batch, count, 2000, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("tower", TOWERS)
def test_taps_are_raw_block_outputs_and_later_blocks_are_not_built(tower: str) -> None:
    encoder, pixels = vision(tower), frames()
    assert encoder.encoder.config.num_hidden_layers == 4
    with torch.no_grad():
        last, levels = encoder(pixels)
        listed = encoder.encoder(pixel_values=pixels.flatten(0, 1), output_hidden_states=True).hidden_states
        # One more block: the library's list then holds state 4 before any final norm.
        deeper = vision(tower, last=5)
        deeper.load_state_dict(encoder.state_dict(), strict=False)
        raw = deeper.encoder(pixel_values=pixels.flatten(0, 1), output_hidden_states=True).hidden_states

    def read(state: torch.Tensor) -> torch.Tensor:
        pooled = state[:, 0] if PREFIX[tower] else state.mean(dim=1)
        return pooled.view(2, 3, -1)

    torch.testing.assert_close(last, read(listed[3]))
    torch.testing.assert_close(levels, torch.stack([read(listed[1]), read(listed[2]), read(raw[4])], dim=1))


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize(("name", "grid"), [("grid2", 2), ("grid4", 4)])
def test_grid_tokens_are_means_of_patches_frame_by_frame(tower: str, name: str, grid: int) -> None:
    encoder, pixels = vision(tower, frame_tokens=name), frames()
    with torch.no_grad():
        last, levels = encoder(pixels)
        alone = torch.cat([encoder(pixels[:, t : t + 1]).last for t in range(3)], dim=1)
        listed = encoder.encoder(pixel_values=pixels.flatten(0, 1), output_hidden_states=True).hidden_states
    assert last.shape == (2, 3 * grid**2, 32)
    assert levels.shape == (2, 3, 3 * grid**2, 32)
    torch.testing.assert_close(last, alone)
    patches = listed[3][:, PREFIX[tower] :].view(2, 3, 4, 4, 32)
    step = 4 // grid
    corner = patches[1, 2, 4 - step :, :step].mean(dim=(0, 1))  # bottom left of the last frame
    torch.testing.assert_close(last[1, 2 * grid**2 + grid * (grid - 1)], corner)


def test_repeated_and_shallow_taps_work() -> None:
    encoder = vision(last=0, taps=[0, 0])
    with torch.no_grad():
        last, levels = encoder(frames())
    assert torch.equal(levels[:, 0], last)
    assert torch.equal(levels[:, 0], levels[:, 1])


def test_encoders_stay_in_eval_mode_and_are_deterministic() -> None:
    seen, heard = vision(), speech(last_states=1)
    for encoder, values in ((seen, frames()), (heard, windows())):
        encoder.train()
        assert not any(m.training for m in encoder.modules())
        with torch.no_grad():
            first, second = encoder(values), encoder(values)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("tower", TOWERS)
def test_encoders_are_thread_safe(tower: str) -> None:
    encoder = vision(tower)
    pixels = [torch.randn(1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(i)) for i in range(24)]
    with torch.inference_mode():
        alone = [encoder(p) for p in pixels]

    def read(values: torch.Tensor) -> Levels:
        with torch.inference_mode():
            return encoder(values)

    with ThreadPoolExecutor(4) as pool:
        for one, many in zip(alone, pool.map(read, pixels), strict=True):
            torch.testing.assert_close(many, one)


@pytest.mark.parametrize("kind", WAVE)
def test_states_are_averaged_over_time_within_a_window(kind: str) -> None:
    encoder, values = speech(kind, normalise="window"), windows()
    with torch.no_grad():
        last, levels = encoder(values)
        flat = (values - values.mean(-1, keepdim=True)) / (values.var(-1, keepdim=True, correction=0) + 1e-7).sqrt()
        states = encoder.encoder(flat.flatten(0, 1), output_hidden_states=True)
    listed = [s.mean(dim=1).view(2, 3, -1) for s in (*states.hidden_states[:-1], states.last_hidden_state)]
    torch.testing.assert_close(last, (listed[3] + listed[4]) / 2)
    torch.testing.assert_close(levels, torch.stack(listed[1:4], dim=1))


@pytest.mark.parametrize(("scope", "window_alone", "clip_alone"), [
    ("window", True, True), ("clip", False, True), ("batch", False, False),
])  # fmt: skip
def test_normalisation_scope(scope: str, window_alone: bool, clip_alone: bool) -> None:
    encoder = speech(normalise=scope)
    values = windows() * torch.tensor([0.1, 1.0, 3.0])[:, None] * torch.tensor([1.0, 0.2])[:, None, None]
    with torch.no_grad():
        together = encoder(values).last
        window, clip = encoder(values[:1, :1]).last, encoder(values[:1]).last
    assert torch.allclose(together[:1, :1], window, atol=1e-5) is window_alone
    assert torch.allclose(together[:1], clip, atol=1e-5) is clip_alone


def test_loudness_has_no_effect_and_offset_depends_on_the_encoder() -> None:
    encoder = speech(normalise="clip", remove_mean=True)
    offsets = torch.tensor([0.5, -0.25, 0.0])[:, None]
    with torch.no_grad():
        plain, moved = encoder(windows()).last, encoder(windows() * 0.03 + offsets).last
    torch.testing.assert_close(plain, moved, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_silence_and_whispers_are_finite_in_every_precision(dtype: torch.dtype) -> None:
    encoder = speech().to(dtype)
    values = torch.stack([torch.zeros(3, 2000), windows(1)[0] * 1e-4]).to(dtype)
    with torch.no_grad():
        last, levels = encoder(values)
    assert last.dtype == levels.dtype == dtype
    assert torch.isfinite(last).all()
    assert torch.isfinite(levels).all()


def test_half_precision_computes_statistics_in_float32() -> None:
    # At this loudness the variance is near 6e-8, the smallest step of float16.
    encoder, values = speech(), (windows() * 2.5e-4).half()
    read: list[torch.Tensor] = []
    encoder.encoder.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    with torch.no_grad():
        for one in (values.float(), values):
            encoder(one)
    full, half = read
    torch.testing.assert_close(half, full, atol=1e-3, rtol=1e-3)


def test_a_log_mel_encoder_has_no_decoder() -> None:
    encoder = speech("whisper")
    assert not any("decoder" in name for name, _ in encoder.named_parameters())
    mel = torch.randn(2, 3, 80, 200, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        last, levels = encoder(mel)
        alone = encoder(mel[1:, 2:]).last
    assert last.shape == (2, 3, 32)
    assert levels.shape == (2, 3, 3, 32)
    torch.testing.assert_close(last[1:, 2:], alone)


def test_bfloat16_is_close_to_float32() -> None:
    for encoder, values in ((vision(), frames()), (speech(), windows())):
        with torch.no_grad():
            full = encoder(values).last
            half = encoder.to(torch.bfloat16)(values.to(torch.bfloat16)).last
        assert (full - half.float()).abs().max() <= 0.1 * full.abs().max()


def test_the_deviation_within_a_window_doubles_the_width() -> None:
    torch.manual_seed(0)
    plain, both = speech("whisper"), speech("whisper")
    both.load_state_dict(plain.state_dict())
    both.pooling = "mean_std"
    values = torch.randn(1, 2, both.encoder.config.num_mel_bins, 2 * both.encoder.config.max_source_positions)
    with torch.no_grad():
        mean, joined = plain(values), both(values)
    width = mean.last.shape[-1]
    assert joined.last.shape[-1] == joined.levels.shape[-1] == 2 * width
    torch.testing.assert_close(joined.last[..., :width], mean.last)
    assert (joined.last[..., width:] >= 0).all()
