"""Sizes of the public backbones that the full-size model is built from (paper, section 3.2)."""

from __future__ import annotations

from typing import Any

CLIP_VIT_L14: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
}
HUBERT_LARGE: dict[str, Any] = {
    "model_type": "hubert",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
    "feat_proj_layer_norm": True,
}
SWIN_B: dict[str, Any] = {
    "model_type": "swin",
    "embed_dim": 128,
    "depths": [2, 2, 18, 2],
    "num_heads": [4, 8, 16, 32],
    "window_size": 7,
    "image_size": 224,
    "drop_path_rate": 0.0,
    # Reference: torchvision's Swin normalises with eps 1e-5, also transformers' default.
    "layer_norm_eps": 1e-5,
}
QWEN25_15B: dict[str, Any] = {
    "model_type": "qwen2",
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": True,
}
