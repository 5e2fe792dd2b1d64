"""Configuration of the Nano-EmoX model: one section a branch, every choice a field.

Defaults are the preset ``nanoemox`` at full size (design, section 3). Where the paper and the authors' code
disagree, the choice is a named field here, so a preset is a file of values and never a fork of the code.
Letters: ``T`` frames, ``W`` speech windows, ``E`` experts (tap pairs), ``Q`` queries, ``H`` width of the
language model.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

from transformers import AutoConfig, PreTrainedConfig

from nanoemox.faces.vectors import width_of
from nanoemox.model.backbones import CLIP_VIT_L14, HUBERT_LARGE, QWEN25_15B, SWIN_B

IGNORE_INDEX = -100
"""Label of a token that is not learnt."""
EXPRESSION_SIZE = 256
"""Width of the expression net's vector."""
BRANCHES = ("vision", "speech", "face", "fusion")
"""Media branches; the words are always there."""


def _as_config(value: dict[str, Any] | PreTrainedConfig | None, default: dict[str, Any]) -> PreTrainedConfig:
    """Turn a plain mapping with a ``model_type`` into the configuration class of that type.

    The precision that a part was once saved in is forgotten: the part would be built in it whatever the whole model
    is loaded in, and no two parts would fit together.
    """
    if isinstance(value, PreTrainedConfig):
        config = copy.copy(value)
    else:
        fields = dict(default if value is None else value)
        model_type = fields.pop("model_type", default["model_type"])
        config = AutoConfig.for_model(model_type, **fields)
    config.dtype = None
    return config


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


class VisionBranchConfig(PreTrainedConfig):
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
        num_queries: Visual tokens (32; the paper also tries 64 and 128).
        hidden_size: Width of the Q-Former.
        max_positions: Rows of the frame-position table.
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
    num_queries: int = 32
    hidden_size: int = 768
    num_attention_heads: int = 12
    num_hidden_layers: int = 2
    intermediate_size: int = 3072
    dropout: float = 0.1
    max_positions: int = 32

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the encoder's configuration."""
        self.encoder = _as_config(self.encoder, CLIP_VIT_L14)
        self.taps, self.image_mean, self.image_std = list(self.taps), list(self.image_mean), list(self.image_std)
        super().__post_init__(**kwargs)
        depth = self.encoder.num_hidden_layers
        _require(
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


class SpeechBranchConfig(PreTrainedConfig):
    """Voice branch: frozen speech encoder over W windows, window positions, Q-Former (paper, section 3.2).

    Attributes:
        encoder: HuBERT-like (waveform in) or Whisper-like (log-mel in) configuration.
        last_states: How many final hidden states are averaged for the adapter.
        taps: Hidden states that feed the fusion experts, one per expert.
        grid: ``reference`` leaves the last eighth unheard as the authors do; ``cover`` reaches the clip's end.
        normalise: Waveform statistics over each ``window``, the whole ``clip``, or the whole ``batch``
            (Reference: jointly over the batch, so features depend on the neighbours).
        remove_mean: Subtract each window's mean first (Reference: a side effect of an unused filter bank).
        pooling: A state over the time of its window: its ``mean``, or ``mean_std``, its mean and deviation joined.
        num_windows: W.
        window_s: Length of a window in seconds.
        num_queries: Audio tokens.
        hidden_size: Width of the Q-Former.
        max_positions: Rows of the window-position table.
    """

    model_type = "nanoemox_speech"
    base_config_key = "speech"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012

    encoder: Any = None
    last_states: int = 4
    taps: list[int] | tuple[int, ...] = (16, 18, 22)
    grid: Literal["reference", "cover"] = "cover"
    normalise: Literal["window", "clip", "batch"] = "clip"
    remove_mean: bool = False
    pooling: Literal["mean", "mean_std"] = "mean"
    num_windows: int = 8
    window_s: float = 2.0
    num_queries: int = 32
    hidden_size: int = 768
    num_attention_heads: int = 12
    num_hidden_layers: int = 2
    intermediate_size: int = 3072
    dropout: float = 0.1
    max_positions: int = 8

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the encoder's configuration."""
        self.encoder = _as_config(self.encoder, HUBERT_LARGE)
        self.taps = list(self.taps)
        super().__post_init__(**kwargs)
        depth = self.encoder.num_hidden_layers
        _require(
            1 <= self.last_states <= depth and all(0 <= t <= depth for t in self.taps),
            f"speech.last_states={self.last_states}, speech.taps={self.taps}: the encoder has hidden states 0..{depth}",
        )
        _require(
            self.num_windows <= self.max_positions,
            f"speech.num_windows={self.num_windows} exceeds speech.max_positions={self.max_positions}",
        )

    @property
    def takes_log_mel(self) -> bool:
        """Whether the encoder reads a log-mel picture instead of the waveform."""
        return self.encoder.model_type == "whisper"

    @property
    def feature_size(self) -> int:
        """Width of one window vector."""
        return int(self.encoder.hidden_size) * (2 if self.pooling == "mean_std" else 1)


class FaceBranchConfig(PreTrainedConfig):
    """Face branch: frozen four-stage encoder pooled to one vector a frame, temporal attention, MLP.

    Attributes:
        kind: ``swin`` (FaceXFormer's Swin, raw stages), ``backbone`` (any four-stage ``AutoBackbone``),
            ``expression`` (the small network of ``model.expression``, 112 px) or ``precomputed`` (landmark,
            action-unit or OpenFace vectors from the manifest).
        encoder: Configuration of the backbone; unused for ``expression`` and ``precomputed``.
        fuse_size: Width to which each stage is projected, and of one frame vector.
        raw_stages: Read the stages as they are; False passes each through a layer norm first.
        vector_size: Width of the precomputed vectors.
        vector_columns: Columns that make a vector where it is read from a table of OpenFace: keys of
            :data:`nanoemox.faces.vectors.COLUMNS`. An array is taken whole.
        crop: ``detector`` crops the tracked face; ``whole_frame`` squashes the frame (Reference).
        normalise: ``imagenet`` statistics, ``colour`` takes off the mean colour that the expression net knows, or
            ``none`` for raw values 0..255 (Reference).
        time_position: Add a learned position to each frame vector (Reference: none, so order is invisible).
        image_size: Side of the square crop in pixels.
        num_queries: Face tokens.
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
    time_position: bool = True
    image_size: int = 224
    num_queries: int = 4
    num_attention_heads: int = 4
    projector_size: int = 768
    dropout: float = 0.1
    max_positions: int = 32

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the backbone's configuration."""
        if self.kind in ("swin", "backbone"):
            self.encoder = _as_config(self.encoder, SWIN_B)
        super().__post_init__(**kwargs)
        _require(
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


class FusionBranchConfig(PreTrainedConfig):
    """Fusion of the taps of voice and scene into one token (paper, section 3.3).

    Attributes:
        kind: ``experts`` (the paper's), ``attention`` (one attention pooling over both, as in AffectGPT), ``none``, or
            another key of :data:`nanoemox.model.fusion.FUSIONS`.
        gate: ``softmax`` learned weights over the experts, or their ``mean``.
        pairing: ``sequential`` pairs speech tap e with vision tap e; ``cross`` lets every speech tap attend to
            all vision taps joined over time. Paper: does not define the second.
        shared_projection: One projection for all experts (Reference) or one each (Paper: independent weights).
        time_position: Add learned positions to windows and frames (Reference: none).
        num_tokens: Tokens handed to the language model (Reference: repetitions of one vector).
    """

    model_type = "nanoemox_fusion"
    base_config_key = "fusion"

    kind: str = "experts"
    gate: Literal["softmax", "mean"] = "softmax"
    pairing: Literal["sequential", "cross"] = "sequential"
    shared_projection: bool = False
    time_position: bool = True
    hidden_size: int = 512
    num_attention_heads: int = 8
    dropout: float = 0.1
    num_tokens: int = 1
    max_positions: int = 512


class NanoEmoXConfig(PreTrainedConfig):
    """Configuration of :class:`~nanoemox.model.modeling.NanoEmoXForConditionalGeneration`.

    Attributes:
        vision, speech, face, fusion: One section a branch.
        text_config: Any causal language model.
        branches: Branches that exist in this model, a subset of ``BRANCHES``.
        trained_branches: Branches whose adapters were trained (default: all). The engine leaves the others out.
        placeholder: Why these weights are good for nothing but trying out; None in a real model. Training refuses it.
        vision_token_id, speech_token_id, face_token_id, fusion_token_id: Placeholder ids. They may lie past the
            vocabulary: the embedding is never read at a placeholder.
    """

    model_type = "nanoemox"
    sub_configs = {  # noqa: RUF012
        "vision": VisionBranchConfig,
        "speech": SpeechBranchConfig,
        "face": FaceBranchConfig,
        "fusion": FusionBranchConfig,
        "text_config": AutoConfig,
    }

    vision: Any = None
    speech: Any = None
    face: Any = None
    fusion: Any = None
    text_config: Any = None
    branches: list[str] | tuple[str, ...] = BRANCHES
    trained_branches: list[str] | tuple[str, ...] = BRANCHES
    placeholder: str | None = None
    vision_token_id: int = 151_665
    speech_token_id: int = 151_666
    face_token_id: int = 151_667
    fusion_token_id: int = 151_668
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the sections and check that they fit together."""
        self.vision = _section(self.vision, VisionBranchConfig)
        self.speech = _section(self.speech, SpeechBranchConfig)
        self.face = _section(self.face, FaceBranchConfig)
        self.fusion = _section(self.fusion, FusionBranchConfig)
        self.text_config = _as_config(self.text_config, QWEN25_15B)
        self.branches = [b for b in BRANCHES if b in self.branches]
        self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)
        super().__post_init__(**kwargs)
        if self.fusion.kind == "none":
            self.branches = [b for b in self.branches if b != "fusion"]
        self.trained_branches = [b for b in self.branches if b in self.trained_branches]
        if "fusion" in self.branches:
            _require(
                {"vision", "speech"} <= set(self.branches),
                f"branches={self.branches}: fusion needs vision and speech; set fusion.kind to none",
            )
            _require(
                len(self.vision.taps) == len(self.speech.taps) > 0,
                f"vision.taps={self.vision.taps} and speech.taps={self.speech.taps} must pair up one to one",
            )

    @property
    def reads_face_vectors(self) -> bool:
        """Whether the face branch takes vectors that another program computed, and not a picture."""
        return "face" in self.branches and self.face.kind == "precomputed"

    @property
    def num_experts(self) -> int:
        """E: pairs of taps, one expert each."""
        return len(self.vision.taps)

    @property
    def placeholder_token_ids(self) -> dict[str, int]:
        """Branch -> placeholder id."""
        return {b: int(getattr(self, f"{b}_token_id")) for b in BRANCHES}

    @property
    def tokens_per_branch(self) -> dict[str, int]:
        """Branch -> number of placeholder tokens in the prompt, for the branches that exist."""
        counts = {
            "vision": self.vision.num_queries,
            "speech": self.speech.num_queries,
            "face": self.face.num_queries,
            "fusion": self.fusion.num_tokens,
        }
        return {b: counts[b] for b in self.branches}


def _section(value: Any, kind: type[PreTrainedConfig]) -> Any:
    """Turn a mapping into its section; an unknown key is a user's mistake, so it raises."""
    if isinstance(value, kind):
        return value
    fields = dict(value or {})
    fields.pop("model_type", None)
    own = set(kind.__annotations__)
    library = set(PreTrainedConfig().to_dict()) | {"output_attentions", "attn_implementation"}
    unknown = sorted(k for k in set(fields) - own - library if not k.startswith("_"))
    _require(not unknown, f"{kind.base_config_key}: unknown field(s) {unknown}; known: {sorted(own)}")
    return kind(**fields)
