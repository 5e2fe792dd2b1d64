"""Fusion of voice and scene into one token; one module a kind, one signature (paper, section 3.3)."""

from __future__ import annotations

from torch import nn

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.fusion.attention import AttentionFusion
from nanoemox.model.fusion.experts import ExpertFusion, FusionOutput

__all__ = ["AttentionFusion", "ExpertFusion", "FusionOutput", "build_fusion"]


def build_fusion(config: NanoEmoXConfig) -> nn.Module:
    """Build the fusion that ``config.fusion.kind`` names."""
    return {"experts": ExpertFusion, "attention": AttentionFusion}[config.fusion.kind](config)
