"""Sizes of the public backbones of presets (paper, section 3.2), from their own ``config.json``.

They are used for size tables and random placeholders; a real directory has its own file.
"""

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
CLIP_VIT_B16: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 16,
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
HUBERT_BASE: dict[str, Any] = {
    "model_type": "hubert",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "feat_extract_norm": "group",
    "conv_bias": False,
    "do_stable_layer_norm": False,
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
SWIN_T: dict[str, Any] = SWIN_B | {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}
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
    "rope_theta": 1_000_000.0,
    "rms_norm_eps": 1e-6,
}
QWEN25_05B: dict[str, Any] = QWEN25_15B | {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
}

SIZES: dict[str, dict[str, Any]] = {
    "openai/clip-vit-large-patch14": CLIP_VIT_L14,
    "openai/clip-vit-base-patch16": CLIP_VIT_B16,
    "facebook/hubert-large-ll60k": HUBERT_LARGE,
    "TencentGameMate/chinese-hubert-large": HUBERT_LARGE,
    "facebook/hubert-base-ls960": HUBERT_BASE,
    "kartiknarayan/facexformer/ckpts/model.pt": SWIN_B,
    "microsoft/swin-tiny-patch4-window7-224": SWIN_T,
    "Qwen/Qwen2.5-1.5B-Instruct": QWEN25_15B,
    "Qwen/Qwen2.5-0.5B-Instruct": QWEN25_05B,
}
"""Hub id (or id and file) -> sizes."""
