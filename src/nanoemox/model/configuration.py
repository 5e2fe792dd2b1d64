"""Configuration of the Nano-EmoX model: one section per branch, one field per choice.

Defaults are the preset ``nanoemox`` at full size (design, section 3). Where the paper and the authors' code
disagree, the choice is a field, so a preset is a file of values.
Letters: ``T`` frames, ``W`` speech windows, ``E`` experts (tap pairs), ``Q`` queries, ``H`` width of the
language model.
"""

from __future__ import annotations

from typing import Any, Literal

from transformers import AutoConfig, PreTrainedConfig

from nanoemox.model.auto_hook import MODEL_TYPE
from nanoemox.model.backbones import QWEN25_15B
from nanoemox.model.branches import BRANCHES, present
from nanoemox.model.sections import as_config, as_section, require

IGNORE_INDEX = -100
"""Label of a token without loss."""
FUSION = "fusion"
"""Name of the fusion of the branches in ``FUSED``; it has a section and a placeholder like a branch."""
FUSED = ("vision", "speech")
PAPER_BRANCHES = ("vision", "speech", "face", FUSION)
"""Branches of the paper's model besides the text; a configuration has all their sections, built or not."""


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
        vision, speech, face, fusion: One section per branch; another branch of
            :data:`nanoemox.model.branches.BRANCHES` has one under its name in the models that have it.
        text_config: Any causal language model.
        branches: Branches of this model, and ``fusion`` if it has it.
        trained_branches: Branches whose adapters were trained (default: all). The engine does not use the others.
        placeholder: Why these weights are only a placeholder; None for a real model. Training refuses it.
        vision_token_id, speech_token_id, face_token_id, fusion_token_id: Placeholder ids. They may lie past the
            vocabulary: the embedding is never read at a placeholder.
    """

    model_type = MODEL_TYPE
    sub_configs = {  # noqa: RUF012
        **{name: branch.section for name, branch in BRANCHES.items() if name in PAPER_BRANCHES},
        FUSION: FusionBranchConfig,
        "text_config": AutoConfig,
    }

    vision: Any = None
    speech: Any = None
    face: Any = None
    fusion: Any = None
    text_config: Any = None
    branches: list[str] | tuple[str, ...] = PAPER_BRANCHES
    trained_branches: list[str] | tuple[str, ...] = PAPER_BRANCHES
    placeholder: str | None = None
    vision_token_id: int = BRANCHES["vision"].token_id
    speech_token_id: int = BRANCHES["speech"].token_id
    face_token_id: int = BRANCHES["face"].token_id
    fusion_token_id: int = 151_668
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the sections and check that they fit together."""
        known = (*BRANCHES, FUSION)
        unknown = sorted(set(self.branches) - set(known))
        require(not unknown, f"branches: {', '.join(unknown)} is none of {', '.join(known)}: is its module imported?")
        self.branches = [b for b in known if b in self.branches]
        for name, branch in BRANCHES.items():
            if name in PAPER_BRANCHES or name in self.branches:
                given = kwargs.pop(name, None) if name not in PAPER_BRANCHES else getattr(self, name)
                setattr(self, name, as_section(given, branch.section))
                if name not in PAPER_BRANCHES:
                    setattr(self, f"{name}_token_id", kwargs.pop(f"{name}_token_id", branch.token_id))
        self.fusion = as_section(self.fusion, FusionBranchConfig)
        self.text_config = as_config(self.text_config, QWEN25_15B)
        self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)
        super().__post_init__(**kwargs)
        if self.fusion.kind == "none":
            self.branches = [b for b in self.branches if b != FUSION]
        self.trained_branches = [b for b in self.branches if b in self.trained_branches]
        if FUSION in self.branches:
            require(
                set(FUSED) <= set(self.branches),
                f"branches={self.branches}: fusion needs vision and speech; set fusion.kind to none",
            )
            require(
                len(self.vision.taps) == len(self.speech.taps) > 0,
                f"vision.taps={self.vision.taps} and speech.taps={self.speech.taps} must pair up one to one",
            )

    @property
    def reads_face_vectors(self) -> bool:
        """Whether the face branch reads vectors of another program instead of images."""
        return "face" in self.branches and self.face.kind == "precomputed"

    @property
    def looks_for_faces(self) -> bool:
        """Whether the face branch uses a face detector."""
        return "face" in self.branches and self.face.kind != "precomputed" and self.face.crop == "detector"

    @property
    def num_experts(self) -> int:
        """E: pairs of taps, one expert each."""
        return len(self.vision.taps)

    @property
    def placeholder_token_ids(self) -> dict[str, int]:
        """Branch -> placeholder id, including the paper's branches that this model lacks."""
        names = dict.fromkeys([*BRANCHES, *PAPER_BRANCHES])
        return {b: int(getattr(self, f"{b}_token_id")) for b in names if b in PAPER_BRANCHES or b in self.branches}

    @property
    def tokens_per_branch(self) -> dict[str, int]:
        """Branch -> number of placeholder tokens in the prompt, for the branches that exist."""
        counts = {name: branch.num_tokens(self) for name, branch in present(self).items()}
        return counts | ({FUSION: self.fusion.num_tokens} if FUSION in self.branches else {})
