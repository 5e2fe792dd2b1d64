"""The scene: frames, a frozen vision tower, frame positions and a Q-Former (paper, section 3.2).

Letters: ``B`` samples that have the branch, ``T`` frames, ``E`` taps, ``D`` width, ``P`` patches, ``S`` side of a
picture in pixels.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from nanoemox.model.adapters import TokenAdapter
from nanoemox.model.backbones import CLIP_VIT_L14
from nanoemox.model.branches.branch import Backbone, Branch, FrozenEncoder, Levels, spread, spread_index
from nanoemox.model.images import fit_square, normalise
from nanoemox.model.qformer import QFormerSection
from nanoemox.model.sections import as_config, require
from nanoemox.types import CheckpointError, Clip


class VisionBranchConfig(QFormerSection):
    """Scene branch: frozen vision tower, frame positions, Q-Former (paper, section 3.2).

    Attributes:
        encoder: Any vision transformer with ``hidden_states`` (CLIP, SigLIP, ...).
        last: Index of the hidden state that feeds the adapter (0 is the embedding output).
        taps: Hidden states that feed the fusion experts, one per expert.
        frame_tokens: ``cls`` one class token a frame; ``grid2``/``grid4`` the patch grid pooled to 2x2 / 4x4.
        fit: How a frame becomes a square: ``squash``, ``crop`` the centre, or ``pad``.
        image_mean, image_std: Statistics of RGB in 0..1 that the tower was trained with (default CLIP's).
        num_frames: T.
        frame_sampling: ``middle`` takes the frames at the middles of T equal spans of time; ``reference`` those at the
            left edges of T equal spans of frame numbers, so the end of the clip is not seen (Reference).
    """

    model_type = "nanoemox_vision"
    base_config_key = "vision"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012 (the library's own protocol)

    encoder: Any = None
    last: int = 23
    taps: list[int] | tuple[int, ...] = (12, 16, 22)
    frame_tokens: Literal["cls", "grid2", "grid4"] = "cls"
    fit: Literal["squash", "crop", "pad"] = "crop"
    image_mean: list[float] | tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    image_std: list[float] | tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    num_frames: int = 8
    frame_sampling: Literal["middle", "reference"] = "middle"

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the encoder's configuration."""
        self.encoder = as_config(self.encoder, CLIP_VIT_L14)
        self.taps, self.image_mean, self.image_std = list(self.taps), list(self.image_mean), list(self.image_std)
        super().__post_init__(**kwargs)
        depth = self.encoder.num_hidden_layers
        require(
            all(0 <= t <= depth for t in [self.last, *self.taps]),
            f"vision.last={self.last}, vision.taps={self.taps}: the encoder has hidden states 0..{depth}",
        )

    @property
    def tokens_per_frame(self) -> int:
        """Vectors that one frame contributes."""
        return {"cls": 1, "grid2": 4, "grid4": 16}[self.frame_tokens]

    @property
    def feature_size(self) -> int:
        """Width of one frame vector."""
        return int(self.encoder.hidden_size)


class VisionEncoder(FrozenEncoder):
    """Vision tower read at its class token (or pooled patches) after chosen blocks.

    The tower is built only as deep as the deepest state that is read, so nothing beyond it is loaded or run.
    """

    def __init__(self, config: VisionBranchConfig) -> None:
        super().__init__()
        self.last, self.taps = config.last, tuple(config.taps)
        self.grid = {"cls": 0, "grid2": 2, "grid4": 4}[config.frame_tokens]
        tower = copy.deepcopy(config.encoder)
        tower.num_hidden_layers = max(1, self.last, *self.taps)
        # Some towers report their last state after a final norm; the states of this one are raw.
        tower.tie_last_hidden_states = False
        self.encoder = AutoModel.from_config(tower)
        _check_inputs(self.encoder)
        # Register tokens stand between the class token and the patches.
        self.num_registers = int(getattr(tower, "num_register_tokens", 0))
        self.has_class_token = hasattr(self.encoder.get_input_embeddings(), "class_embedding") or any(
            name.endswith(("class_embedding", "cls_token")) for name, _ in self.encoder.named_parameters()
        )

    def forward(self, pixel_values: Float[Tensor, "B T 3 S S"]) -> Levels:
        """Encode frames; with a grid of g, T becomes T * g * g, frame-major."""
        batch = pixel_values.shape[0]
        wanted = sorted({self.last, *self.taps})
        states = self.encoder(pixel_values=pixel_values.flatten(0, 1), output_hidden_states=wanted).hidden_states
        pooled = {k: self._pool(states[k]).reshape(batch, -1, states[k].shape[-1]) for k in wanted}
        return Levels(pooled[self.last], torch.stack([pooled[k] for k in self.taps], dim=1))

    def _pool(self, state: Tensor) -> Tensor:
        """Reduce float[N, P (+ 1), D] to float[N, 1 or g * g, D]."""
        if not self.grid:
            return state[:, :1] if self.has_class_token else state.mean(dim=1, keepdim=True)
        patches = state[:, int(self.has_class_token) + self.num_registers :]
        side = round(patches.shape[1] ** 0.5)
        grid = patches.transpose(1, 2).unflatten(2, (side, side))
        return functional.adaptive_avg_pool2d(grid, self.grid).flatten(2).transpose(1, 2)


def _check_inputs(tower: nn.Module) -> None:
    """Refuse a tower whose forward needs more than pictures of one size."""
    given = inspect.signature(tower.forward).parameters.values()
    more = [p.name for p in given if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if more := [name for name in more if name != "pixel_values"]:
        raise CheckpointError(
            f"{type(tower).__name__} needs {', '.join(more)} beside pictures: use a tower of fixed resolution (for "
            "SigLIP2 those of model_type siglip_vision_model, not the ones for any aspect ratio)"
        )


class VisionBranch(Branch):
    """The scene."""

    name = "vision"
    section = VisionBranchConfig
    token_id = 151_665
    raw = "pixel_values"
    features = ("vision_last", "vision_levels")
    backbone = Backbone(
        "encoder.",
        dropped=(
            (r"(.*\.)?(text_.*|logit_(scale|bias)|visual_projection\..*)", "CLIP's text side, never loaded"),
            (r"(.*\.)?(post_layernorm|layernorm|head|pooler|classifier)\..*", "stands after the last block"),
        ),
    )
    cached_by = ("encoder", "last", "taps", "frame_tokens", "fit", "image_mean", "image_std", "num_frames")
    cached_by_later = {"frame_sampling": "middle"}  # noqa: RUF012 (a constant)

    def build_encoder(self, config: Any) -> VisionEncoder:
        """Build the vision tower."""
        return VisionEncoder(config.vision)

    def build_adapter(self, config: Any) -> TokenAdapter:
        """Build positions, Q-Former and projection."""
        return TokenAdapter(config.vision, config.text_config.hidden_size)

    def fit_backbone(
        self, section: Mapping[str, Any], encoder: PreTrainedConfig | None, folder: Path
    ) -> dict[str, Any]:
        """Add the statistics of RGB that the tower was trained with, where its folder has them.

        Raises:
            CheckpointError: ``preprocessor_config.json`` is not JSON.
        """
        file = folder / "preprocessor_config.json"
        try:
            fields = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        except ValueError as error:
            raise CheckpointError(f"{file}: not JSON: {error}") from error
        statistics = {n: list(fields[n]) for n in ("image_mean", "image_std") if n in fields}
        return super().fit_backbone(statistics | dict(section), encoder, folder)

    def prepare(self, clip: Clip, config: Any, extractor: Any) -> Tensor | None:
        """Return float32[T, 3, S, S]."""
        if clip.frames is None:
            return None
        section = config.vision
        square = fit_square(spread(clip.frames, section.num_frames), section.encoder.image_size, section.fit)
        return normalise(square, section.image_mean, section.image_std)

    def evidence(self, clip: Clip, config: Any, attention: npt.NDArray[np.float32] | None) -> dict[str, Any]:
        """Put times to the attention; the times are those of the frames that the processor took."""
        times = clip.frame_times_s
        if clip.frames is not None and times is not None:
            times = times[spread_index(len(clip.frames), config.vision.num_frames)]
        return {"frame_times_s": None if clip.frames is None else times, "frame_attention": attention}

    def numbers_per_clip(self, config: Any) -> int:
        """Count ``1 + E`` levels of each picture."""
        section = config.vision
        return int(section.num_frames * section.tokens_per_frame * (1 + len(section.taps)) * section.feature_size)


VISION = VisionBranch()
