"""Extract emotion words from running text with a language model.

A list of words is used as it is; only running text, on which rules are less accurate, goes to the model. A text whose
words could not be extracted is a failure, not an empty answer: it is counted, and the clip stays unanswered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from nanoemox.judging.endpoint import CallOptions, EndpointError
from nanoemox.judging.judge_prompts import UnreadableError, after_thought, load_words_prompt
from nanoemox.judging.language_models import MAX_TOKENS, THREADS, check_name, open_model
from nanoemox.scoring.corrected.extraction import extract_words, is_answer_list
from nanoemox.tasks import MAX_LABEL_WORDS

CACHE: Final = "extractor_cache"
MAX_WORDS: Final = 30
"""Longest list accepted as an answer; published ones have at most 20 words."""
_LISTS = re.compile(r"\[[^\[\]{}]*\]")
_MAX_LISTS: Final = 50

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Extraction:
    """Emotion words extracted from the answers of one file.

    Attributes:
        words: Clip -> emotion words; clips that failed are absent.
        num_lists: Answers that were lists already.
        num_not_in_form: Answers of the language model that were readable, but not in the form asked for.
        failures: Clip -> why there are no words.
    """

    words: Mapping[str, Words]
    num_lists: int
    num_not_in_form: int
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_read(self) -> int:
        """Answers that the language model read."""
        return len(self.words) - self.num_lists

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and the failures, to be stored with the scores."""
        return {
            "lists": self.num_lists,
            "read": self.num_read,
            "not_in_form": self.num_not_in_form,
            "failed": len(self.failures),
            "failures": dict(self.failures),
        }


class WordReader:
    """A language model that extracts emotion words from texts.

    Args:
        name: ``openai:http://host:port/v1#NAME`` or ``transformers:DIR_OR_ID``.
        cache: Folder of cached answers.
        options: Retry and timeout settings of a server.
    """

    def __init__(self, name: str, cache: Path, options: CallOptions | None = None) -> None:
        self.name = check_name(name)
        self.prompt = load_words_prompt()
        self._model = open_model(self.name, cache, options)

    def read(self, texts: Mapping[str, str]) -> Extraction:
        """Extract the words of every text.

        Raises:
            NanoEmoXError: Every call would fail, for example because of a wrong key.
        """
        lists = {name: extract_words(text) for name, text in texts.items() if is_answer_list(text)}
        rest = [name for name in texts if name not in lists]
        with ThreadPoolExecutor(THREADS) as pool:
            found = dict(zip(rest, pool.map(lambda name: self._read(texts[name]), rest), strict=True))
        read = {name: got for name, got in found.items() if not isinstance(got, str)}
        return Extraction(
            words=lists | {name: words for name, (words, _) in read.items()},
            num_lists=len(lists),
            num_not_in_form=sum(not strict for _, strict in read.values()),
            failures={name: got for name, got in found.items() if isinstance(got, str)},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return model, settings, prompt and cost, to be stored with the scores."""
        return {
            "model": self.name,
            "settings": dict(self._model.settings),
            "prompt": self.prompt.to_dict(),
            "cost": asdict(self._model.usage),
        }

    def close(self) -> None:
        """Release connections and memory."""
        self._model.close()

    def _read(self, text: str) -> tuple[Words, bool] | str:
        """Return the words and whether the format was strict, or the reason of a failure."""
        try:
            return parse_words(self._model.complete(self.prompt.messages({"TEXT": text}), MAX_TOKENS).text)
        except (EndpointError, UnreadableError) as error:
            return str(error)


def parse_words(text: str) -> tuple[Words, bool]:
    """Read a language model's list.

    Strict: the whole answer is one JSON list of short strings. Otherwise tolerant: text before ``</think>`` is ignored,
    and lists may be surrounded by prose or a code fence; several must agree. Nothing is guessed.

    Returns:
        Words in lower case without repeats, and whether the answer was strict.

    Raises:
        UnreadableError: There is no list, it holds something else, or several contradict each other.
    """
    whole = _load(text)
    if whole is not None:
        return whole, True
    spans = _LISTS.findall(after_thought(text))[:_MAX_LISTS]
    found = [words for span in spans if (words := _load(span)) is not None]
    if not found:
        raise UnreadableError(f"no list of words in the answer {text[:120]!r}")
    if any(words != found[0] for words in found):
        raise UnreadableError(f"several lists that contradict each other in the answer {text[:120]!r}")
    return found[0], False


def _load(text: str) -> Words | None:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list) or len(items) > MAX_WORDS or not all(isinstance(item, str) for item in items):
        return None
    words = dict.fromkeys(" ".join(item.split()).lower() for item in items)
    return tuple(words) if all(0 < len(word.split()) <= MAX_LABEL_WORDS for word in words) else None
