"""Eight-bit matrices for a language model on a CPU: a token reads a quarter of the bytes of float32.

Weights get one scale per output, inputs one scale per token, found when they come: a row's answer does not depend on
its neighbours. The product is oneDNN's, by the operators that torch's own compiler calls. torchao's kernels need
``torch.compile`` to be fast on a CPU, and the weight-only one is slower than bfloat16 from two rows on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nanoemox.types import CheckpointError

_LEVELS = 127
"""Steps on each side of zero."""
_SMALLEST = 1e-12


class Int8Linear(nn.Module):
    """A linear layer whose weights are held in eight bits.

    Args:
        linear: The layer to stand in for; it is not changed.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        self.out_features = linear.out_features
        self._scales = weight.abs().amax(dim=1).clamp_min(_SMALLEST) / _LEVELS
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        steps = (weight / self._scales[:, None]).round_().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(steps, None)
        self._bias = None if linear.bias is None else linear.bias.detach().float()

    def forward(self, values: Tensor) -> Tensor:
        """float[..., in] -> float[..., out], in the type that came."""
        given = values.float()
        largest = given.abs().amax(dim=-1, keepdim=True).clamp_min_(_SMALLEST)
        steps = (given * (_LEVELS / largest)).round_().add_(_LEVELS + 1).to(torch.uint8)
        out = torch.ops.onednn.qlinear_pointwise(
            steps, 1 / _LEVELS, _LEVELS + 1, self._packed, self._scales, self._zeros,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        out = out.view(*values.shape[:-1], self.out_features) * largest
        if self._bias is not None:
            out += self._bias
        return out.to(values.dtype)


def quantize_language_model(model: Any, kind: str) -> None:
    """Hold the matrices of a model's language model in eight bits; encoders, adapters and fusion stay as they are.

    Args:
        model: The model, on the CPU; changed in place, and not to be trained or saved afterwards.
        kind: ``int8``.

    Raises:
        CheckpointError: Another kind, another device, or a processor for which torch has no such product.
    """
    if kind != "int8":
        raise CheckpointError(f"quantize={kind!r} is unknown: choose int8, or leave it out")
    if model.device.type != "cpu":
        raise CheckpointError(f"int8 runs on a CPU, the model is on {model.device}: leave quantize out, or take cpu")
    if not torch.backends.mkldnn.is_available():
        raise CheckpointError("this build of torch has no oneDNN, which int8 needs: leave quantize out")
    decoder = model.get_decoder()
    for name, layer in list(decoder.named_modules()):
        if isinstance(layer, nn.Linear):
            parent, _, last = name.rpartition(".")
            setattr(decoder.get_submodule(parent), last, Int8Linear(layer))
    model.set_output_embeddings(Int8Linear(model.get_output_embeddings()))
