"""Sizes of a model by part, counted on the meta device: nothing is allocated, nothing is downloaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModel

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.lora import TARGETS
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration

LORA_RANKS = (16, 32)
"""Reference: 16. Paper: 32."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of parameters.

    Attributes:
        parts: Part of the model -> what is built; parts that the model has not are absent.
        vision_tower: The vision tower in its full depth, as the public file holds it (0 without a vision branch): we
            build it only as deep as the deepest state that is read.
        lora: Rank -> what LoRA would add.
    """

    parts: dict[str, int]
    vision_tower: int
    lora: dict[int, int]

    @property
    def adapters(self) -> int:
        """Adapters and fusion: the parameters that P2E trains besides LoRA."""
        return sum(n for part, n in self.parts.items() if part.endswith("_adapter") or part == "fusion")

    @property
    def total(self) -> int:
        """All that is built, without LoRA."""
        return sum(self.parts.values())

    def rows(self) -> list[tuple[str, int, str]]:
        """Lay out the table: part, parameters, remark."""
        rows = [(part.replace("_", " "), count, "") for part, count in self.parts.items()]
        if self.vision_tower:
            deep = f"{self.vision_tower / 1e6:.1f} M in the public file, built up to the last block read"
            rows = [(p, n, deep if p == "vision encoder" else r) for p, n, r in rows]
        rows.append(("total", self.total, f"of which adapters + fusion {self.adapters / 1e6:.1f} M"))
        return rows + [(f"LoRA r={rank}", count, "in phase 3, not in the total") for rank, count in self.lora.items()]


def tensor_table(config: NanoEmoXConfig) -> dict[str, Tensor]:
    """Return name -> meta tensor of everything that a model directory holds; a tied head is not stored twice."""
    with torch.device("meta"):
        model = NanoEmoXForConditionalGeneration(config)
    return _stored(model, config)


def model_sizes(config: NanoEmoXConfig) -> Sizes:
    """Count a configuration's parameters by part."""
    with torch.device("meta"):
        model = NanoEmoXForConditionalGeneration(config)
        tower = AutoModel.from_config(config.vision.encoder) if "vision" in config.branches else nn.Identity()
    stored = _stored(model, config)
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if name in stored:
            part = name.partition(".")[0]
            parts[part] = parts.get(part, 0) + parameter.numel()
    return Sizes(parts, sum(p.numel() for p in tower.parameters()), _lora(stored))


def _stored(model: nn.Module, config: NanoEmoXConfig) -> dict[str, Tensor]:
    state: dict[str, Tensor] = model.state_dict()
    if config.text_config.tie_word_embeddings:
        state.pop("language_model.lm_head.weight", None)
    return state


def _lora(stored: Mapping[str, Tensor]) -> dict[int, int]:
    """Two matrices of one rank for every projection of the language model."""
    pattern = re.compile(TARGETS)
    widths = [sum(t.shape) for n, t in stored.items() if pattern.fullmatch(n.removesuffix(".weight")) and t.ndim == 2]
    return {rank: rank * sum(widths) for rank in LORA_RANKS}
