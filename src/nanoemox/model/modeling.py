"""Nano-EmoX: frozen encoders, adapters and fusion in front of a causal language model (paper, section 3).

Letters: ``B`` batch, ``L`` tokens, ``T`` frames, ``W`` speech windows, ``E`` experts, ``Q`` tokens of a branch,
``D`` width of a feature, ``H`` width of the language model, ``V`` vocabulary. ``N`` is the number of samples of
the batch that have a branch: media are given for those alone, in the order of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, Cache, GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from nanoemox.model.adapters import TokenAdapter
from nanoemox.model.cache import CACHE_NAME, cache_argument
from nanoemox.model.configuration import IGNORE_INDEX, NanoEmoXConfig
from nanoemox.model.encoders import Levels, SpeechEncoder, VisionEncoder
from nanoemox.model.face import FaceAdapter, FaceEncoder
from nanoemox.model.fusion import build_fusion
from nanoemox.model.splice import holders, splice
from nanoemox.types import CheckpointError


@dataclass
class Media:
    """Media of a batch, raw or already encoded; a branch is given in one form or not at all.

    Attributes:
        pixel_values: float[N, T, 3, S, S].
        speech_values: float[N, W, samples] waveform windows, or float[N, W, mels, steps].
        face_values: float[N, T, 3, S, S] crops, or float[N, T, F] precomputed vectors.
        vision_last, vision_levels: float[N, T, D] and float[N, E, T, D], from the feature cache.
        speech_last, speech_levels: float[N, W, D] and float[N, E, W, D], from the feature cache.
        face_vectors: float[N, T, C], from the feature cache.
    """

    pixel_values: Tensor | None = None
    speech_values: Tensor | None = None
    face_values: Tensor | None = None
    vision_last: Tensor | None = None
    vision_levels: Tensor | None = None
    speech_last: Tensor | None = None
    speech_levels: Tensor | None = None
    face_vectors: Tensor | None = None

    def is_empty(self) -> bool:
        """Say whether no branch is given."""
        return all(v is None for v in vars(self).values())


_MEDIA = frozenset(f.name for f in fields(Media))


@dataclass
class BranchFeatures(ModelOutput):
    """What the frozen encoders saw.

    Attributes:
        vision_last: float[N, T, D].
        vision_levels: float[N, E, T, D].
        speech_last: float[N, W, D].
        speech_levels: float[N, E, W, D].
        face_vectors: float[N, T, C].
    """

    vision_last: Tensor | None = None
    vision_levels: Tensor | None = None
    speech_last: Tensor | None = None
    speech_levels: Tensor | None = None
    face_vectors: Tensor | None = None


@dataclass
class NanoEmoXOutput(ModelOutput):
    """Output of the model.

    Attributes:
        loss: float[], mean cross-entropy over the answer tokens.
        logits: float[B, L, V], or fewer positions with ``logits_to_keep``.
        cache: The language model's cache (``past_key_values`` before transformers 5.24).
        hidden_states: float[B, L, H] of each layer, on request.
        features: Features of the frozen encoders.
        gate: float[N, E], fusion weights of the samples that have picture and voice.
        frame_attention: float[N, T], how the vision adapter's attention is shared among frames.
        window_attention: float[N, W], the same for the speech windows.
        face_attention: float[N, T], the same for the faces.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    if CACHE_NAME == "cache":
        cache: Cache | None = None
    else:
        past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    features: BranchFeatures | None = None
    gate: Tensor | None = None
    frame_attention: Tensor | None = None
    window_attention: Tensor | None = None
    face_attention: Tensor | None = None


class NanoEmoXPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation."""

    config: NanoEmoXConfig
    config_class = NanoEmoXConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "audio", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = [CACHE_NAME]  # noqa: RUF012
    accepts_loss_kwargs = True  # the Trainer then hands over num_items_in_batch

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        reset = getattr(module, "reset_own_parameters", None)
        if reset is not None:
            reset()


class NanoEmoXForConditionalGeneration(NanoEmoXPreTrainedModel, GenerationMixin):
    """The whole model; every part is an attribute of its own and any subset of branches may exist."""

    def __init__(self, config: NanoEmoXConfig) -> None:
        super().__init__(config)
        width = config.text_config.hidden_size
        on = set(config.branches)
        self.vision_encoder = VisionEncoder(config.vision) if "vision" in on else None
        self.speech_encoder = SpeechEncoder(config.speech) if "speech" in on else None
        self.face_encoder = FaceEncoder(config.face) if "face" in on else None
        self.vision_adapter = TokenAdapter(config.vision, width) if "vision" in on else None
        self.speech_adapter = TokenAdapter(config.speech, width) if "speech" in on else None
        self.face_adapter = FaceAdapter(config.face, width) if "face" in on else None
        self.fusion = build_fusion(config) if "fusion" in on else None
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Write the whole model; with LoRA attached that would lose or rename weights, so it raises."""
        if any(".lora_" in name for name, _ in self.named_parameters()):
            raise CheckpointError(
                "LoRA is attached: call nanoemox.model.lora.fold_lora(model) to save one whole model, "
                "or save_adapters(model, path) to save only what was trained"
            )
        super().save_pretrained(save_directory, *args, **kwargs)

    # ---------------------------------------------------------------- the language model's handles

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the language model's head."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the language model's head."""
        self.language_model.set_output_embeddings(new_embeddings)

    def get_decoder(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Return the language model without its head."""
        return self.language_model.get_decoder(*args, **kwargs)

    # ---------------------------------------------------------------- media

    def encode(self, media: Media) -> BranchFeatures:
        """Run the frozen encoders on what is raw; what is already encoded passes through."""
        out = BranchFeatures(
            vision_last=media.vision_last,
            vision_levels=media.vision_levels,
            speech_last=media.speech_last,
            speech_levels=media.speech_levels,
            face_vectors=media.face_vectors,
        )
        if media.pixel_values is not None and self.vision_encoder is not None:
            seen: Levels = self.vision_encoder(media.pixel_values.to(self.dtype))
            out.vision_last, out.vision_levels = seen
        if media.speech_values is not None and self.speech_encoder is not None:
            heard: Levels = self.speech_encoder(media.speech_values)
            out.speech_last, out.speech_levels = heard
        if media.face_values is not None and self.face_encoder is not None:
            out.face_vectors = self.face_encoder(media.face_values.to(self.dtype))
        return out

    def embed(self, input_ids: Tensor, media: Media) -> tuple[Tensor, NanoEmoXOutput]:
        """Embed a prompt: words looked up, media encoded, adapted, fused and spliced in.

        Args:
            input_ids: int64[B, L] with placeholders.
            media: Media of the samples that have them.

        Returns:
            float[B, L, H], and an output with features, gate and attention filled in.
        """
        ids = self.config.placeholder_token_ids
        features = self.encode(media)
        seen = NanoEmoXOutput(features=features)
        tokens: dict[str, Tensor] = {}
        if features.vision_last is not None and self.vision_adapter is not None:
            tokens["vision"], seen.frame_attention = self.vision_adapter(features.vision_last.to(self.dtype))
        if features.speech_last is not None and self.speech_adapter is not None:
            tokens["speech"], seen.window_attention = self.speech_adapter(features.speech_last.to(self.dtype))
        if features.face_vectors is not None and self.face_adapter is not None:
            tokens["face"], seen.face_attention = self.face_adapter(features.face_vectors.to(self.dtype))
        both = self._fusion_inputs(input_ids, features)
        if both is not None and self.fusion is not None:
            tokens["fusion"], seen.gate = self.fusion(*both)
        # A placeholder id may lie past the vocabulary, and its embedding is overwritten anyway.
        words = input_ids
        for placeholder in ids.values():
            words = words.masked_fill(words == placeholder, 0)
        return splice(self.get_input_embeddings()(words), input_ids, tokens, ids), seen

    def _fusion_inputs(self, input_ids: Tensor, features: BranchFeatures) -> tuple[Tensor, Tensor] | None:
        """Pick the taps of the samples that hold a fusion placeholder: float[N, E, T, D], float[N, E, W, D]."""
        if features.vision_levels is None or features.speech_levels is None:
            return None
        ids = self.config.placeholder_token_ids
        # Asked for together: each answer on its own would wait for the device.
        marks = torch.stack([holders(input_ids, ids[b]) for b in ("fusion", "vision", "speech")])
        fused, seen, heard = marks.tolist()
        if sum(seen) != len(features.vision_levels) or sum(heard) != len(features.speech_levels):
            return None  # the splice tells the user which branch disagrees
        vision = _rows(features.vision_levels, [f for f, s in zip(fused, seen, strict=True) if s])
        speech = _rows(features.speech_levels, [f for f, h in zip(fused, heard, strict=True) if h])
        if not len(vision):
            return None
        return vision.to(self.dtype), speech.to(self.dtype)

    # ---------------------------------------------------------------- forward

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        *args: Any,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Prepare a step of ``generate``; media go to the first one, if it holds their placeholders."""
        # The library reads this signature to see whether embeddings may stand in for ids.
        given: dict[str, Any] = {"inputs_embeds": inputs_embeds, "is_first_iteration": is_first_iteration, **kwargs}
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, *args, **given)
        ids = inputs.get("input_ids")
        if ids is None or not _holds(inputs.get(CACHE_NAME)) or _MEDIA.isdisjoint(inputs):
            return inputs
        placeholders = torch.tensor(list(self.config.placeholder_token_ids.values()), device=ids.device)
        # A placeholder that the model itself has written later is a word like any other.
        if is_first_iteration and torch.isin(ids, placeholders).any():
            return inputs
        return {k: v for k, v in inputs.items() if k not in _MEDIA}

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        pixel_values: Tensor | None = None,
        speech_values: Tensor | None = None,
        face_values: Tensor | None = None,
        vision_last: Tensor | None = None,
        vision_levels: Tensor | None = None,
        speech_last: Tensor | None = None,
        speech_levels: Tensor | None = None,
        face_vectors: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> NanoEmoXOutput:
        """Run the model.

        Args:
            input_ids: int64[B, L].
            attention_mask: int64[B, L] (1 = real), or what the language model takes in four dimensions.
            position_ids: int64[B, L]; derived from the mask if absent.
            cache: Keys and values of what came before ``input_ids``; media given beside it belong to ``input_ids``.
            inputs_embeds: float[B, L, H] in place of ``input_ids`` and media.
            labels: int64[B, L], -100 where nothing is to be learnt.
            pixel_values: Raw media, as in :class:`Media`.
            speech_values: As there.
            face_values: As there.
            vision_last: Encoded media, as in :class:`Media`.
            vision_levels: As there.
            speech_last: As there.
            speech_levels: As there.
            face_vectors: As there.
            use_cache: Return the cache.
            logits_to_keep: 0 all positions, n the last n, or bool[B, L] exactly those positions (then logits are
                float[num_kept, V] and the loss reads the labels that follow them).
            num_items_in_batch: Answer tokens over the whole accumulation window: the loss is their sum over it.
            past_key_values: The name of ``cache`` before transformers 5.24.
            kwargs: Passed to the language model, such as ``output_hidden_states``. ``return_dict`` is ignored: the
                output is always a :class:`NanoEmoXOutput`.

        Raises:
            ValueError: No ``input_ids`` nor ``inputs_embeds``, or media whose placeholders are not among ``input_ids``.
        """
        media = Media(
            pixel_values, speech_values, face_values,
            vision_last, vision_levels, speech_last, speech_levels, face_vectors,
        )  # fmt: skip
        out = NanoEmoXOutput()
        cache = past_key_values if cache is None else cache
        kwargs.pop("return_dict", None)
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give input_ids or inputs_embeds")
            if media.is_empty() and _holds(cache):
                # Without new media there is nothing to look for: counting placeholders would stall every step.
                inputs_embeds = self.get_input_embeddings()(input_ids)
            else:
                inputs_embeds, out = self.embed(input_ids, media)
        decoded = self.get_decoder()(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=use_cache,
            **cache_argument(cache),
            **kwargs,
        )
        hidden = decoded.last_hidden_state
        by_mask = isinstance(logits_to_keep, Tensor) and logits_to_keep.dtype == torch.bool
        if by_mask:
            hidden = hidden[logits_to_keep]
        elif isinstance(logits_to_keep, Tensor):
            hidden = hidden[:, logits_to_keep]
        elif logits_to_keep:
            hidden = hidden[:, -logits_to_keep:]
        out.logits = self.get_output_embeddings()(hidden)
        setattr(out, CACHE_NAME, decoded.get(CACHE_NAME))
        out.hidden_states = decoded.hidden_states
        if labels is not None:
            following = functional.pad(labels, (0, 1), value=IGNORE_INDEX)[:, 1:]
            targets = following[logits_to_keep] if by_mask else following.reshape(-1)
            out.loss = answer_loss(out.logits.reshape(-1, out.logits.shape[-1]), targets, num_items_in_batch)
        return out


def _rows(levels: Tensor, wanted: list[bool]) -> Tensor:
    """Pick rows of float[N, ...]."""
    return levels if all(wanted) else levels[[i for i, want in enumerate(wanted) if want]]


def _holds(cache: Cache | None) -> bool:
    return cache is not None and cache.get_seq_length() > 0


def answer_loss(logits: Tensor, targets: Tensor, num_items: Tensor | int | None) -> Tensor:
    """Return the cross-entropy of logits float[N, V] and targets int64[N] in float32.

    It is the mean over the targets, or their sum over ``num_items``; targets of -100 do not count.
    """
    if num_items is None:
        return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORE_INDEX)
    total = functional.cross_entropy(logits.float(), targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / num_items
