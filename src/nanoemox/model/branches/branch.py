"""The interface of a branch: everything that the rest of the package needs to know about a modality.

A branch turns a clip into tokens of the prompt: ``prepare`` makes a tensor of a clip, a frozen encoder turns it into
features, which the cache keeps, and a trained adapter turns those into tokens at the branch's placeholders. A clip that
lacks the modality has no tensor of the branch, no features and no placeholders, and is answered from the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig

from nanoemox.types import Clip, MediaError


class Levels(NamedTuple):
    """Outputs of an encoder with taps for the fusion.

    Attributes:
        last: Feeds the adapter.
        levels: The taps that feed the fusion experts.
    """

    last: Float[Tensor, "B T D"]
    levels: Float[Tensor, "B E T D"]


class FrozenEncoder(nn.Module):
    """An encoder that stays in eval mode: its features of a clip are constant, also in training."""

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stay in eval mode (Reference: the face backbone stays in *training* mode, with stochastic depth)."""
        return super().train(False)


Rules = tuple[tuple[str, str], ...]
"""(regular expression, reason) of names of tensors; an expression must match the whole name."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """Public weights that an encoder is made from.

    Attributes:
        prefix: Where they lie in our encoder.
        dropped: Tensors of public files that the encoder does not read.
        optional: Tensors of our encoder that public files may lack.
        shortened: A table of fixed values, of which the encoder may have fewer rows than the file.
        swin_file: A single file, where a folder is usual, is a Swin of torchvision or FaceXFormer.
    """

    prefix: str
    dropped: Rules = ()
    optional: Rules = ()
    shortened: str | None = None
    swin_file: bool = False


class Branch(ABC):
    """One modality. ``config`` is the whole :class:`~nanoemox.model.configuration.NanoEmoXConfig` everywhere.

    In the model the parts are called ``{name}_encoder`` and ``{name}_adapter``, which is also the group that a phase
    trains; in the configuration the section is ``{name}`` and the placeholder ``{name}_token_id``.

    Attributes:
        name: Name in configuration, templates, recipes and answers.
        section: Class of its section.
        token_id: Default id of its placeholder, which may lie past the vocabulary.
        raw: Key of its tensor in the processor's batch.
        features: Keys of its encoder's outputs, in the cache and as inputs of the model: the first feeds the
            adapter, a second one the fusion.
        file: File of a sample that it reads; ``audio`` replaces the sound of ``media``.
        backbone: The public weights of its encoder, if there are any.
        cached_by: Fields of its section that its features depend on.
        cached_by_later: Later ones, with the defaults for which older caches stay valid.
    """

    name: ClassVar[str]
    section: ClassVar[type[PreTrainedConfig]]
    token_id: ClassVar[int]
    raw: ClassVar[str]
    features: ClassVar[tuple[str, ...]]
    file: ClassVar[Literal["media", "audio"]] = "media"
    backbone: ClassVar[Backbone | None] = None
    cached_by: ClassVar[tuple[str, ...]] = ()
    cached_by_later: ClassVar[Mapping[str, Any]] = {}

    # ---------------------------------------------------------------- modules

    @abstractmethod
    def build_encoder(self, config: Any) -> nn.Module:
        """Build the frozen encoder."""

    @abstractmethod
    def build_adapter(self, config: Any) -> nn.Module:
        """Build the adapter: features -> tokens float[N, Q, H] and shares of attention float[N, T]."""

    def encode(self, encoder: nn.Module, values: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        """Run the encoder on ``raw`` values of N samples: key of a feature -> float[N, ...]."""
        return self.named(encoder(values.to(dtype)))

    def named(self, encoded: Tensor | tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return the encoder's outputs by the keys of ``features``."""
        parts = (encoded,) if isinstance(encoded, Tensor) else encoded
        return dict(zip(self.features, parts, strict=True))

    # ---------------------------------------------------------------- public weights

    def needs_backbone(self, section: Mapping[str, Any]) -> bool:
        """Whether an encoder of these fields of the section is made from public weights."""
        return self.backbone is not None

    def fit_backbone(
        self, section: Mapping[str, Any], encoder: PreTrainedConfig | None, folder: Path
    ) -> dict[str, Any]:
        """Complete the fields of the section from the files of a backbone.

        Args:
            section: Fields of the section, which win.
            encoder: Configuration of the backbone; None where its files have none.
            folder: Its files.
        """
        return dict(section) if encoder is None else {**section, "encoder": encoder}

    def load_extractor(self, config: Any, folder: Path) -> Any:
        """Load the processor's feature extractor from the backbone's ``folder``, or return None."""
        return None

    # ---------------------------------------------------------------- prompt

    def num_tokens(self, config: Any) -> int:
        """Count its placeholders in a prompt."""
        return int(getattr(config, self.name).num_queries)

    @property
    def sentence(self) -> str:
        """The sentence around its tokens if a model's templates have none."""
        return f"{self.name.capitalize()}: {{tokens}}\n"

    # ---------------------------------------------------------------- clips

    @abstractmethod
    def prepare(self, clip: Clip, config: Any, extractor: Any) -> Tensor | None:
        """Return the encoder's input for one clip, or None if the clip lacks the modality.

        Args:
            clip: The clip.
            config: The configuration.
            extractor: The processor's audio feature extractor.

        Raises:
            MediaError: The clip's data cannot be used.
        """

    def sidecar(self, paths: Mapping[str, str], config: Any, root: Path) -> str | None:
        """Return its sidecar file, if there is one; the features then depend on both files.

        Args:
            paths: Field of a sample (``media``, ``audio``, ``face_vectors``) -> path.
            config: The configuration.
            root: What the paths are relative to.
        """
        return None

    def read(self, clip: Clip, config: Any, *, file: Path | None = None, start_s: float = 0.0, person: int = 0) -> Clip:
        """Add the other inputs of this branch to a clip.

        Args:
            clip: The clip as it was loaded.
            config: The configuration.
            file: The file from :meth:`sidecar`.
            start_s: Where the clip starts in its recording, in seconds.
            person: Index of the person, if there are several; 0 is the largest.
        """
        return clip

    def evidence(self, clip: Clip, config: Any, attention: npt.NDArray[np.float32] | None) -> dict[str, Any]:
        """Return fields of :class:`~nanoemox.types.Evidence`; ``attention`` is None if the branch was not used."""
        return {}

    # ---------------------------------------------------------------- feature cache

    @property
    def cached_as(self) -> str:
        """Name of its sidecar file in keys of the cache."""
        return self.name

    @abstractmethod
    def numbers_per_clip(self, config: Any) -> int:
        """Return the number of values in the cache per clip."""

    def dependence(self, config: Any) -> str | None:
        """Return why features of a clip depend on the rest of its batch, or None if they can be cached."""
        return None


def spread(array: np.ndarray, count: int) -> np.ndarray:
    """Repeat or drop frames to get exactly ``count``, keeping their order."""
    return array[spread_index(len(array), count)]


def spread_index(length: int, count: int) -> npt.NDArray[np.int64]:
    """Return the indices of :func:`spread` for ``length`` frames: int64[count]."""
    return np.linspace(0, length - 1, count).round().astype(np.int64)


def check_finite(values: npt.NDArray[Any] | None, clip: Clip, field: str) -> None:
    """Raise on NaN or infinity, which would spread over the batch.

    Raises:
        MediaError: There are some; the message names clip and field.
    """
    if values is not None and not np.isfinite(values).all():
        raise MediaError(f"{clip.name}: {field} holds NaN or infinity: put numbers in their place")
