"""Digests of the weights and of everything else in a model directory that answers depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import torch

from nanoemox.model.processing import NanoEmoXProcessor

_LENGTH: Final = 16
_ABOUT_FILES: Final = frozenset({"_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype"})
"""Keys of configurations about their origin; weights have their own type."""


def weights_digest(model: torch.nn.Module) -> str:
    """Return a SHA-256 of every parameter and buffer, whole: fine-tuning may change a few rows of one matrix."""
    digest = hashlib.sha256()
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        flat = weight.detach().cpu().contiguous().flatten()
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def component_digests(model: torch.nn.Module, processor: NanoEmoXProcessor) -> dict[str, str]:
    """Return a short digest of each part besides the weights that shapes an answer.

    Returns:
        ``configuration``, ``generation``, ``templates``, ``tokenizer`` and ``features``, 16 hexadecimal digits each.
    """
    tokenizer: Any = processor.tokenizer
    words = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else tokenizer.get_vocab()
    # Calls set these two and leave them set.
    words = {key: value for key, value in words.items() if key not in ("padding", "truncation")}
    parts = {
        "configuration": processor.config.to_dict(),
        "generation": generation.to_dict() if (generation := getattr(model, "generation_config", None)) else None,
        "templates": processor.templates.model_dump(mode="json"),
        "tokenizer": [words, {name: str(token) for name, token in tokenizer.special_tokens_map.items()}],
        "features": processor.feature_extractor.to_dict(),
    }
    return {name: _digest(_bare(part)) for name, part in parts.items()}


def _bare(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _bare(part) for key, part in value.items() if key not in _ABOUT_FILES}
    return [_bare(part) for part in value] if isinstance(value, list | tuple) else value


def _digest(value: Any) -> str:
    # Order counts: that of templates' media is the order in the prompt.
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:_LENGTH]
