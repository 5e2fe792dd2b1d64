"""Physiology: heart rate, skin conductance and EEG from a sensor recording of the clip. In no preset.

A clip is cut into windows, each of which becomes a vector of features (:mod:`nanoemox.media.biosignals`). The encoder
has no weights: it scales them by typical values of adults at rest and marks missing ones.
Letters: ``B`` samples with a recording, ``T`` windows, ``F`` features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nanoemox.media.biosignals import FEATURES, MARGIN_S, window_features
from nanoemox.media.recordings import SUFFIXES, read_recording
from nanoemox.model.adapters import VectorAdapter, VectorSection
from nanoemox.model.branches.branch import Branch, FrozenEncoder, check_finite
from nanoemox.model.sections import require
from nanoemox.types import Clip, MediaError, Signal

NAME: Final = "physiology"
NO_RECORDING: Final = "no body signals: there is no recording beside the clip (NAME.physio.edf or NAME.physio.csv)"
EMPTY: Final = "{}: holds no heart rate, skin conductance or EEG of this clip"
_TYPICAL: Final = ((72.0, 15.0), (40.0, 30.0), (5.0, 5.0), (0.1, 0.2), *([(0.5, 1.0)] * 5), (0.0, 0.5))
"""Centre and scale of each feature, in its unit."""
_FAR: Final = 8.0
"""Scaled features are clipped to this, to limit artefacts."""


class PhysiologyBranchConfig(VectorSection):
    """Section of the configuration.

    Attributes:
        num_windows: T windows spread evenly over the clip.
        window_s: Length of a window in seconds, at most the clip.
    """

    model_type = "nanoemox_physiology"
    base_config_key = NAME

    num_windows: int = 8
    window_s: float = 5.0
    projector_size: int = 256

    def __post_init__(self, **kwargs: Any) -> None:
        """Check the sizes."""
        super().__post_init__(**kwargs)
        require(
            0 < self.num_windows <= self.max_positions and self.window_s > 0,
            f"physiology.num_windows={self.num_windows}, physiology.window_s={self.window_s}: needs 1 to "
            f"max_positions={self.max_positions} windows of more than 0 s",
        )

    @property
    def feature_size(self) -> int:
        """Width of one window vector: each feature, and whether it was measured."""
        return 2 * len(FEATURES)


class PhysiologyEncoder(FrozenEncoder):
    """Scales features and marks those that are missing; it has no weights."""

    def forward(self, physiology_values: Float[Tensor, "B T F"]) -> Float[Tensor, "B T _W"]:
        """Turn features in their units, NaN where missing, into scaled ones and a mask of ones and zeros."""
        centre, scale = torch.tensor(_TYPICAL, device=physiology_values.device, dtype=torch.float32).unbind(-1)
        values = physiology_values.float()
        there = ~values.isnan()
        scaled = ((values - centre) / scale).clamp(-_FAR, _FAR)
        return torch.cat([torch.where(there, scaled, 0.0), there.float()], dim=-1)


class PhysiologyBranch(Branch):
    """The body."""

    name = NAME
    section = PhysiologyBranchConfig
    token_id = 1_000_000  # past every vocabulary, so no tokenizer needs it
    raw = "physiology_values"
    features = ("physiology_vectors",)
    cached_by = ("num_windows", "window_s")
    cached_as = f"{NAME} 2"  # the number changes with the features of a recording

    def build_encoder(self, config: Any) -> PhysiologyEncoder:
        """Build the scaling."""
        return PhysiologyEncoder()

    def build_adapter(self, config: Any) -> VectorAdapter:
        """Build queries, attention over time and MLP, as for a face."""
        return VectorAdapter(config.physiology, config.text_config.hidden_size)

    def encode(self, encoder: nn.Module, values: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        """Scale in float32: half precision resolves a heart rate to half a beat only."""
        return self.named(encoder(values))

    def sidecar(self, paths: Mapping[str, str], config: Any, root: Path) -> str | None:
        """Return ``NAME.physio.edf`` or ``NAME.physio.csv`` next to the media."""
        if "media" not in paths:
            return None
        beside = (Path(paths["media"]).with_suffix(f".physio{suffix}") for suffix in SUFFIXES)
        return next((str(file) for file in beside if (root / file).is_file()), None)

    def read(self, clip: Clip, config: Any, *, file: Path | None = None, start_s: float = 0.0, person: int = 0) -> Clip:
        """Add the features of the clip's windows as ``clip.signals["physiology"]``."""
        if file is None:
            said = (NO_RECORDING, EMPTY.format(""))
            quiet = NAME in clip.signals or any(warning.endswith(said) for warning in clip.warnings)
            return clip if quiet else replace(clip, warnings=(*clip.warnings, NO_RECORDING))
        try:
            signal = body_signal(file, clip.duration_s, config.physiology, start_s)
        except MediaError as error:
            raise MediaError(f"{clip.name}: {error}") from error
        if signal is None:
            return replace(clip, warnings=(*clip.warnings, EMPTY.format(file.name)))
        return replace(clip, signals={**clip.signals, NAME: signal})

    def prepare(self, clip: Clip, config: Any, extractor: Any) -> Tensor | None:
        """Return float32[T, F], NaN where a feature is missing.

        Raises:
            MediaError: Features given by hand are of another shape or infinite.
        """
        signal = clip.signals.get(NAME)
        if signal is None:
            return None
        wanted = (config.physiology.num_windows, len(FEATURES))
        if signal.values.shape != wanted:
            raise MediaError(
                f"{clip.name}: signals['{NAME}'] is float{list(signal.values.shape)}, this model reads "
                f"{list(wanted)}: windows, and {', '.join(FEATURES)}"
            )
        check_finite(np.nan_to_num(signal.values, nan=0.0, posinf=np.inf, neginf=-np.inf), clip, f"signals['{NAME}']")
        return torch.from_numpy(np.array(signal.values, np.float32))

    def numbers_per_clip(self, config: Any) -> int:
        """Count a scaled vector and its mask for each window."""
        return int(config.physiology.num_windows * config.physiology.feature_size)


def body_signal(file: Path, duration_s: float, section: PhysiologyBranchConfig, start_s: float = 0.0) -> Signal | None:
    """Read the features of a clip's windows from a recording.

    Args:
        file: The recording, on the same time axis as the clip's file.
        duration_s: Length of the clip in seconds; 0 for a still image: the whole recording is read.
        section: Number and length of the windows.
        start_s: Where the clip starts in its file, in seconds.

    Returns:
        float32[T, F] at the middles of the windows, in seconds from the start of the clip; None where nothing was
        measured in any window.

    Raises:
        MediaError: The recording cannot be read.
    """
    end_s = start_s + duration_s if duration_s else float("inf")
    channels = read_recording(file, max(0.0, start_s - MARGIN_S), end_s + MARGIN_S)
    if not channels:
        return None
    end_s = min(end_s, max(float(c.times_s[-1]) for c in channels))
    spans = window_spans(start_s, max(end_s, start_s), section.num_windows, section.window_s)
    values = window_features(channels, spans)
    return None if np.isnan(values).all() else Signal(spans.mean(axis=1) - start_s, values, FEATURES)


def window_spans(start_s: float, end_s: float, count: int, length_s: float) -> npt.NDArray[np.float64]:
    """Spread windows evenly from the start to the end of a span: float64[count, 2]; they may overlap."""
    length = min(length_s, end_s - start_s)
    starts = np.linspace(start_s, end_s - length, count)
    return np.stack([starts, starts + length], axis=1)


PHYSIOLOGY = PhysiologyBranch()
