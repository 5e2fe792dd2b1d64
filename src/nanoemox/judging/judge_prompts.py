"""Prompts of judges and word extractors, and parsing of a judge's answer.

The prompts are our own, one YAML file each next to this module. The material is sent as the strings of one JSON object,
so that a prompt injection in it stays inside its quotes and cannot add, close or replace a field.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final, TypeVar

import yaml
from pydantic import ValidationError

from nanoemox.recipes import Strict, describe
from nanoemox.tasks import ERG, ERI
from nanoemox.types import NanoEmoXError

JUDGE_TASKS: Final = (ERI.key, ERG.key)
MAX_TEXT_CHARS: Final = 20_000
"""Longest text that is shown to a judge; published explanations have some 2000 characters."""
THOUGHT_ENDS: Final = "</think>"
_MAX_OBJECTS: Final = 50


class UnreadableError(NanoEmoXError):
    """A language model's answer that does not contain what was requested."""


class Prompt(Strict):
    """One prompt.

    Attributes:
        version: Raised with every change.
        system: Instructions.
    """

    version: int
    system: str

    def messages(self, material: Mapping[str, str]) -> list[dict[str, str]]:
        """Return the conversation that presents the material, keyed by its names in the prompt."""
        cut = {name: text[:MAX_TEXT_CHARS] for name, text in material.items()}
        shown = json.dumps(cut, ensure_ascii=False, indent=1)
        return [{"role": "system", "content": self.system}, {"role": "user", "content": shown}]

    def to_dict(self) -> dict[str, Any]:
        """Return the whole prompt, to be stored with the scores."""
        fields = self.model_dump(mode="json")
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
        return {**fields, "sha256": digest}


class JudgePrompt(Prompt):
    """A prompt that asks for scores.

    Attributes:
        scale: Lowest and highest score; whole numbers.
        dimensions: Names of the scores.
    """

    scale: tuple[int, int]
    dimensions: tuple[str, ...]


_Kind = TypeVar("_Kind", bound=Prompt)


def load_prompt(task: str) -> JudgePrompt:
    """Read the package's prompt for the judges of ``eri`` or ``erg``."""
    return _load_prompt(task, JudgePrompt)


def load_words_prompt() -> Prompt:
    """Read the package's prompt that asks for the emotion words of a text."""
    return _load_prompt("words", Prompt)


def _load_prompt(name: str, kind: type[_Kind]) -> _Kind:
    text = (files("nanoemox") / "judging" / "prompts" / f"{name}.yaml").read_text("utf-8")
    try:
        return kind.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        raise NanoEmoXError(f"prompt {name}: {describe(error)}") from error


def after_thought(text: str) -> str:
    """Return the text after ``</think>``; the whole text if there is none."""
    return text.rpartition(THOUGHT_ENDS)[2]


def parse_scores(text: str, prompt: JudgePrompt) -> tuple[dict[str, int], bool]:
    """Read a judge's answer.

    Strict: the whole answer is one JSON object with exactly the scores, each an integer on the scale. Otherwise
    tolerant: text before ``</think>`` is ignored; objects may be surrounded by prose or a code fence, have further
    keys, and write a score as ``7.0`` or ``"7"``. Several objects must agree. Nothing is guessed or clipped.

    Returns:
        Dimension -> score, and whether the answer was strict.

    Raises:
        UnreadableError: Scores are missing, off the scale, or contradict each other.
    """
    whole = _load(text.strip())
    if isinstance(whole, dict) and whole.keys() == set(prompt.dimensions):
        exact = {name: value for name, value in whole.items() if type(value) is int}
        if len(exact) == len(whole):
            return _on_scale(exact, prompt, text), True
    found = [scores for item in _objects(after_thought(text)) if (scores := _lenient(item, prompt))]
    if not found:
        raise UnreadableError(f"no scores {', '.join(prompt.dimensions)} in the answer {text[:120]!r}")
    if any(scores != found[0] for scores in found):
        raise UnreadableError(f"several scores that contradict each other in the answer {text[:120]!r}")
    return _on_scale(found[0], prompt, text), False


def _on_scale(scores: dict[str, int], prompt: JudgePrompt, text: str) -> dict[str, int]:
    low, high = prompt.scale
    if not all(low <= score <= high for score in scores.values()):
        raise UnreadableError(f"scores off the scale {low} to {high} in the answer {text[:120]!r}")
    return {name: scores[name] for name in prompt.dimensions}


def _lenient(item: Mapping[str, Any], prompt: JudgePrompt) -> dict[str, int] | None:
    scores = {name: _whole(item.get(name)) for name in prompt.dimensions}
    sure = {name: score for name, score in scores.items() if score is not None}
    return sure if len(sure) == len(scores) else None


def _whole(value: object) -> int | None:
    """Return an integer, also from a float or a string; booleans are not numbers."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*[0-9]{1,3}\s*", value) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if type(value) is int else None


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the flat JSON objects in a text; scores are never nested."""
    spans = re.findall(r"\{[^{}]*\}", text)[:_MAX_OBJECTS]
    return [item for item in map(_load, spans) if isinstance(item, dict)]


def _load(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a duplicate key")
    return found
