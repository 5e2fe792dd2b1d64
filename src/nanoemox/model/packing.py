"""Weights of a CPU in the order in which its products read them.

A product of a few rows with a matrix, as in every step of decoding, is bound by memory. torch hands such a product in
float32 to MKL, which takes longer for three rows than for one, and one row in bfloat16 to a plain loop. oneDNN, which
comes with torch, reads a matrix that was reordered once at the speed of the memory for one row and for many
(``benchmarks/decoding.py``). Answering does not change: only the order of summation does.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS_LEAST: Final = 4 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 1
"""With AVX-512 fewer rows are multiplied as four: oneDNN's kernel for one takes longer there. With AVX2 the padding
costs a fifth to a third of a step (``benchmarks/decoding.py``)."""


class PackedLinear(nn.Module):
    """``nn.Linear`` for answering on a CPU: the same shapes, no gradient.

    ``state_dict`` and ``weight`` give the dense matrix, so that the model can be saved.

    Args:
        linear: The layer, float32 or bfloat16, on the CPU.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach(), requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """float[out, in], a dense copy."""
        return self._packed.to_dense()

    def unpacked(self) -> nn.Linear:
        """Return the layer as an ``nn.Linear`` again, frozen: LoRA cannot be attached to packed weights."""
        weight = self.weight
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, "meta", weight.dtype)
        linear.weight, linear.bias = nn.Parameter(weight, requires_grad=False), self.bias
        return linear

    def forward(self, x: Tensor) -> Tensor:
        """Multiply float[..., in]; returns float[..., out].

        Raises:
            RuntimeError: A gradient is wanted.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            raise RuntimeError("packed weights have no gradient: load the model by its own class to train it")
        count = x.shape[:-1].numel()
        if count >= ROWS_LEAST:
            return self._multiply(x)
        rows = functional.pad(x.reshape(count, self.in_features), (0, 0, 0, ROWS_LEAST - count))
        return self._multiply(rows)[:count].reshape(*x.shape[:-1], self.out_features)

    def _multiply(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether this machine multiplies packed weights of this type; bfloat16 needs AVX-512 or AVX-NE-CONVERT."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack(module: nn.Module) -> None:
    """Replace every ``nn.Linear`` in a module by its packed form; a dense matrix that nothing shares is freed."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, PackedLinear(child))
        else:
            pack(child)
