"""Language models that read answers, for judges and for the extraction of words: a server's, or one in this process."""

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
"""Limit of an answer: models that think first need room."""
THREADS: Final = 4
"""Calls at a time."""


class LanguageModel(Protocol):
    """Something that completes dialogues, each time alike; may be called from several threads."""

    @property
    def usage(self) -> Usage:
        """What it has cost so far."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its answers depend on, to be stored with them."""
        ...

    def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        """Return the answer to a dialogue, from the disk where it was asked before.

        Raises:
            EndpointError: This call failed for good.
            NanoEmoXError: Every call would fail.
        """
        ...

    def close(self) -> None:
        """Let go of connections and memory."""
        ...


def check_name(name: str) -> str:
    """Return the one spelling of a model's name, before anything is loaded or sent.

    Raises:
        NanoEmoXError: It names none.
    """
    if name.startswith(PREFIX):
        return str(parse_address(name))
    if name.startswith(LOCAL_PREFIX) and name != LOCAL_PREFIX:
        return name
    raise NanoEmoXError(
        f"{name!r} is no language model; write {PREFIX}http://host:port/v1#NAME or {LOCAL_PREFIX}DIR_OR_ID"
    )


def cost_line(name: str, cost: Mapping[str, int]) -> str:
    """Return what a model's use has cost (the fields of ``Usage``) as a line for people."""
    tokens = f"{cost['prompt_tokens']} + {cost['completion_tokens']} tokens"
    tries = f"{cost['retries']} retries, {cost['failed']} failed"
    return f"cost of {name}: {cost['calls']} calls, {cost['cached']} from the cache, {tries}, {tokens}"


def open_model(name: str, cache: Path, options: CallOptions | None = None) -> LanguageModel:
    """Open a model by its name; a local one is loaded now.

    Args:
        name: ``openai:http://host:port/v1#NAME`` or ``transformers:DIR_OR_ID``.
        cache: Folder of its answers.
        options: How a server is called.
    """
    name = check_name(name)
    if name.startswith(PREFIX):
        return Endpoint(parse_address(name), cache, options)
    from nanoemox.judging.local_model import LocalModel  # brings torch

    return LocalModel(name.removeprefix(LOCAL_PREFIX), cache)
