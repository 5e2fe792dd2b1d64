"""A seeded random model of width 32 with every branch, its processor, and clips of noise."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import Clip, FaceTrack, Turn

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
PLACEHOLDERS = ("<|vision|>", "<|speech|>", "<|face|>", "<|fusion|>")

CLIP_TINY: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}
HUBERT_TINY: dict[str, Any] = {
    "model_type": "hubert",
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    # 32 channels: with 16, kernel = stride and bfloat16, oneDNN's convolution is wrong on CPUs with AMX.
    "conv_dim": [32, 32],
    "conv_kernel": [10, 8],
    "conv_stride": [10, 8],
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
WHISPER_TINY: dict[str, Any] = {
    "model_type": "whisper",
    "d_model": 32,
    "encoder_layers": 4,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 80,
    "max_source_positions": 100,
}
SWIN_TINY: dict[str, Any] = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [2, 2, 2, 2],
    "num_heads": [1, 2, 4, 8],
    "window_size": 4,
    "image_size": 64,
    "drop_path_rate": 0.0,
}
QFORMER_TINY = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


@lru_cache(maxsize=1)
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 400 entries, trained on the package's own words."""
    words = (files("nanoemox") / "tasks" / "templates.yaml").read_text("utf-8")
    words += " ".join(label for labels in LABEL_SETS.values() for label in labels)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[*SPECIAL, *PLACEHOLDERS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([words], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", *PLACEHOLDERS],
        clean_up_tokenization_spaces=False,
    )


def text_config(model_type: str = "qwen2") -> dict[str, Any]:
    """A two-layer language model of width 32."""
    return {
        "model_type": model_type,
        "vocab_size": 448,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def tiny_config(model_type: str = "qwen2", **sections: dict[str, Any]) -> NanoEmoXConfig:
    """Every branch, three experts; ``sections`` overrides fields, e.g. ``fusion={"gate": "mean"}``."""
    ids = tiny_tokenizer().convert_tokens_to_ids(list(PLACEHOLDERS))
    base: dict[str, dict[str, Any]] = {
        "vision": {"encoder": CLIP_TINY, "last": 3, "taps": [1, 2, 4], "num_frames": 4, "num_queries": 4},
        "speech": {
            "encoder": HUBERT_TINY,
            "last_states": 2,
            "taps": [1, 2, 3],
            "num_windows": 4,
            "window_s": 0.5,
            "num_queries": 4,
        },
        "face": {"encoder": SWIN_TINY, "fuse_size": 32, "image_size": 64, "num_queries": 2, "projector_size": 48},
        "fusion": {"hidden_size": 32, "num_attention_heads": 4},
    }
    for branch in ("vision", "speech"):
        base[branch] |= QFORMER_TINY
    for branch, fields in sections.items():
        base[branch] |= fields
    names = ("vision_token_id", "speech_token_id", "face_token_id", "fusion_token_id")
    return NanoEmoXConfig(**base, text_config=text_config(model_type), **dict(zip(names, ids, strict=True)))


def tiny_processor(config: NanoEmoXConfig | None = None) -> NanoEmoXProcessor:
    """The processor that goes with a tiny configuration."""
    config = config or tiny_config()
    extractor = None
    if config.speech.takes_log_mel:
        extractor = WhisperFeatureExtractor(feature_size=80, sampling_rate=16_000, chunk_length=2)
    return NanoEmoXProcessor(feature_extractor=extractor, tokenizer=tiny_tokenizer(), config=config)


def tiny_model(config: NanoEmoXConfig | None = None, seed: int = 0) -> NanoEmoXForConditionalGeneration:
    """A random model in eval mode; the same seed gives the same weights."""
    torch.manual_seed(seed)
    model = NanoEmoXForConditionalGeneration(config or tiny_config())
    for name, parameter in model.named_parameters():
        if not name.startswith("language_model") and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def tiny_clip(
    seed: int = 0,
    *,
    without: tuple[str, ...] = (),
    subtitle: str | None = "I finally got the job!",
    history: tuple[Turn, ...] = (),
    duration_s: float = 1.5,
) -> Clip:
    """A clip of noise; ``without`` leaves modalities out (vision, speech, face, text)."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    box = np.tile(np.float32([12, 4, 44, 36]), (4, 1))
    wave = rng.normal(0, 0.1, int(duration_s * 16_000)).astype(np.float32)
    track = FaceTrack(boxes=box, detected=np.ones(4, dtype=np.bool_))
    return Clip(
        name=f"noise-{seed}",
        frames=None if "vision" in without else frames,
        frame_times_s=None if "vision" in without else np.linspace(0.1, duration_s - 0.1, 4),
        waveform=None if "speech" in without else wave,
        duration_s=duration_s,
        fps=25.0,
        subtitle=None if "text" in without else subtitle,
        history=() if "text" in without else history,
        face=None if {"face", "vision"} & set(without) else track,
    )


def save_tiny(folder: Path, config: NanoEmoXConfig | None = None, seed: int = 0) -> Path:
    """Write a complete model directory."""
    config = config or tiny_config()
    tiny_model(config, seed).save_pretrained(folder)
    tiny_processor(config).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "nanoemox"
    return folder
