"""Attention fusion, the paper's ablation: one learned attention pools all steps of voice and scene.

Letters: ``B`` batch, ``E`` taps, ``T`` frames, ``W`` speech windows, ``C`` width of the fusion,
``Dv`` and ``Ds`` width of a tap of the scene and of the voice.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.fusion.experts import FusionOutput


class AttentionFusion(nn.Module):
    """Project the taps of each step, score every step, take the weighted sum (as AffectGPT's pre-fusion does)."""

    def __init__(self, config: NanoEmoXConfig) -> None:
        super().__init__()
        section, taps = config.fusion, config.num_experts
        size = section.hidden_size
        self.speech_projection = nn.Linear(taps * config.speech.feature_size, size)
        self.vision_projection = nn.Linear(taps * config.vision.feature_size, size)
        self.positions = nn.Embedding(section.max_positions, size) if section.time_position else None
        # A bias on the score would never train: the softmax over the steps takes it out again.
        self.score = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False))
        self.dropout = nn.Dropout(section.dropout)
        self.projection = nn.Linear(size, config.text_config.hidden_size)
        self.num_tokens = section.num_tokens

    def forward(
        self, vision_levels: Float[Tensor, "B E T Dv"], speech_levels: Float[Tensor, "B E W Ds"]
    ) -> FusionOutput:
        """Fuse the taps into tokens; there is no gate."""
        speech = self._place(self.speech_projection(speech_levels.transpose(1, 2).flatten(2)))
        vision = self._place(self.vision_projection(vision_levels.transpose(1, 2).flatten(2)))
        steps = torch.cat([speech, vision], dim=1)
        weights = torch.softmax(self.score(steps), dim=1)
        pooled = (self.dropout(weights) * steps).sum(dim=1, keepdim=True)
        return FusionOutput(self.projection(pooled).expand(-1, self.num_tokens, -1), None)

    def _place(self, steps: Tensor) -> Tensor:
        if self.positions is None:
            return steps
        return steps + self.positions(torch.arange(steps.shape[1], device=steps.device))
