"""Mixture of cross-modal experts: each pairs a speech tap with a vision tap; a gate weighs them.

Letters: ``B`` batch, ``E`` experts, ``T`` frames, ``W`` speech windows, ``C`` width of the fusion, ``n`` tokens,
``H`` width of the language model, ``Dv`` and ``Ds`` width of a tap of the scene and of the voice, ``V`` vision steps
that an expert reads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nanoemox.model.configuration import FusionBranchConfig, NanoEmoXConfig


class FusionOutput(NamedTuple):
    """The fused token.

    Attributes:
        tokens: What the prompt takes in.
        gate: Weights of the experts, summing to 1; None where the kind has no experts.
    """

    tokens: Float[Tensor, "B n H"]
    gate: Float[Tensor, "B E"] | None


class Expert(nn.Module):
    """Speech queries vision, then a feed-forward with its own LayerNorm; both with residual."""

    def __init__(self, section: FusionBranchConfig) -> None:
        super().__init__()
        size = section.hidden_size
        self.attention = nn.MultiheadAttention(
            size, section.num_attention_heads, dropout=section.dropout, batch_first=True
        )
        # Paper: FFN(E) + E. Reference: LayerNorm inside, no expansion, dropout after the activation.
        self.norm = nn.LayerNorm(size)
        self.up = nn.Linear(size, size)
        self.dropout = nn.Dropout(section.dropout)
        self.down = nn.Linear(size, size)

    def forward(self, speech: Float[Tensor, "B W C"], vision: Float[Tensor, "B V C"]) -> Float[Tensor, "B W C"]:
        """Enrich what was heard with what was seen."""
        attended, _ = self.attention(speech, vision, vision, need_weights=False)
        hidden = attended + speech
        inner = self.dropout(nn.functional.gelu(self.up(self.norm(hidden))))
        return hidden + self.down(inner)


class ExpertFusion(nn.Module):
    """The paper's fusion encoder with its gate and projector."""

    def __init__(self, config: NanoEmoXConfig) -> None:
        super().__init__()
        section: FusionBranchConfig = config.fusion
        size, experts = section.hidden_size, config.num_experts
        # Reference: one projection for all scales. Paper: experts have independent weights.
        projections = 1 if section.shared_projection else experts
        self.pairing = section.pairing
        self.speech_projections = nn.ModuleList(nn.Linear(config.speech.feature_size, size) for _ in range(projections))
        self.vision_projections = nn.ModuleList(nn.Linear(config.vision.feature_size, size) for _ in range(projections))
        self.speech_positions = nn.Embedding(section.max_positions, size) if section.time_position else None
        self.vision_positions = nn.Embedding(section.max_positions, size) if section.time_position else None
        self.experts = nn.ModuleList(Expert(section) for _ in range(experts))
        # Reference: softmax over the experts; the paper's equation has no normalisation.
        self.gate = (
            nn.Sequential(
                nn.Linear(experts * size, size), nn.GELU(), nn.Dropout(section.dropout), nn.Linear(size, experts)
            )
            if section.gate == "softmax"
            else None
        )
        self.projection = nn.Linear(size, config.text_config.hidden_size)
        self.num_tokens = section.num_tokens

    def forward(
        self, vision_levels: Float[Tensor, "B E T Dv"], speech_levels: Float[Tensor, "B E W Ds"]
    ) -> FusionOutput:
        """Fuse the taps into tokens."""
        fused, gate = self.sequence(vision_levels, speech_levels)
        # Reference: more tokens are repetitions of the one pooled vector.
        token = self.projection(fused.mean(dim=1, keepdim=True))
        return FusionOutput(token.expand(-1, self.num_tokens, -1), gate)

    def sequence(
        self, vision_levels: Float[Tensor, "B E T Dv"], speech_levels: Float[Tensor, "B E W Ds"]
    ) -> tuple[Float[Tensor, "B W C"], Float[Tensor, "B E"]]:
        """Return the gated sequence and the gate."""
        speech = self._project(self.speech_projections, speech_levels, self.speech_positions)
        vision = self._project(self.vision_projections, vision_levels, self.vision_positions)
        if self.pairing == "cross":
            # Paper: undefined; here every speech tap attends to all vision taps joined over time.
            vision = [torch.cat(vision, dim=1)] * len(speech)
        heard = torch.stack(
            [expert(s, v) for expert, s, v in zip(self.experts, speech, vision, strict=True)], dim=1
        )  # B, E, W, C
        gate = self._weigh(heard)
        return (heard * gate[:, :, None, None]).sum(dim=1), gate

    def _project(self, projections: nn.ModuleList, levels: Tensor, positions: nn.Embedding | None) -> list[Tensor]:
        out = [projections[e % len(projections)](levels[:, e]) for e in range(levels.shape[1])]
        if positions is None:
            return out
        where = positions(torch.arange(levels.shape[2], device=levels.device))
        return [level + where for level in out]

    def _weigh(self, heard: Tensor) -> Tensor:
        """Gate weights float[B, E] from the experts' outputs float[B, E, W, C], averaged over time."""
        if self.gate is None:
            return heard.new_full(heard.shape[:2], 1 / heard.shape[1])
        joined = heard.mean(dim=2).flatten(1)
        return torch.softmax(self.gate(joined), dim=-1)
