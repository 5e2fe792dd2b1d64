"""Client of a chat model behind any OpenAI-compatible server, for reproducible evaluations.

Temperature 0 and a fixed seed; every answer is cached on disk under the SHA-256 of its request, so that a second run
makes no calls; transient failures (429, 5xx, timeouts, truncated or garbled answers) are retried a bounded number of
times. The key is read from ``OPENAI_API_KEY`` only and never written.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from nanoemox.data.files import write_json
from nanoemox.judging.endpoint_limits import BodyError, client_of, retry_after_s
from nanoemox.types import NanoEmoXError, needs_extra

PREFIX: Final = "openai:"
KEY_VARIABLE: Final = "OPENAI_API_KEY"
_NO_KEY: Final = "no-key"
"""Sent to servers without authentication: the client library requires a key."""
_TRANSIENT: Final = frozenset({408, 409, 425, 429})
_PERMANENT: Final = frozenset({401, 403, 404})
"""Statuses that every further call would repeat: wrong key, address or model name."""

Message = Mapping[str, Any]


class EndpointError(NanoEmoXError):
    """One call that failed permanently; others may still succeed.

    Attributes:
        status: HTTP status; None if there was no response.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Address:
    """Address of a served model: ``openai:http://host:port/v1#NAME``.

    Attributes:
        base_url: Prefix of ``/chat/completions``.
        model: Name of the model on that server.
    """

    base_url: str
    model: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.base_url}#{self.model}"


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Retry and timeout settings.

    Attributes:
        seed: Sent with every request.
        attempts: Attempts per call, including the first.
        timeout_s: Longest silence of the server, and longest duration of a body once it has begun, in seconds.
        first_wait_s: Wait before the second attempt; it doubles each time, and up to half of it is jitter.
        longest_wait_s: Longest wait; if the server asks for a longer one, the call fails.
    """

    seed: int = 0
    attempts: int = 5
    timeout_s: float = 120.0
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer.

    Attributes:
        text: What the model wrote.
        finish: Finish reason: ``stop``, or ``length`` if the answer was truncated.
        prompt_tokens: Prompt tokens as reported by the server; 0 if it reports none.
        completion_tokens: Completion tokens, likewise.
        served_by: Model name in the response.
    """

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    served_by: str


@dataclass(slots=True)
class Usage:
    """Usage of an endpoint so far.

    Attributes:
        calls: Calls made.
        cached: Calls answered from the cache.
        failed: Calls that failed permanently.
        retries: Retries.
        prompt_tokens: Prompt tokens of answers that were not cached.
        completion_tokens: Completion tokens of answers that were not cached.
    """

    calls: int = 0
    cached: int = 0
    failed: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class AnswerCache:
    """Answers on disk, keyed by the SHA-256 of the request.

    Args:
        folder: Where they are stored; created with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, request: Mapping[str, Any]) -> Completion | None:
        """Return the cached answer to a request, or None."""
        return _read(self._file(request))

    def write(self, request: Mapping[str, Any], answer: Completion) -> None:
        """Store an answer."""
        try:
            write_json(self._file(request), asdict(answer))
        except OSError as error:
            raise NanoEmoXError(f"{self.folder}: {error.strerror or error}; answers are stored there") from error

    def _file(self, request: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.json"


class _TransientError(Exception):
    """A failure that may be transient."""

    def __init__(self, why: str, wait_s: float | None = None, status: int | None = None) -> None:
        super().__init__(why)
        self.wait_s, self.status = wait_s, status


def parse_address(text: str) -> Address:
    """Read ``openai:http://host:port/v1#NAME``.

    Raises:
        NanoEmoXError: It is not an address, or it contains a password.
    """
    url, _, model = text.removeprefix(PREFIX).partition("#")
    try:
        parts = urlsplit(url)
        fits = text.startswith(PREFIX) and parts.scheme in ("http", "https") and bool(parts.hostname) and bool(model)
    except ValueError:
        fits = False
    if not fits:
        raise NanoEmoXError(f"{text!r} is no endpoint; write {PREFIX}http://host:port/v1#NAME")
    if "@" in parts.netloc or parts.query:
        # The address is written into runs and caches.
        raise NanoEmoXError(f"an endpoint's address may hold no password and no query; put the key into {KEY_VARIABLE}")
    return Address(url.rstrip("/"), model)


class Endpoint:
    """A served model; thread-safe."""

    def __init__(
        self,
        address: Address,
        cache: Path,
        options: CallOptions | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create the client; nothing is sent yet.

        Args:
            address: Server and model.
            cache: Folder of the answers.
            options: Retry and timeout settings.
            sleep: Waits a number of seconds.

        Raises:
            NanoEmoXError: The library ``openai`` is missing.
        """
        with needs_extra("eval", "an endpoint"):
            import openai
        self.address = address
        self.usage = Usage()
        self._cache = AnswerCache(cache)
        self._options = options or CallOptions()
        self.settings: Mapping[str, Any] = {"temperature": 0, "seed": self._options.seed}
        self._sleep = sleep
        self._key = os.environ.get(KEY_VARIABLE) or _NO_KEY
        # The client's own retries count nothing and know no bound for Retry-After: ours replace them.
        self._client = openai.OpenAI(
            base_url=address.base_url,
            api_key=self._key,
            max_retries=0,
            timeout=self._options.timeout_s,
            http_client=client_of(self._options.timeout_s),
        )
        self._lock = threading.Lock()

    def complete(self, messages: Sequence[Message], max_tokens: int) -> Completion:
        """Return the answer to a conversation, from the cache if possible.

        Args:
            messages: Conversation in the format of the chat API.
            max_tokens: Limit of the answer.

        Raises:
            EndpointError: This call failed permanently.
            NanoEmoXError: Every call would fail: wrong key, address or model.
        """
        body = {
            "model": self.address.model,
            "messages": [dict(message) for message in messages],
            **self.settings,
            "max_tokens": max_tokens,
        }
        request = {"url": self.address.base_url, **body}
        self._count(calls=1)
        cached = self._cache.read(request)
        if cached is not None:
            self._count(cached=1)
            return cached
        try:
            found = self._retry(body)
        except NanoEmoXError:
            self._count(failed=1)
            raise
        self._count(prompt_tokens=found.prompt_tokens, completion_tokens=found.completion_tokens)
        self._cache.write(request, found)
        return found

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _retry(self, request: Mapping[str, Any]) -> Completion:
        """Call until it succeeds or may not be retried."""
        options = self._options
        for attempt in range(1, options.attempts + 1):
            try:
                return self._ask(request)
            except _TransientError as failure:
                if attempt == options.attempts:
                    message = f"{self.address}: {failure}; tried {attempt} times"
                    raise EndpointError(message, failure.status) from failure
                if failure.wait_s is not None and failure.wait_s > options.longest_wait_s:
                    wait = f"asks to wait {failure.wait_s:.0f} s, more than {options.longest_wait_s:.0f}"
                    raise EndpointError(f"{self.address}: {failure}; the server {wait}; try later") from failure
                own = min(options.longest_wait_s, options.first_wait_s * 2 ** (attempt - 1))
                jittered = own * random.uniform(0.5, 1)  # noqa: S311 - spreads clients, no secret
                self._count(retries=1)
                self._sleep(max(jittered, failure.wait_s or 0.0))
        raise EndpointError(f"{self.address}: {options.attempts} attempts; at least 1 is needed")

    def _ask(self, request: Mapping[str, Any]) -> Completion:
        import openai

        try:
            answer = self._client.chat.completions.with_raw_response.create(**request)
            return _read_completion(self._redact(answer.http_response.text))
        except BodyError as error:
            raise self._given_up(error) from None
        except openai.APIStatusError as error:
            raise self._explain(error.status_code, error.response.headers, str(error)) from None
        except openai.APITimeoutError:
            raise _TransientError(f"no answer within {self._options.timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, BodyError):
                raise self._given_up(error.__cause__) from None
            raise _TransientError(
                f"the connection failed or was cut ({type(error.__cause__ or error).__name__})"
            ) from None

    def _explain(self, status: int, headers: Mapping[str, str], message: str) -> Exception:
        # Some servers repeat the key in their error message.
        reason = f"status {status}: {self._redact(message)[:300]}"
        if status in _TRANSIENT or status >= 500:
            return _TransientError(reason, retry_after_s(headers.get("retry-after")), status)
        if status in _PERMANENT:
            return NanoEmoXError(f"{self.address}: {reason}; look at {KEY_VARIABLE}, the address and the model's name")
        return EndpointError(f"{self.address}: {reason}", status)

    def _given_up(self, error: BodyError) -> EndpointError:
        return EndpointError(f"{self.address}: {self._redact(str(error))}")

    def _redact(self, text: str) -> str:
        return text if self._key == _NO_KEY else text.replace(self._key, "***")

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                setattr(self.usage, name, getattr(self.usage, name) + number)


def cached_usage(cache: Path) -> dict[str, int]:
    """Return the number of cached answers and the tokens they cost, however often the run was interrupted."""
    kept = [answer for file in cache.glob("*/*.json") if (answer := _read(file)) is not None]
    return {
        "answers": len(kept),
        "prompt_tokens": sum(answer.prompt_tokens for answer in kept),
        "completion_tokens": sum(answer.completion_tokens for answer in kept),
    }


def _read_completion(body: str) -> Completion:
    """Parse a response; one that cannot be parsed may have been truncated."""
    try:
        data = json.loads(body)
        choice = data["choices"][0]
        text, finish = choice["message"]["content"], choice.get("finish_reason")
        usage = data.get("usage") or {}
        read, written = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise _TransientError(f"the answer is no chat completion: {body[:80]!r}") from None
    if not isinstance(text, str) or not text.strip():
        raise _TransientError("the answer holds no text")
    text = text.encode("utf-8", "replace").decode()  # lone surrogates cannot be encoded
    return Completion(text, str(finish or "unknown"), read, written, str(data.get("model") or ""))


def _read(file: Path) -> Completion | None:
    try:
        return Completion(**json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # absent or damaged: repeated and replaced
