"""Where a model computes, and in which precision it is fast there."""

from __future__ import annotations

from typing import Any, TypeVar

import torch

Model = TypeVar("Model", bound=Any)


def place_on(model: Model, device: torch.device) -> Model:
    """Move a model to its device.

    On CUDA cuDNN's attention is switched off for the process. From Hopper on torch prefers it, but with masks it may
    give NaN gradients (pytorch issue 196678), with few heads of keys wrong outputs (193893), and it plans anew at every
    new length. Flash and memory-efficient attention stay on.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
    moved: Model = model.to(device)
    return moved


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 itself: GPUs from Ampere on, CPUs with AVX-512 BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
