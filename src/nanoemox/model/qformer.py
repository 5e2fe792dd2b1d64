"""Q-Former: learned queries that read a short sequence of features (BLIP-2's, two layers, no words).

Letters: ``B`` batch, ``T`` features read, ``Q`` queries, ``C`` width of the queries, ``D`` width of the features,
``K`` heads.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig

LAYER_NORM_EPS = 1e-12  # Reference: BERT's


class QFormerSection(PreTrainedConfig):
    """Fields of a section whose adapter is a Q-Former.

    Attributes:
        num_queries: Q, tokens handed to the language model (the paper also tries 64 and 128).
        hidden_size: C.
        max_positions: Rows of the table of positions of frames or windows.
    """

    num_queries: int = 32
    hidden_size: int = 768
    num_attention_heads: int = 12
    num_hidden_layers: int = 2
    intermediate_size: int = 3072
    dropout: float = 0.1
    max_positions: int = 32

    @property
    @abstractmethod
    def feature_size(self) -> int:
        """D."""


class QFormerOutput(NamedTuple):
    """What the queries gathered.

    Attributes:
        hidden: The queries after the last layer.
        attention: Share of the cross-attention, mean over layers, heads and queries; sums to 1.
    """

    hidden: Float[Tensor, "B Q C"]
    attention: Float[Tensor, "B T"]


class Attention(nn.Module):
    """Multi-head attention with residual and LayerNorm after it."""

    def __init__(self, size: int, source_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(source_size, size)
        self.value = nn.Linear(source_size, size)
        self.out = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, hidden: Float[Tensor, "B Q C"], source: Float[Tensor, "B T D"]
    ) -> tuple[Float[Tensor, "B Q C"], Float[Tensor, "B K Q T"]]:
        """Attend from ``hidden`` to ``source``.

        Returns:
            The new ``hidden`` and the attention weights. T is at most a few dozen, so the weights
            are always formed: the evidence view reads them and a fused kernel would save nothing.
        """
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query(hidden), self.key(source), self.value(source))
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
        context = (self.dropout(weights) @ v).transpose(1, 2).flatten(2)
        return self.norm(self.dropout(self.out(context)) + hidden), weights


class QFormerLayer(nn.Module):
    """Self-attention of the queries, cross-attention to the features, feed-forward; each post-normalised."""

    def __init__(self, section: QFormerSection) -> None:
        super().__init__()
        size = section.hidden_size
        self.self_attention = Attention(size, size, section.num_attention_heads, section.dropout)
        self.cross_attention = Attention(size, section.feature_size, section.num_attention_heads, section.dropout)
        self.up = nn.Linear(size, section.intermediate_size)
        self.down = nn.Linear(section.intermediate_size, size)
        self.norm = nn.LayerNorm(size, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(section.dropout)

    def forward(
        self, hidden: Float[Tensor, "B Q C"], features: Float[Tensor, "B T D"]
    ) -> tuple[Float[Tensor, "B Q C"], Float[Tensor, "B K Q T"]]:
        """Return the new ``hidden`` and the cross-attention weights."""
        hidden, _ = self.self_attention(hidden, hidden)
        hidden, weights = self.cross_attention(hidden, features)
        return self.norm(self.dropout(self.down(functional.gelu(self.up(hidden)))) + hidden), weights


class QFormer(nn.Module):
    """Learned queries through ``num_hidden_layers`` layers of cross-attention."""

    def __init__(self, section: QFormerSection) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(1, section.num_queries, section.hidden_size))
        self.norm = nn.LayerNorm(section.hidden_size, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(section.dropout)
        self.layers = nn.ModuleList(QFormerLayer(section) for _ in range(section.num_hidden_layers))
        self.reset_own_parameters()

    def reset_own_parameters(self) -> None:
        """Draw the queries from N(0, 0.02)."""
        nn.init.normal_(self.queries, std=0.02)

    def forward(self, features: Float[Tensor, "B T D"]) -> QFormerOutput:
        """Read ``features``."""
        hidden = self.dropout(self.norm(self.queries)).expand(features.shape[0], -1, -1)
        shares = []
        for layer in self.layers:
            hidden, weights = layer(hidden, features)
            shares.append(weights.mean(dim=(1, 2)))
        return QFormerOutput(hidden, torch.stack(shares).mean(dim=0))
