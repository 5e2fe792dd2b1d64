"""The voice: windows of sound, a frozen speech encoder, window positions and a Q-Former (paper, section 3.2).

Letters: ``B`` samples that have the branch, ``W`` speech windows, ``E`` taps, ``D`` width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from nanoemox.media.windows import speech_window_starts
from nanoemox.model.adapters import TokenAdapter
from nanoemox.model.backbones import HUBERT_LARGE
from nanoemox.model.branches.branch import Backbone, Branch, FrozenEncoder, Levels, check_finite
from nanoemox.model.qformer import QFormerSection
from nanoemox.model.sections import as_config, require
from nanoemox.types import SAMPLE_RATE_HZ, CheckpointError, Clip

MEL_POSITIONS_PER_S = 50  # log-mel frames every 10 ms, halved by the encoder
VARIANCE_EPS = 1e-7  # Reference: the feature extractor's, added to the variance


class SpeechBranchConfig(QFormerSection):
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
    max_positions: int = 8

    def __post_init__(self, **kwargs: Any) -> None:
        """Resolve the encoder's configuration."""
        self.encoder = as_config(self.encoder, HUBERT_LARGE)
        self.taps = list(self.taps)
        super().__post_init__(**kwargs)
        depth = self.encoder.num_hidden_layers
        require(
            1 <= self.last_states <= depth and all(0 <= t <= depth for t in self.taps),
            f"speech.last_states={self.last_states}, speech.taps={self.taps}: the encoder has hidden states 0..{depth}",
        )
        require(
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


class SpeechEncoder(FrozenEncoder):
    """Speech encoder over windows; each hidden state is averaged over the time within its window."""

    def __init__(self, config: SpeechBranchConfig) -> None:
        super().__init__()
        self.last_states, self.taps = config.last_states, tuple(config.taps)
        self.normalise, self.remove_mean = config.normalise, config.remove_mean
        self.pooling = config.pooling
        self.takes_log_mel = config.takes_log_mel
        # AutoModel would build a Whisper decoder too, which nothing here reads.
        self.encoder = WhisperEncoder(config.encoder) if self.takes_log_mel else AutoModel.from_config(config.encoder)

    def forward(self, speech_values: Float[Tensor, "B W samples"] | Float[Tensor, "B W mels steps"]) -> Levels:
        """Encode waveform windows or log-mel windows; T of the result is W."""
        batch, windows = speech_values.shape[:2]
        values = speech_values if self.takes_log_mel else self._standardise(speech_values)
        # Rounded only now: an offset in the waveform would cost the precision of the signal on it.
        values = values.to(next(self.encoder.parameters()).dtype)
        # Reference: no attention mask, so padded silence is heard as silence.
        out = self.encoder(values.flatten(0, 1), output_hidden_states=True)
        # Reference: the last state is the one after the encoder's final norm; versions of the library disagree on
        # what ends their list.
        states = (*out.hidden_states[:-1], out.last_hidden_state)
        tail = torch.stack([self._pool(s) for s in states[-self.last_states :]]).mean(dim=0)
        taps = torch.stack([self._pool(states[k]) for k in self.taps], dim=1)  # B * W, E, D
        return Levels(tail.view(batch, windows, -1), taps.unflatten(0, (batch, windows)).transpose(1, 2))

    def _pool(self, state: Tensor) -> Tensor:
        """Reduce float[N, steps, width] to float[N, D] over the time of a window."""
        if self.pooling == "mean":
            return state.mean(dim=1)
        deviation, mean = torch.std_mean(state, dim=1, correction=0)
        return torch.cat([mean, deviation], dim=-1)

    def _standardise(self, windows: Tensor) -> Tensor:
        """Zero mean and unit variance over the scope that the configuration names: float[B, W, samples].

        The statistics are taken in float32 whatever the encoder computes in: 1e-7 is lost in half precision.
        """
        windows = windows.to(torch.promote_types(windows.dtype, torch.float32))
        if self.remove_mean:
            windows = windows - windows.mean(dim=-1, keepdim=True)
        scope = {"window": (2,), "clip": (1, 2), "batch": (0, 1, 2)}[self.normalise]
        variance, mean = torch.var_mean(windows, dim=scope, keepdim=True, correction=0)
        return (windows - mean) / torch.sqrt(variance + VARIANCE_EPS)


def window_starts(section: SpeechBranchConfig, num_samples: int) -> npt.NDArray[np.int64]:
    """First sample of each speech window, int64[W]."""
    return speech_window_starts(num_samples, section.num_windows, _window_samples(section), section.grid)


def _window_samples(section: SpeechBranchConfig) -> int:
    return round(section.window_s * SAMPLE_RATE_HZ)


class SpeechBranch(Branch):
    """The voice."""

    name = "speech"
    section = SpeechBranchConfig
    token_id = 151_666
    raw = "speech_values"
    features = ("speech_last", "speech_levels")
    file = "audio"
    backbone = Backbone(
        "encoder.",
        dropped=(
            (r"(.*\.)?decoder\..*|proj_out\..*", "the decoder, never run"),
            (
                r"(.*\.)?(lm_head|classifier|projector|final_proj|quantizer|project_q|project_hid)\..*"
                r"|(.*\.)?(layer_weights|label_embeddings_concat)",
                "a head of the encoder's own training",
            ),
        ),
        optional=((r".*\.masked_spec_embed", "only read while a speech encoder is trained"),),
        shortened="embed_positions.weight",  # Whisper's, a sinusoid
    )
    cached_by = (
        "encoder", "last_states", "taps", "grid", "normalise", "remove_mean", "pooling", "num_windows", "window_s",
    )  # fmt: skip

    def build_encoder(self, config: Any) -> SpeechEncoder:
        """Build the speech encoder."""
        return SpeechEncoder(config.speech)

    def build_adapter(self, config: Any) -> TokenAdapter:
        """Build positions, Q-Former and projection."""
        return TokenAdapter(config.speech, config.text_config.hidden_size)

    def encode(self, encoder: nn.Module, values: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        """Run the encoder, which rounds to its own precision only after it has normalised."""
        return self.named(encoder(values))

    def fit_backbone(
        self, section: Mapping[str, Any], encoder: PreTrainedConfig | None, folder: Path
    ) -> dict[str, Any]:
        """Shorten the positions of Whisper to a window.

        It was trained on half a minute: of a short window padded to that, the mean would be the mean of silence.
        """
        if encoder is not None and encoder.model_type == "whisper":
            seconds = math.ceil(section.get("window_s", SpeechBranchConfig.window_s))
            encoder.max_source_positions = min(encoder.max_source_positions, MEL_POSITIONS_PER_S * seconds)
        return super().fit_backbone(section, encoder, folder)

    def load_extractor(self, config: Any, folder: Path) -> Any:
        """Load what makes log-mel pictures of windows, for an encoder that reads them.

        Raises:
            CheckpointError: The folder has no configuration of it.
        """
        if not config.speech.takes_log_mel:
            return None
        try:
            own = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder}: a log-mel encoder needs its preprocessor_config.json: {error}") from error
        sizes = {n: getattr(own, n) for n in ("feature_size", "sampling_rate", "hop_length", "n_fft")}
        return WhisperFeatureExtractor(chunk_length=min(own.chunk_length, math.ceil(config.speech.window_s)), **sizes)

    def prepare(self, clip: Clip, config: Any, extractor: Any) -> Tensor | None:
        """Return float32[W, samples], or float32[W, mels, steps] where the encoder reads a log-mel picture."""
        check_finite(clip.waveform, clip, "waveform")
        if clip.waveform is None or not len(clip.waveform):
            return None
        size = _window_samples(config.speech)
        padded = np.pad(clip.waveform, (0, max(0, size - len(clip.waveform))))
        windows = np.stack([padded[s : s + size] for s in window_starts(config.speech, len(clip.waveform))])
        if not config.speech.takes_log_mel:
            return torch.from_numpy(windows)
        mel = extractor(list(windows), sampling_rate=SAMPLE_RATE_HZ, return_tensors="np")
        return torch.from_numpy(np.asarray(mel["input_features"], dtype=np.float32))

    def evidence(self, clip: Clip, config: Any, attention: npt.NDArray[np.float32] | None) -> dict[str, Any]:
        """Put the spans of the windows to the attention."""
        if attention is None or clip.waveform is None:
            return {}
        starts = window_starts(config.speech, len(clip.waveform)) / SAMPLE_RATE_HZ
        ends = np.minimum(starts + config.speech.window_s, clip.duration_s)
        return {"window_spans_s": np.stack([starts, ends], axis=1), "window_attention": attention}

    def numbers_per_clip(self, config: Any) -> int:
        """Count ``1 + E`` levels of each window."""
        section = config.speech
        return int(section.num_windows * (1 + len(section.taps)) * section.feature_size)

    def dependence(self, config: Any) -> str | None:
        """Statistics over the whole batch (Reference) make a voice depend on the others."""
        if config.speech.normalise != "batch":
            return None
        return "speech.normalise=batch makes features depend on neighbours: use clip or window"


SPEECH = SpeechBranch()
