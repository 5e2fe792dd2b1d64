"""A clip as vectors: the outputs of adapters and fusion, before the language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nanoemox.inference.batch import untrained_branches
from nanoemox.model.branches import branch_of
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.types import Clip, MediaError


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The branches of one clip as vectors of the language model's width ``H``.

    Attributes:
        clip: The clip's name.
        tokens: Branch -> float32[Q, H], the tokens that stand in the prompt.
        pooled: Branch -> float32[H], their mean.
    """

    clip: str
    tokens: Mapping[str, npt.NDArray[np.float32]]
    pooled: Mapping[str, npt.NDArray[np.float32]]


@torch.no_grad()
def embed_clip(model: NanoEmoXForConditionalGeneration, processor: NanoEmoXProcessor, clip: Clip) -> Embedding:
    """Encode and adapt the media of one clip; the language model does not run.

    Raises:
        MediaError: The clip has no media that this model's trained branches read.
    """
    off = untrained_branches(processor.config)
    offered = processor.media(clip)
    branches = tuple(b for b in processor.branches_of(offered) if b not in off)
    if not branches:
        reads = ", ".join(b for b in processor.config.branches if b not in off) or "words alone"
        raise MediaError(f"{clip.name}: nothing to embed; this model reads {reads}, the clip has none of it")
    media = {k: v[None].to(model.device) for k, v in offered.items() if branch_of(k) not in off}
    ids = torch.tensor([processor.prefix_ids(clip, branches)], device=model.device)
    embedded, _ = model.embed(ids, media)
    places = processor.config.placeholder_token_ids
    tokens = {b: embedded[0, ids[0] == places[b]].float().cpu().numpy() for b in branches}
    return Embedding(clip.name, tokens, {b: rows.mean(axis=0) for b, rows in tokens.items()})
