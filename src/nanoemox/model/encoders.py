"""Frozen encoders of scene and voice, and the hidden states that are read from them (paper, section 3.2).

Letters: ``B`` samples that have the branch, ``T`` frames, ``W`` speech windows, ``E`` taps, ``D`` width,
``P`` patches, ``S`` side of a picture in pixels.
"""

from __future__ import annotations

import copy
import inspect
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from nanoemox.model.configuration import SpeechBranchConfig, VisionBranchConfig
from nanoemox.types import CheckpointError

VARIANCE_EPS = 1e-7  # Reference: the feature extractor's, added to the variance


class Levels(NamedTuple):
    """What is kept of an encoder.

    Attributes:
        last: Feeds the adapter.
        levels: The taps that feed the fusion experts.
    """

    last: Float[Tensor, "B T D"]
    levels: Float[Tensor, "B E T D"]


class FrozenEncoder(nn.Module):
    """An encoder that stays in eval mode: its features are constants of a clip, in training too."""

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stay in eval mode (Reference: the face backbone stays in *training* mode for ever, at random)."""
        return super().train(False)


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
