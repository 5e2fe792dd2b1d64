"""``POST /v1/chat/completions`` and ``GET /v1/models``; a task identifier in the message selects the task."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from nanoemox.inference.batch import Plan, make_plan
from nanoemox.inference.decoding import MAX_NEW_TOKENS, GenerationOptions
from nanoemox.inference.options import AnswerOptions
from nanoemox.serving.errors import ApiError, error_body, json_response, to_api_error
from nanoemox.serving.media import ClipInput
from nanoemox.serving.parts import Message, RequestModel, clip_input_of
from nanoemox.serving.service import Service
from nanoemox.serving.work import Completion, CompletionWork, Draft
from nanoemox.tasks import TASKS
from nanoemox.tasks.erg import ERG
from nanoemox.tasks.mer import MER
from nanoemox.tasks.msa import MSA
from nanoemox.types import NanoEmoXError

routes = APIRouter()
_TAG = re.compile("|".join(re.escape(tag) for tag in sorted({t.identifier for t in TASKS.values()}, key=len)))
_DEFAULT_TASK = ERG.key
"""Task of a message without an identifier."""


class StreamOptions(RequestModel):
    """Options of a stream."""

    include_usage: bool = False


class ChatIn(RequestModel):
    """A chat completion request; ``task``, ``labels`` and ``think`` are extensions."""

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = None
    n: int | None = None
    logprobs: bool | None = None
    tools: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    task: str | None = None
    labels: list[str] | None = None
    think: bool = False


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """The task, candidates (None for the default ones) and transcript of a message."""

    task: str
    labels: tuple[str, ...] | None
    words: str | None


def read_task(words: str | None) -> TaskRequest:
    """Split a message at its task identifier.

    Text before the identifier is what the speaker says; text after it is the question, and a list after its last
    colon gives the candidates. ``[Recognition]`` means emotion, or sentiment if the question contains that word.
    """
    found = _TAG.search(words or "")
    if found is None:
        return TaskRequest(_DEFAULT_TASK, None, words)
    asked = (words or "")[found.end() :].strip()
    keys = [key for key, task in TASKS.items() if task.identifier == found.group()]
    task = keys[0] if len(keys) == 1 else MSA.key if "sentiment" in asked.lower() else MER.key
    listed = asked.rpartition(":")[2] if ":" in asked else ""
    labels = tuple(filter(None, (part.strip(" .;\n") for part in listed.split(","))))
    before = (words or "")[: found.start()].strip()
    return TaskRequest(task, labels if TASKS[task].closed and len(labels) > 1 else None, before or None)


@routes.head("/v1/models", include_in_schema=False)
@routes.get("/v1/models")
async def models(request: Request) -> Response:
    """List the models."""
    service: Service = request.app.state.service
    return json_response({"object": "list", "data": [_model(name) for name in service.names]})


@routes.get("/v1/models/{name}")
async def model(request: Request, name: str) -> Response:
    """Describe a model."""
    service: Service = request.app.state.service
    service.check_model(name)
    return json_response(_model(name))


@routes.post("/v1/chat/completions")
async def complete(request: Request, body: ChatIn) -> Response:
    """Answer one task, as a whole or as a stream."""
    service: Service = request.app.state.service
    service.check_model(body.model)
    _check_supported(body)
    source = clip_input_of(list(body.messages))
    asked = read_task(source.words)
    source.words = asked.words
    plan = _plan(body, asked)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": body.model}
    stops = tuple(filter(None, [body.stop] if isinstance(body.stop, str) else body.stop or ()))
    if body.stream:
        return await _stream(service, body, source, plan, stops, head)

    async def work() -> Completion:
        return await _write(service, plan, Draft(await service.clip(source), stops))

    written = await service.while_connected(request, work())
    message = {"role": "assistant", "content": written.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": written.reason, "logprobs": None}
    out = head | {"object": "chat.completion", "choices": [choice], "usage": _usage(written)}
    return json_response(out | _probabilities(written))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "nanoemox"}


def _check_supported(body: ChatIn) -> None:
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    wrong = {
        "n": body.n not in (None, 1),
        "logprobs": bool(body.logprobs),
        "tools": bool(body.tools),
        "response_format": (body.response_format or {"type": "text"}).get("type") != "text",
        "stop": len(stops) > 4 or any(len(s) > 200 for s in stops),
    }
    for param, is_wrong in wrong.items():
        if is_wrong:
            raise ApiError(
                400, f"{param}: not supported by this model: leave it out", param=param, code="unsupported_value"
            )


def _plan(body: ChatIn, asked: TaskRequest) -> Plan:
    limit = body.max_completion_tokens or body.max_tokens or 160
    generation = GenerationOptions(
        max_new_tokens=min(limit, MAX_NEW_TOKENS),
        temperature=body.temperature or 0.0,
        top_p=max(body.top_p or 1.0, 1e-6),
        seed=(body.seed or 0) % 2**63,
    )
    task = body.task or asked.task
    labels = body.labels or (asked.labels if task == asked.task else None)
    return make_plan((task,), labels, AnswerOptions(body.think, generation=generation))


async def _write(service: Service, plan: Plan, draft: Draft) -> Completion:
    """Write the text of one client; an error about its length names the field of a chat."""
    try:
        found: Completion = await service.batcher.run(CompletionWork(service.engine, plan), draft)
    except NanoEmoXError as error:
        raise NanoEmoXError(str(error).replace("max_new_tokens", "max_tokens")) from error
    return found


def _usage(written: Completion) -> dict[str, int]:
    prompt, completion = written.prompt_tokens, written.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _probabilities(written: Completion) -> dict[str, Any]:
    """Return the probabilities of a closed task, an extension of the response."""
    return {} if written.reading is None else {"nanoemox": written.reading.to_dict()}


# ---------------------------------------------------------------- streaming


async def _stream(
    service: Service, body: ChatIn, source: ClipInput, plan: Plan, stops: tuple[str, ...], head: dict[str, Any]
) -> Response:
    """Respond once the first piece is there, so that an error still gets its HTTP status."""
    writing = _CompletionStream(service, source, plan, stops)
    try:
        first = await writing.next()
    except BaseException:
        writing.stop()
        raise
    usage = body.stream_options is not None and body.stream_options.include_usage
    events = _events(writing, first, head | {"object": "chat.completion.chunk"}, usage)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


class _CompletionStream:
    """The text of one client while an asyncio task generates it."""

    def __init__(self, service: Service, source: ClipInput, plan: Plan, stops: tuple[str, ...]) -> None:
        self._service, self._plan = service, plan
        self._queue: asyncio.Queue[str | Completion | BaseException] = asyncio.Queue()
        self._draft: Draft | None = None
        self._task = asyncio.ensure_future(self._write(source, stops))

    async def next(self) -> str | Completion:
        """Return the next piece, at the end the whole completion."""
        found = await self._queue.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def stop(self) -> None:
        """Stop generating."""
        if self._draft is not None:
            self._draft.cancelled = True
        self._task.cancel()

    async def _write(self, source: ClipInput, stops: tuple[str, ...]) -> None:
        loop, put = asyncio.get_running_loop(), self._queue.put_nowait
        try:
            async with self._service.admitted():
                clip = await self._service.clip(source)
                self._draft = Draft(clip, stops, lambda piece: loop.call_soon_threadsafe(put, piece))
                put(await _write(self._service, self._plan, self._draft))
        except Exception as error:  # the reader raises it
            put(error)


async def _events(
    writing: _CompletionStream, first: str | Completion, head: dict[str, Any], usage: bool
) -> AsyncIterator[str]:
    def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return _event(head | {"choices": [choice]} | ({"usage": None} if usage else {}) | more)

    try:
        yield chunk({"role": "assistant", "content": ""})
        written = first
        while isinstance(written, str):
            yield chunk({"content": written})
            written = await writing.next()
        yield chunk({}, written.reason, **_probabilities(written))
        if usage:
            yield _event(head | {"choices": [], "usage": _usage(written)})
        yield "data: [DONE]\n\n"
    except Exception as error:  # the status is sent already: OpenAI clients read errors from the stream
        yield _event(error_body(to_api_error(error)))
    finally:
        writing.stop()


def _event(value: object) -> str:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n"
