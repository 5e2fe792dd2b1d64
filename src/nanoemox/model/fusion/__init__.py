"""Fusion of voice and scene into one token; one module a kind, one signature (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import nn

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.fusion.attention import AttentionFusion
from nanoemox.model.fusion.experts import ExpertFusion, FusionOutput

__all__ = ["FUSIONS", "AttentionFusion", "ExpertFusion", "FusionOutput", "build_fusion"]

FUSIONS: Final[dict[str, Callable[[NanoEmoXConfig], nn.Module]]] = {
    "experts": ExpertFusion,
    "attention": AttentionFusion,
}
"""``fusion.kind`` -> module that takes the taps of picture and voice and gives a :class:`FusionOutput`; a line added
here adds a kind."""


def build_fusion(config: NanoEmoXConfig) -> nn.Module:
    """Build the fusion that ``config.fusion.kind`` names.

    Raises:
        ValueError: There is no such kind.
    """
    kind = config.fusion.kind
    if kind not in FUSIONS:
        raise ValueError(f"fusion.kind {kind!r} is unknown: choose {', '.join(FUSIONS)} or none")
    return FUSIONS[kind](config)
