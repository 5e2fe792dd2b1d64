"""Nano-EmoX: frozen encoders, adapters and fusion in front of a causal language model (paper, section 3).

Letters: ``B`` batch, ``L`` tokens, ``T`` frames, ``W`` speech windows, ``E`` experts, ``Q`` tokens of a branch,
``D`` width of a feature, ``H`` width of the language model, ``V`` vocabulary. ``N`` is the number of samples of
the batch that have a branch: media are passed for those only, in the order of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, Cache, GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from nanoemox.model.branches import BRANCHES, media_keys, present
from nanoemox.model.cache import CACHE_NAME, cache_argument
from nanoemox.model.configuration import FUSED, FUSION, IGNORE_INDEX, NanoEmoXConfig
from nanoemox.model.fusion import build_fusion
from nanoemox.model.splice import holders, splice
from nanoemox.model.tensor_files import share_weights
from nanoemox.types import CheckpointError


@dataclass
class NanoEmoXOutput(ModelOutput):
    """Output of the model.

    Attributes:
        loss: float[], mean cross-entropy over the answer tokens.
        logits: float[B, L, V], or fewer positions with ``logits_to_keep``.
        cache: The language model's cache (``past_key_values`` before transformers 5.24).
        hidden_states: float[B, L, H] of each layer, if requested.
        features: Outputs of the frozen encoders: key of a feature -> float[N, ...].
        gate: float[N, E], fusion weights of the samples with both fused branches.
        attention: Branch -> float[N, T], shares of its adapter's attention over frames or windows.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    if CACHE_NAME == "cache":
        cache: Cache | None = None
    else:
        past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    features: dict[str, Tensor] | None = None
    gate: Tensor | None = None
    attention: dict[str, Tensor] | None = None


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
    """The whole model; every part is an attribute, and any subset of branches may exist."""

    def __init__(self, config: NanoEmoXConfig) -> None:
        super().__init__(config)
        built = present(config)
        for name in BRANCHES:
            setattr(self, f"{name}_encoder", built[name].build_encoder(config) if name in built else None)
        for name in BRANCHES:
            setattr(self, f"{name}_adapter", built[name].build_adapter(config) if name in built else None)
        self.fusion = build_fusion(config) if FUSION in config.branches else None
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Write the whole model; raises with LoRA attached, which would lose or rename weights."""
        if any(".lora_" in name for name, _ in self.named_parameters()):
            raise CheckpointError(
                "LoRA is attached: call nanoemox.model.lora.fold_lora(model) to save one whole model, "
                "or save_adapters(model, path) to save only what was trained"
            )
        super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            share_weights(Path(save_directory))

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

    def encoder_of(self, branch: str) -> nn.Module | None:
        """Return the frozen encoder of a branch; None without it, or if training has dropped it."""
        return getattr(self, f"{branch}_encoder", None)

    def adapter_of(self, branch: str) -> nn.Module | None:
        """Return the adapter of a branch; None without it."""
        return getattr(self, f"{branch}_adapter", None)

    def encode(self, media: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the frozen encoders on raw media; encoded ones are returned unchanged.

        Args:
            media: Media of the processor or the feature cache, stacked: key of a branch's raw values or of a
                feature -> float[N, ...].

        Returns:
            Key of a feature -> float[N, ...].
        """
        out: dict[str, Tensor] = {}
        for name, branch in BRANCHES.items():
            out |= {key: media[key] for key in branch.features if key in media}
            encoder = self.encoder_of(name)
            if branch.raw in media and encoder is not None:
                out |= branch.encode(encoder, media[branch.raw], self.dtype)
        return out

    def embed(self, input_ids: Tensor, media: Mapping[str, Tensor]) -> tuple[Tensor, NanoEmoXOutput]:
        """Embed a prompt: words looked up, media encoded, adapted, fused and spliced in.

        Args:
            input_ids: int64[B, L] with placeholders.
            media: Media of the samples that have them, as in :meth:`encode`.

        Returns:
            float[B, L, H], and an output with features, gate and attention filled in.
        """
        ids = self.config.placeholder_token_ids
        features = self.encode(media)
        tokens: dict[str, Tensor] = {}
        attention: dict[str, Tensor] = {}
        for name, branch in BRANCHES.items():
            adapter, encoded = self.adapter_of(name), features.get(branch.features[0])
            if adapter is not None and encoded is not None:
                tokens[name], attention[name] = adapter(encoded.to(self.dtype))
        seen = NanoEmoXOutput(features=features, attention=attention)
        joined = self._fusion_inputs(input_ids, features)
        if joined is not None and self.fusion is not None:
            tokens[FUSION], seen.gate = self.fusion(*joined)
        # A placeholder id may lie past the vocabulary, and its embedding is overwritten anyway.
        words = input_ids
        for placeholder in ids.values():
            words = words.masked_fill(words == placeholder, 0)
        return splice(self.get_input_embeddings()(words), input_ids, tokens, ids), seen

    def _fusion_inputs(self, input_ids: Tensor, features: Mapping[str, Tensor]) -> list[Tensor] | None:
        """Return the taps of the samples with a fusion placeholder: float[N, E, T, D] for each branch in ``FUSED``."""
        levels = [features.get(BRANCHES[b].features[1]) for b in FUSED]
        if any(of is None for of in levels):
            return None
        ids = self.config.placeholder_token_ids
        # Computed together: separate values would synchronise several times.
        fused, *held = torch.stack([holders(input_ids, ids[b]) for b in (FUSION, *FUSED)]).tolist()
        if any(of is None or sum(have) != len(of) for of, have in zip(levels, held, strict=True)):
            return None  # the splice reports which branch disagrees
        wanted = [[f for f, has in zip(fused, have, strict=True) if has] for have in held]
        picked = [_rows(of, rows).to(self.dtype) for of, rows in zip(levels, wanted, strict=True) if of is not None]
        return picked if len(picked[0]) else None

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
        # The library reads this signature to see whether embeddings can replace ids.
        given: dict[str, Any] = {"inputs_embeds": inputs_embeds, "is_first_iteration": is_first_iteration, **kwargs}
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, *args, **given)
        ids = inputs.get("input_ids")
        if ids is None or not _holds(inputs.get(CACHE_NAME)) or media_keys().isdisjoint(inputs):
            return inputs
        # A placeholder that the model itself generated is an ordinary token.
        if is_first_iteration:
            placeholders = torch.tensor(list(self.config.placeholder_token_ids.values()), device=ids.device)
            if torch.isin(ids, placeholders).any():
                return inputs
        return {k: v for k, v in inputs.items() if k not in media_keys()}

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        """Let ``generate`` accept media of any branch, also those that :meth:`forward` does not list."""
        super()._validate_model_kwargs({k: v for k, v in model_kwargs.items() if k not in media_keys()})

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
            cache: Keys and values of what came before ``input_ids``; media passed with it belong to ``input_ids``.
            inputs_embeds: float[B, L, H] in place of ``input_ids`` and media.
            labels: int64[B, L], -100 for tokens without loss.
            pixel_values: Frames float[N, T, 3, S, S] of the N samples that have them.
            speech_values: Audio float[N, W, samples], or float[N, W, mels, steps].
            face_values: Crops float[N, T, 3, S, S], or float[N, T, F] precomputed vectors.
            use_cache: Return the cache.
            logits_to_keep: 0 all positions, n the last n, or bool[B, L] exactly those positions (then logits are
                float[num_kept, V] and the loss reads the labels that follow them).
            num_items_in_batch: Answer tokens over the whole accumulation window: the loss is their sum over it.
            past_key_values: The name of ``cache`` before transformers 5.24.
            kwargs: Media of other branches and media that are encoded already, as in :meth:`encode`. The rest is passed
                to the language model, such as ``output_hidden_states``. ``return_dict`` is ignored: the
                output is always a :class:`NanoEmoXOutput`.

        Raises:
            ValueError: No ``input_ids`` nor ``inputs_embeds``, or media whose placeholders are not among ``input_ids``.
        """
        # These three are spelt out for the library, which reads the signature (Trainer drops other columns).
        named = {"pixel_values": pixel_values, "speech_values": speech_values, "face_values": face_values}
        given = named | {key: kwargs.pop(key) for key in media_keys() & kwargs.keys()}
        media = {key: values for key, values in given.items() if values is not None}
        out = NanoEmoXOutput()
        cache = past_key_values if cache is None else cache
        kwargs.pop("return_dict", None)
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give input_ids or inputs_embeds")
            if not media and _holds(cache):
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
    # The length of a static cache is on the device.
    return cache is not None and cache.is_initialized


def answer_loss(logits: Tensor, targets: Tensor, num_items: Tensor | int | None) -> Tensor:
    """Return the cross-entropy of logits float[N, V] and targets int64[N] in float32.

    It is the mean over the targets, or their sum over ``num_items``; targets of -100 do not count.
    """
    if num_items is None:
        return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORE_INDEX)
    total = functional.cross_entropy(logits.float(), targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / num_items
