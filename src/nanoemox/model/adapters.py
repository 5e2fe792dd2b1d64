"""From frozen features to tokens of the language model: position table, Q-Former, projection.

Letters: ``B`` batch, ``T`` frames or windows, ``V`` vectors read (k a frame or window), ``D`` width of a feature,
``C`` width of a vector of a :class:`VectorAdapter`, ``Q`` tokens, ``H`` width of the language model.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig

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


class VectorSection(PreTrainedConfig):
    """Fields of a section whose adapter is a :class:`VectorAdapter`.

    Attributes:
        num_queries: Q, tokens handed to the language model.
        projector_size: Width of the hidden layer of the MLP.
        time_position: Add a learned position to each vector (Reference: none, so order is invisible).
        max_positions: Rows of the table of positions.
    """

    num_queries: int = 4
    num_attention_heads: int = 4
    projector_size: int = 768
    time_position: bool = True
    dropout: float = 0.1
    max_positions: int = 32

    @property
    @abstractmethod
    def feature_size(self) -> int:
        """C, the width of a vector."""


class VectorAdapter(nn.Module):
    """Learned queries attend to vectors over time; an MLP brings them to the language model's width."""

    def __init__(self, section: VectorSection, llm_size: int) -> None:
        super().__init__()
        size = section.feature_size
        # Reference: no position, so the order of the frames is invisible; the paper claims temporal relations.
        self.positions = nn.Embedding(section.max_positions, size) if section.time_position else None
        self.queries = nn.Parameter(torch.empty(section.num_queries, size))
        self.attention = nn.MultiheadAttention(size, section.num_attention_heads, batch_first=True)
        self.projector = nn.Sequential(
            nn.Linear(size, section.projector_size),
            nn.GELU(),
            nn.Dropout(section.dropout),
            nn.Linear(section.projector_size, llm_size),
        )
        self.reset_own_parameters()

    def reset_own_parameters(self) -> None:
        """Draw the queries from N(0, 1), as the authors do."""
        nn.init.normal_(self.queries)

    def forward(self, vectors: Float[Tensor, "B T C"]) -> AdapterOutput:
        """Turn vectors of frames or windows into tokens; no residual, no norm (Reference: one is created, unused)."""
        if self.positions is not None:
            vectors = vectors + self.positions(torch.arange(vectors.shape[1], device=vectors.device))
        queries = self.queries.expand(vectors.shape[0], -1, -1)
        attended, weights = self.attention(queries, vectors, vectors)
        return AdapterOutput(self.projector(attended), weights.mean(dim=1))
