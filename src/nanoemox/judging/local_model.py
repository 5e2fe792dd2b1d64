"""A causal language model of transformers in this process, for reproducible evaluations.

Greedy decoding, safetensors only, no remote code; every answer is cached on disk under the SHA-256 of weights and
prompt.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from nanoemox.inference.checkpoints import pick_device
from nanoemox.judging.endpoint import AnswerCache, Completion, EndpointError, Message, Usage
from nanoemox.model.device import place_on
from nanoemox.types import NanoEmoXError
from nanoemox.weights.digests import weights_digest


class LocalModel:
    """A model in this process; calls from several threads are serialised.

    Args:
        place: Folder of the model, or a hub id, which is downloaded if necessary.
        cache: Folder of cached answers.
        device: ``auto`` uses CUDA if available.

    Raises:
        NanoEmoXError: It cannot be loaded, or it is not a chat model.
    """

    def __init__(self, place: str, cache: Path, device: str = "auto") -> None:
        where = pick_device(device)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                place, dtype="auto", use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise NanoEmoXError(f"{place}: not a causal language model in safetensors that loads: {reason}") from error
        if not self._tokenizer.chat_template:
            raise NanoEmoXError(f"{place}: has no chat template; name a model that was trained for dialogue")
        digest = weights_digest(model)  # before they move to the device
        self._model = place_on(model, where).eval()
        self._ends = _end_tokens(model.generation_config.eos_token_id, self._tokenizer.eos_token_id)
        # The model's own defaults (sampling, penalties) would make answers differ.
        model.generation_config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            eos_token_id=self._ends or None,
            pad_token_id=self._tokenizer.pad_token_id or 0,
        )
        self._limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.place = place
        self.usage = Usage()
        self.settings: Mapping[str, Any] = {
            "weights": digest,
            "revision": getattr(model.config, "_commit_hash", None),
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": where.type,
            "decoding": "greedy",
        }
        self._cache = AnswerCache(cache)
        self._lock = threading.Lock()

    def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        """Return the answer to a conversation, from the cache if possible.

        Args:
            messages: Conversation in the format of the chat API.
            max_tokens: Limit of the answer; the model's context may be a lower one.

        Raises:
            EndpointError: This call failed permanently.
        """
        with self._lock:
            self.usage.calls += 1
            try:
                prompt = self.prompt_ids(messages)
                request = {**self.settings, "prompt": prompt, "max_tokens": max_tokens}
                kept = self._cache.read(request)
                if kept is not None:
                    self.usage.cached += 1
                    return kept
                found = self._write(prompt, max_tokens)
            except EndpointError:
                self.usage.failed += 1
                raise
            self.usage.prompt_tokens += found.prompt_tokens
            self.usage.completion_tokens += found.completion_tokens
            self._cache.write(request, found)
            return found

    def close(self) -> None:
        """Release the weights."""
        del self._model
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a conversation; without a system role its text joins the first user message."""
        dialogue = [dict(message) for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(dialogue, add_generation_prompt=True, tokenize=False)
        except TemplateError as error:
            if dialogue[0]["role"] != "system":
                raise EndpointError(f"{self.place}: its chat template refuses the dialogue: {error}") from error
            first = {**dialogue[1], "content": f"{dialogue[0]['content']}\n\n{dialogue[1]['content']}"}
            return self.prompt_ids([first, *dialogue[2:]])
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens

    def _write(self, prompt: list[int], max_tokens: int) -> Completion:
        room = max_tokens if self._limit is None else min(max_tokens, self._limit - len(prompt))
        if room < 1:
            raise EndpointError(f"{self.place}: a prompt of {len(prompt)} tokens; the model takes {self._limit}")
        ids = torch.tensor([prompt], device=self._model.device)
        try:
            with torch.inference_mode():
                out = self._model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=room)
        except torch.OutOfMemoryError as error:
            raise EndpointError(f"{self.place}: a prompt of {len(prompt)} tokens fills the memory") from error
        tokens = out[0, len(prompt) :].tolist()
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        if not text.strip():
            raise EndpointError(f"{self.place}: the answer holds no text")
        finish = "stop" if tokens[-1] in self._ends else "length"
        return Completion(text, finish, len(prompt), len(tokens), self.place)


def _end_tokens(*given: int | Sequence[int] | None) -> list[int]:
    """Return the end tokens of model and tokenizer without repeats."""
    lists = ([ends] if isinstance(ends, int) else ends or () for ends in given)
    return list(dict.fromkeys(end for ends in lists for end in ends))
