"""Face branch: a frozen four-stage encoder pooled to one vector a frame, then temporal attention.

Letters: ``B`` samples that have a face, ``T`` frames, ``C`` width of a frame vector, ``Q`` face tokens, ``H`` width
of the language model, ``h`` and ``w`` sides of a crop in pixels, ``F`` width of a precomputed vector,
``N`` pictures (B * T). A size after ``_`` is not checked: it differs from stage to stage.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoBackbone, SwinModel

from nanoemox.model.configuration import FaceBranchConfig
from nanoemox.model.encoders import FrozenEncoder
from nanoemox.model.expression import ExpressionNet

NUM_STAGES = 4


class FaceTokens(NamedTuple):
    """Tokens for the prompt.

    Attributes:
        tokens: What the prompt takes in.
        attention: Share of attention that each frame got; sums to 1.
    """

    tokens: Float[Tensor, "B Q H"]
    attention: Float[Tensor, "B T"]


class SwinStages(nn.Module):
    """The four raw stage outputs of a Swin transformer, as torchvision and the original compute them."""

    def __init__(self, config: FaceBranchConfig) -> None:
        super().__init__()
        self.model = SwinModel(config.encoder, add_pooling_layer=False)
        # The final norm is applied after the stages that are read; without it there is no dead parameter.
        self.model.layernorm = nn.Identity()
        self.channels = [config.encoder.embed_dim * 2**i for i in range(NUM_STAGES)]
        self.set_input_size(config.image_size, config.image_size)

    def forward(self, pixels: Float[Tensor, "N 3 h w"]) -> list[Float[Tensor, "N _c _h _w"]]:
        """Return the stages, of stage i float[N, c_i, h / (4 * 2^i), w / (4 * 2^i)].

        Raises:
            ValueError: The pictures are not of the size that the shifts were set for.
        """
        if pixels.shape[-2:] != self.input_size:
            raise ValueError(
                f"face pictures of {pixels.shape[-2]}x{pixels.shape[-1]}, expected {self.input_size[0]}x"
                f"{self.input_size[1]}: resize them, or call set_input_size first"
            )
        out = self.model(
            pixels,
            always_partition=True,
            output_hidden_states=True,
            output_hidden_states_before_downsampling=True,
        )
        return list(out.reshaped_hidden_states[1:])

    def set_input_size(self, height: int, width: int) -> None:
        """Turn the cyclic shift off in the stages that one window covers at this size in pixels.

        The library keeps it on there, which is not what the weights were trained with. It is set ahead of the
        forward pass, which several threads may run at once.
        """
        self.input_size = (height, width)
        patch, window = self.model.config.patch_size, self.model.config.window_size
        rows, columns = -(-height // patch), -(-width // patch)
        for stage in self.model.encoder.layers:
            covered = (rows <= window, columns <= window)
            if covered[0] != covered[1]:
                raise ValueError(
                    f"a face picture of {height}x{width} gives a map of {rows}x{columns}, of which one window of "
                    f"{window} covers one side only: use square crops"
                )
            for index, block in enumerate(stage.blocks):
                block.shift_size = 0 if all(covered) or index % 2 == 0 else window // 2
            rows, columns = (rows + 1) // 2, (columns + 1) // 2


class BackboneStages(nn.Module):
    """The four stages of any ``AutoBackbone``."""

    def __init__(self, config: FaceBranchConfig) -> None:
        super().__init__()
        names = [f"stage{i + 1}" for i in range(NUM_STAGES)]
        config.encoder.set_output_features_output_indices(out_features=names, out_indices=None)
        self.model = AutoBackbone.from_config(config.encoder)
        self.channels = list(self.model.channels)

    def forward(self, pixels: Float[Tensor, "N 3 h w"]) -> list[Float[Tensor, "N _c _h _w"]]:
        """Return the stages, each of its own width and size."""
        return list(self.model(pixels).feature_maps)


class FaceEncoder(FrozenEncoder):
    """Stages -> one width -> one size -> 1x1 convolution -> mean over the map: a vector a frame.

    Paper: a fine-grained map. Reference: pooled to one vector, so it is one here too.
    """

    def __init__(self, config: FaceBranchConfig) -> None:
        super().__init__()
        self.kind = config.kind
        if self.kind == "precomputed":
            return
        if self.kind == "expression":
            self.net = ExpressionNet()
            return
        self.backbone = SwinStages(config) if self.kind == "swin" else BackboneStages(config)
        width, channels = config.fuse_size, self.backbone.channels
        norms = [nn.Identity() if config.raw_stages else nn.LayerNorm(c) for c in channels]
        self.norms = nn.ModuleList(norms)
        self.projections = nn.ModuleList(nn.Linear(c, width) for c in channels)
        self.fuse = nn.Conv2d(NUM_STAGES * width, width, kernel_size=1, bias=False)

    def forward(self, face_values: Float[Tensor, "B T 3 h w"] | Float[Tensor, "B T F"]) -> Float[Tensor, "B T C"]:
        """Encode crops to a vector a frame; precomputed vectors pass through."""
        if self.kind == "precomputed":
            return face_values
        if self.kind == "expression":
            vectors: Tensor = self.net(face_values.flatten(0, 1)).unflatten(0, face_values.shape[:2])
            return vectors
        stages = self.backbone(face_values.flatten(0, 1))
        size = stages[0].shape[-2:]
        maps = []
        for stage, norm, projection in zip(stages, self.norms, self.projections, strict=True):
            level = projection(norm(stage.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
            maps.append(functional.interpolate(level, size, mode="bilinear", align_corners=False))
        fused = self.fuse(torch.cat(maps[::-1], dim=1))
        return fused.mean(dim=(2, 3)).unflatten(0, face_values.shape[:2])


class FaceAdapter(nn.Module):
    """Learned queries attend to the frame vectors; an MLP brings them to the language model's width."""

    def __init__(self, config: FaceBranchConfig, llm_size: int) -> None:
        super().__init__()
        size = config.feature_size
        # Reference: no position, so the order of the frames is invisible; the paper claims temporal relations.
        self.positions = nn.Embedding(config.max_positions, size) if config.time_position else None
        self.queries = nn.Parameter(torch.empty(config.num_queries, size))
        self.attention = nn.MultiheadAttention(size, config.num_attention_heads, batch_first=True)
        self.projector = nn.Sequential(
            nn.Linear(size, config.projector_size),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.projector_size, llm_size),
        )
        self.reset_own_parameters()

    def reset_own_parameters(self) -> None:
        """Draw the queries from N(0, 1), as the authors do."""
        nn.init.normal_(self.queries)

    def forward(self, vectors: Float[Tensor, "B T C"]) -> FaceTokens:
        """Turn frame vectors into tokens; no residual, no norm (Reference: one is created, unused)."""
        if self.positions is not None:
            vectors = vectors + self.positions(torch.arange(vectors.shape[1], device=vectors.device))
        queries = self.queries.expand(vectors.shape[0], -1, -1)
        attended, weights = self.attention(queries, vectors, vectors)
        return FaceTokens(self.projector(attended), weights.mean(dim=1))
