"""``POST /v1/affect``: answers to the six tasks about a clip; ``/v1/files``: uploads used by later requests."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response, StreamingResponse

from nanoemox.inference.batch import make_plan
from nanoemox.inference.decoding import MAX_NEW_TOKENS, GenerationOptions
from nanoemox.inference.options import AnswerOptions
from nanoemox.serving.errors import ApiError, error_body, invalid_field, json_response, to_api_error
from nanoemox.serving.media import ClipInput, Kind, Medium, medium_from_base64, medium_from_url
from nanoemox.serving.parts import RequestModel, StrictModel, clean
from nanoemox.serving.service import Service
from nanoemox.serving.work import AnswerWork
from nanoemox.tasks import ALL_TASKS, TASKS
from nanoemox.types import Answer, NanoEmoXError, Turn, answer_schema

routes = APIRouter()
MAX_FIELDS = 20
# The form parser logs each byte that it cannot parse: no client may fill the log, and the response says it already.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


class TurnIn(RequestModel):
    """An earlier turn."""

    role: str = Field(max_length=100)
    text: str


class Timeline(RequestModel):
    """Answer along the clip."""

    every_s: float = Field(3.0, gt=0, le=3600)
    window_s: float = Field(10.0, gt=0, le=3600)


class AffectRequest(StrictModel):
    """A clip and the tasks to answer; media are data URIs, base64 or the ``file_id`` of an upload."""

    video: str | None = None
    audio: str | None = None
    image: str | None = None
    file_id: str | None = None
    text: str | None = None
    history: list[TurnIn] = Field(default_factory=list, max_length=200)
    tasks: list[str] = Field(default_factory=lambda: list(ALL_TASKS), min_length=1, max_length=len(ALL_TASKS))
    labels: dict[str, list[str]] = Field(default_factory=dict)
    think: bool = True
    explain: bool = False
    max_new_tokens: int = Field(160, ge=1, le=MAX_NEW_TOKENS)
    timeline: Timeline | None = None


_USAGE = "send JSON with text, video, audio, image or file_id, or a form with a file (curl -F file=@talk.mp4)"
_FORMS = {
    "tasks": '["mer", "erg"]',
    "labels": '{"mer": ["happy", "sad"]}',
    "history": '[{"role": "friend", "text": "Well?"}]',
    "timeline": '{"every_s": 3, "window_s": 10}',
}
"""An example of each field that is a list or an object; a form holds it as JSON."""
_FILE = {"type": "string", "format": "binary"}
_FILE_FORM = {
    "type": "object",
    "properties": {"file": _FILE, "purpose": {"type": "string"}},
    "required": ["file"],
}
_CLIP_FORM = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in AffectRequest.model_fields} | {"file": _FILE},
}
"""The fields of the JSON object, as text, and a file."""


@routes.post(
    "/v1/affect",
    openapi_extra={
        "requestBody": {
            "content": {
                "application/json": {"schema": AffectRequest.model_json_schema()},
                "multipart/form-data": {"schema": _CLIP_FORM},
            },
            "required": True,
        }
    },
    responses={
        200: {
            "description": "The answer; with `timeline` one a line (application/x-ndjson).",
            "content": {"application/json": {"schema": answer_schema()}},
        }
    },
)
async def affect(request: Request) -> Response:
    """Answer some or all of the six tasks about one clip."""
    service: Service = request.app.state.service
    body, medium = await _read(request)
    source = ClipInput(None if body.text is None else clean(body.text), [Turn(t.role, t.text) for t in body.history])
    source.media = [*medium, *_media(body)]
    if not source.media and not (body.text or "").strip():
        raise ApiError(400, f"nothing to answer about: {_USAGE}", code="invalid_value")
    work = _work(service, body)
    if body.timeline is not None:
        windows = _Windows(service, source, work, body.timeline)
        return await windows.response()

    async def answer() -> Answer:
        clip = await service.clip(source)
        found: Answer = await service.batcher.run(work, clip)
        return found

    return json_response((await service.while_connected(request, answer())).to_dict())


@routes.post(
    "/v1/files",
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": _FILE_FORM}}, "required": True}},
)
async def upload(request: Request) -> Response:
    """Upload a file, which is kept in memory for a limited time."""
    service: Service = request.app.state.service
    if not _is_form(request):
        raise ApiError(415, "send multipart/form-data with a field file")
    async with _form(request) as form:
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, UploadFile):
            raise ApiError(400, "the form has no field file with a file", param="file")
        stored = service.files.add(
            await file.read(), clean(file.filename or "file"), clean(str(purpose or "user_data"))
        )
    return json_response(stored.to_dict(service.limits.file_s))


@routes.get("/v1/files")
async def files(request: Request) -> Response:
    """List the uploaded files."""
    service: Service = request.app.state.service
    rows = [file.to_dict(service.limits.file_s) for file in service.files.all()]
    return json_response({"object": "list", "data": rows, "has_more": False})


@routes.get("/v1/files/{key}")
async def file(request: Request, key: str) -> Response:
    """Describe an uploaded file, without its content."""
    service: Service = request.app.state.service
    return json_response(service.files.get(key).to_dict(service.limits.file_s))


@routes.delete("/v1/files/{key}")
async def forget(request: Request, key: str) -> Response:
    """Delete an uploaded file."""
    service: Service = request.app.state.service
    service.files.delete(key)
    return json_response({"id": key, "object": "file", "deleted": True})


# ---------------------------------------------------------------- reading a request


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """Read a form with at most one file, in memory: by default the library writes large files to disk."""
    size = 1_000_000
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=MAX_FIELDS, max_part_size=size)
    parser.spool_max_size = request.app.state.service.limits.body_bytes + 1
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = error.message if isinstance(error, MultiPartException) else "it cannot be parsed"
        raise ApiError(400, f"the form is not valid: {reason}", code="invalid_value") from None
    try:
        yield form
    finally:
        await form.close()


async def _read(request: Request) -> tuple[AffectRequest, list[Medium]]:
    """Read the request from JSON or from a form."""
    try:
        if not _is_form(request):
            return AffectRequest.model_validate_json(await request.body()), []
        async with _form(request) as form:
            return AffectRequest.model_validate(_fields(form)), await _files(form)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            raise ApiError(400, f"body: not valid JSON: {_USAGE}", code="invalid_value") from None
        wrong = invalid_field(first, AffectRequest.model_fields)
        if example := _FORMS.get(str((first["loc"] or [""])[0])):
            raise ApiError(400, f"{wrong}: give it as {example}", param=wrong.param, code=wrong.code) from None
        raise wrong from None


def _fields(form: FormData) -> dict[str, Any]:
    """Read the fields of a form: ``tasks`` as JSON or separated by commas, other lists and objects as JSON."""
    out: dict[str, Any] = {}
    for key, value in form.items():
        if isinstance(value, UploadFile):
            continue
        out[key] = value
        if key == "tasks" and not value.lstrip().startswith("["):
            out[key] = [part.strip() for part in value.split(",")]
        elif key in _FORMS:
            try:
                out[key] = json.loads(value)
            except (ValueError, RecursionError):
                message = f"{key}: not valid JSON: give it as {_FORMS[key]}"
                raise ApiError(400, message, param=key, code="invalid_value") from None
    return out


async def _files(form: FormData) -> list[Medium]:
    out = []
    for value in form.values():
        if isinstance(value, UploadFile):
            kind = (value.content_type or "").partition("/")[0]
            data = await value.read()
            if not data:
                raise ApiError(400, "the file is empty", param="file")
            out.append(Medium(_kind(kind), data))
    return out


def _kind(text: str) -> Kind:
    return "image" if text == "image" else "audio" if text == "audio" else "video"


def _media(body: AffectRequest) -> list[Medium]:
    kinds: tuple[tuple[Literal["video", "image", "audio"], str | None], ...] = (
        ("video", body.video),
        ("image", body.image),
        ("audio", body.audio),
    )
    given = [
        medium_from_url(kind, value)
        if value.startswith(("data:", "http:", "https:"))
        else medium_from_base64(kind, value)
        for kind, value in kinds
        if value is not None
    ]
    return given + ([Medium("video", file_id=body.file_id)] if body.file_id is not None else [])


def _work(service: Service, body: AffectRequest) -> AnswerWork:
    keys = tuple(dict.fromkeys(ALL_TASKS if body.tasks == ["all"] else body.tasks))
    if unasked := set(body.labels) - set(keys):
        raise ApiError(400, f"labels: {len(unasked)} task(s) with labels are not in tasks", param="labels")
    if wrong := [key for key in body.labels if key in TASKS and not TASKS[key].closed]:
        raise ApiError(400, f"labels: {', '.join(wrong)} has no labels to choose from", param="labels")
    generation = GenerationOptions(max_new_tokens=body.max_new_tokens)
    options = AnswerOptions(body.think, body.explain, generation)
    make_plan(keys, body.labels or None, options)  # raises for an unknown task or an invalid label
    labels = tuple((key, tuple(values)) for key, values in sorted(body.labels.items()))
    return AnswerWork(service.engine, keys, labels, options)


# ---------------------------------------------------------------- timeline


class _Windows:
    """A timeline as JSON lines; the first answer is awaited, so that an error still gets its HTTP status."""

    def __init__(self, service: Service, source: ClipInput, work: AnswerWork, timeline: Timeline) -> None:
        self._service = service
        self._answers = service.timeline(source, work, timeline.every_s, timeline.window_s)

    async def response(self) -> Response:
        """Return the stream."""
        first = await anext(self._answers)
        return StreamingResponse(
            self._lines(first), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"}
        )

    async def _lines(self, first: Answer) -> AsyncIterator[str]:
        try:
            yield _line(first.to_dict())
            async for answer in self._answers:
                yield _line(answer.to_dict())
        except (NanoEmoXError, ApiError, TimeoutError) as error:
            yield _line(error_body(to_api_error(error)))
        finally:
            await self._answers.aclose()


def _line(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"
