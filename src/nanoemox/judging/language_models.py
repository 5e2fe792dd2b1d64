"""Language models for judging and word extraction: behind a server, or in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from nanoemox.judging.endpoint import (
    PREFIX,
    CallOptions,
    Completion,
    Endpoint,
    Message,
    Usage,
    parse_address,
)
from nanoemox.types import NanoEmoXError

LOCAL_PREFIX: Final = "transformers:"
MAX_TOKENS: Final = 2048
"""Limit of an answer: reasoning models need room."""
THREADS: Final = 4
"""Concurrent calls."""


class LanguageModel(Protocol):
    """A deterministic, thread-safe chat model."""

    @property
    def usage(self) -> Usage:
        """Usage so far."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings that determine its answers, stored with them."""
        ...

    def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        """Return the answer to a conversation, from the cache if possible.

        Raises:
            EndpointError: This call failed permanently.
            NanoEmoXError: Every call would fail.
        """
        ...

    def close(self) -> None:
        """Release connections and memory."""
        ...


def check_name(name: str) -> str:
    """Return the canonical form of a model's name, before anything is loaded or sent.

    Raises:
        NanoEmoXError: It is not a valid name.
    """
    if name.startswith(PREFIX):
        return str(parse_address(name))
    if name.startswith(LOCAL_PREFIX) and name != LOCAL_PREFIX:
        return name
    raise NanoEmoXError(
        f"{name!r} is no language model; write {PREFIX}http://host:port/v1#NAME or {LOCAL_PREFIX}DIR_OR_ID"
    )


def cost_line(name: str, cost: Mapping[str, int]) -> str:
    """Format the usage of a model (the fields of ``Usage``) as one line."""
    tokens = f"{cost['prompt_tokens']} + {cost['completion_tokens']} tokens"
    tries = f"{cost['retries']} retries, {cost['failed']} failed"
    return f"cost of {name}: {cost['calls']} calls, {cost['cached']} from the cache, {tries}, {tokens}"


def open_model(name: str, cache: Path, options: CallOptions | None = None) -> LanguageModel:
    """Open a model by its name; a local one is loaded now.

    Args:
        name: ``openai:http://host:port/v1#NAME`` or ``transformers:DIR_OR_ID``.
        cache: Folder of cached answers.
        options: Retry and timeout settings of a server.
    """
    name = check_name(name)
    if name.startswith(PREFIX):
        return Endpoint(parse_address(name), cache, options)
    from nanoemox.judging.local_model import LocalModel  # brings torch

    return LocalModel(name.removeprefix(LOCAL_PREFIX), cache)
