"""From frozen features to tokens of the language model: position table, Q-Former, projection.

Letters: ``B`` batch, ``T`` frames or windows, ``V`` vectors read (k a frame or window), ``D`` width of a feature,
``Q`` tokens, ``H`` width of the language model.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nanoemox.model.qformer import QFormer, QFormerSection


class AdapterOutput(NamedTuple):
    """Tokens for the prompt.

    Attributes:
        tokens: What the prompt takes in.
        attention: Share of attention that each frame or window got; sums to 1.
    """

    tokens: Float[Tensor, "B Q H"]
    attention: Float[Tensor, "B T"]


class TokenAdapter(nn.Module):
    """Vision or speech adapter (paper: "modality encoders with Q-Former", trained in phase 1)."""

    def __init__(self, section: QFormerSection, llm_size: int) -> None:
        super().__init__()
        self.vectors_per_step = getattr(section, "tokens_per_frame", 1)
        self.positions = nn.Embedding(section.max_positions, section.feature_size)
        self.qformer = QFormer(section)
        self.projection = nn.Linear(section.hidden_size, llm_size)

    def forward(self, features: Float[Tensor, "B V D"]) -> AdapterOutput:
        """Turn ``features`` (V = T * k, k vectors a frame, frame-major) into tokens."""
        steps = torch.arange(features.shape[1], device=features.device) // self.vectors_per_step
        hidden, share = self.qformer(features + self.positions(steps))
        per_step = share.unflatten(1, (-1, self.vectors_per_step)).sum(dim=2)
        return AdapterOutput(self.projection(hidden), per_step)
