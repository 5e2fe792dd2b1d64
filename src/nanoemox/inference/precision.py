"""The default precision of a model."""

from __future__ import annotations

import torch


def default_dtype(device: torch.device, stored: torch.dtype | None) -> torch.dtype:
    """Choose bfloat16 or float32.

    On CUDA bfloat16. On a CPU float32, but bfloat16 for weights that are stored so where the processor multiplies it:
    half the bytes a token, half the memory, and the same rounding that the weights have been through.

    Args:
        device: Where the model goes.
        stored: Format of its weights on disk.
    """
    if device.type == "cuda":
        return torch.bfloat16
    if device.type == "cpu" and stored == torch.bfloat16 and multiplies_bfloat16():
        return torch.bfloat16
    return torch.float32


def multiplies_bfloat16() -> bool:
    """Say whether this CPU has instructions for products in bfloat16 (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
