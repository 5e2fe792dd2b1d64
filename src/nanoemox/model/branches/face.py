"""The face: a frozen four-stage encoder pooled to one vector a frame, then temporal attention.

Letters: ``B`` samples that have a face, ``T`` frames, ``C`` width of a frame vector, ``Q`` face tokens, ``H`` width
of the language model, ``h`` and ``w`` sides of a crop in pixels, ``F`` width of a precomputed vector,
``N`` pictures (B * T). A size after ``_`` is not checked: it differs from stage to stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, SwinModel

from nanoemox.faces.tracks import NO_FACE, crop_faces, with_face
from nanoemox.faces.vectors import check_rows, width_of, with_face_vectors
from nanoemox.model.adapters import VectorAdapter, VectorSection
from nanoemox.model.backbones import SWIN_B
from nanoemox.model.branches.branch import Backbone, Branch, FrozenEncoder, check_finite, spread, spread_index
from nanoemox.model.expression import COLOUR, EXPRESSION_SIZE, ExpressionNet
from nanoemox.model.images import fit_square, normalise
from nanoemox.model.sections import as_config, require
from nanoemox.types import Clip

NUM_STAGES = 4
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FaceBranchConfig(VectorSection):
    """Face branch: frozen four-stage encoder pooled to one vector a frame, temporal attention, MLP.

    Attributes:
        kind: ``swin`` (FaceXFormer's Swin, raw stages), ``backbone`` (any four-stage ``AutoBackbone``),
            ``expression`` (the small network of ``model.expression``, 112 px) or ``precomputed`` (landmark,
            action-unit or OpenFace vectors from the manifest).
        encoder: Configuration of the backbone; unused for ``expression`` and ``precomputed``.
        fuse_size: Width to which each stage is projected, and of one frame vector.
        raw_stages: Read the stages as they are; False passes each through a layer norm first.
        vector_size: Width of the precomputed vectors.
        vector_columns: Columns of a vector from an OpenFace table: keys of
            :data:`nanoemox.faces.vectors.COLUMNS`. An array is used whole.
        crop: ``detector`` crops the tracked face; ``whole_frame`` squashes the frame (Reference).
        normalise: ``imagenet`` statistics, ``colour`` subtracts the mean colour of the expression net, or
            ``none`` for raw values 0..255 (Reference).
        image_size: Side of the square crop in pixels.
    """

    model_type = "nanoemox_face"
    base_config_key = "face"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012

    kind: Literal["swin", "backbone", "expression", "precomputed"] = "swin"
    encoder: Any = None
    fuse_size: int = 256
    raw_stages: bool = True
    vector_size: int = 0
    vector_columns: list[str] | tuple[str, ...] = ("landmarks", "au_intensity", "au_presence")
    crop: Literal["detector", "whole_frame"] = "detector"
    normalise: Literal["imagenet", "colour", "none"] = "imagenet"
    image_size: int = 224

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the backbone's configuration."""
        if self.kind in ("swin", "backbone"):
            self.encoder = as_config(self.encoder, SWIN_B)
        super().__post_init__(**kwargs)
        require(
            self.kind != "precomputed" or self.vector_size > 0,
            "face.kind=precomputed needs face.vector_size, the width of the vectors in the manifest",
        )
        self.vector_columns = list(self.vector_columns)
        width_of(self.vector_columns)

    @property
    def feature_size(self) -> int:
        """Width of one frame vector."""
        if self.kind == "expression":
            return EXPRESSION_SIZE
        return self.vector_size if self.kind == "precomputed" else self.fuse_size


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
            ValueError: The images do not have the size that the shifts were set for.
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
            return self.net(face_values.flatten(0, 1)).unflatten(0, face_values.shape[:2])
        stages = self.backbone(face_values.flatten(0, 1))
        size = stages[0].shape[-2:]
        maps = []
        for stage, norm, projection in zip(stages, self.norms, self.projections, strict=True):
            level = projection(norm(stage.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
            maps.append(functional.interpolate(level, size, mode="bilinear", align_corners=False))
        fused = self.fuse(torch.cat(maps[::-1], dim=1))
        return fused.mean(dim=(2, 3)).unflatten(0, face_values.shape[:2])


class FaceBranch(Branch):
    """The face."""

    name = "face"
    section = FaceBranchConfig
    token_id = 151_667
    raw = "face_values"
    features = ("face_vectors",)
    backbone = Backbone(
        "backbone.model.",
        dropped=(
            (r"(.*\.)?(layernorm|norm)\.(weight|bias)", "norm after the last stage, which is read before it"),
            (r"(.*\.)?(classifier|head|pooler|fc)\..*", "classifier of the face backbone"),
            (r"(face_decoder|pe_layer)\..*", "FaceXFormer's decoder, never run"),
        ),
        optional=(
            (r".*\.hidden_states_norms\..*", "norm of a stage, in no public file: starts as the identity"),
            (r"(projections|fuse|norms)\..*", "fuses the stages, not in this file: drawn at random"),
        ),
        swin_file=True,
    )
    cached_by = ("kind", "encoder", "fuse_size", "raw_stages", "vector_size", "crop", "normalise", "image_size")
    cached_by_later = {"vector_columns": ["landmarks", "au_intensity", "au_presence"]}  # noqa: RUF012 (a constant)

    def build_encoder(self, config: Any) -> FaceEncoder:
        """Build the encoder of crops."""
        return FaceEncoder(config.face)

    def build_adapter(self, config: Any) -> VectorAdapter:
        """Build queries, attention over time and MLP."""
        return VectorAdapter(config.face, config.text_config.hidden_size)

    def needs_backbone(self, section: Mapping[str, Any]) -> bool:
        """Return False for a kind with its own weights, or without any."""
        return section.get("kind") not in ("precomputed", "expression")

    def fit_backbone(
        self, section: Mapping[str, Any], encoder: PreTrainedConfig | None, folder: Path
    ) -> dict[str, Any]:
        """Set the kind: ``swin`` for a Swin, else ``backbone``."""
        fields = super().fit_backbone(section, encoder, folder)
        if encoder is not None:
            swin = encoder.model_type == "swin" and section.get("kind", "swin") == "swin"
            fields["kind"] = "swin" if swin else "backbone"
        return fields

    def prepare(self, clip: Clip, config: Any, extractor: Any) -> Tensor | None:
        """Return float32[T, 3, S, S] or, precomputed, float32[T, F]."""
        face, frames = config.face, config.vision.num_frames
        check_finite(clip.face_vectors, clip, "face_vectors")
        if face.kind == "precomputed":
            if clip.face_vectors is None:
                return None
            check_rows(clip.face_vectors, f"{clip.name}: face_vectors", face.vector_size)
            return torch.from_numpy(spread(clip.face_vectors, frames))
        if clip.frames is None:
            return None
        if face.crop == "whole_frame":
            square = fit_square(spread(clip.frames, frames), face.image_size, "squash")
        elif clip.face is not None:
            crops = spread(crop_faces(clip.frames, clip.face, face.image_size), frames)
            square = torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2)))
        else:
            return None
        if face.normalise == "none":
            return square.float()
        if face.normalise == "colour":
            return normalise(square, COLOUR, (1.0, 1.0, 1.0))
        return normalise(square, IMAGENET_MEAN, IMAGENET_STD)

    def sidecar(self, paths: Mapping[str, str], config: Any, root: Path) -> str | None:
        """Return the file of precomputed vectors, for a model that reads them."""
        return paths.get("face_vectors") if config.face.kind == "precomputed" else None

    def read(self, clip: Clip, config: Any, *, file: Path | None = None, start_s: float = 0.0, person: int = 0) -> Clip:
        """Detect the face unless that was done, or read precomputed vectors."""
        face = config.face
        if face.kind != "precomputed":
            looked = clip.face is not None or NO_FACE in clip.warnings
            if face.crop != "detector" or looked:
                return clip
            return with_face(clip, person, everyone=person != 0)
        if file is None:
            return clip
        sizes = {"width": face.vector_size, "groups": face.vector_columns, "num_frames": config.vision.num_frames}
        return with_face_vectors(clip, file, **sizes, start_s=start_s, index=person)

    def evidence(self, clip: Clip, config: Any, attention: npt.NDArray[np.float32] | None) -> dict[str, Any]:
        """Return the boxes of the frames that the processor used."""
        if clip.frames is None or clip.face is None:
            return {}
        return {"face_boxes": clip.face.boxes[spread_index(len(clip.frames), config.vision.num_frames)]}

    @property
    def cached_as(self) -> str:
        """Name of the first sidecar files, so that existing caches stay valid."""
        return "face vectors"

    def numbers_per_clip(self, config: Any) -> int:
        """Count a vector a frame."""
        return int(config.vision.num_frames * config.face.feature_size)


FACE = FaceBranch()
