"""Messages in OpenAI's format, with audio and video parts as extensions."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nanoemox.serving.errors import ApiError
from nanoemox.serving.media import ClipInput, Medium, medium_from_base64, medium_from_url
from nanoemox.types import Turn

MAX_MESSAGES = 200
MAX_JSON_CHARACTERS = 256 * 1024


class RequestModel(BaseModel):
    """A part of a request; unknown fields are ignored, since OpenAI's clients send more than is used."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class StrictModel(BaseModel):
    """A part of a request; unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Text(RequestModel):
    """A text part."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class Json(RequestModel):
    """An object, used as text."""

    type: Literal["input_json"]
    data: dict[str, Any] | list[Any]


class RefusalPart(RequestModel):
    """A refusal of an assistant, in the history."""

    type: Literal["refusal"]
    refusal: str


class Image(RequestModel):
    """An image: a data URI or an uploaded file."""

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None


class Url(RequestModel):
    """A URL."""

    url: str


class ImageUrl(RequestModel):
    """An image in a chat."""

    type: Literal["image_url"]
    image_url: Url


class VideoUrl(RequestModel):
    """A video in a chat."""

    type: Literal["video_url"]
    video_url: Url


class Sound(RequestModel):
    """Base64 of an audio or video file."""

    data: str
    format: str | None = None


class InputAudio(RequestModel):
    """Audio: base64 or an uploaded file."""

    type: Literal["input_audio"]
    input_audio: Sound | None = None
    data: str | None = None
    file_id: str | None = None


class InputVideo(RequestModel):
    """A video: base64, a data URI or an uploaded file."""

    type: Literal["input_video"]
    input_video: Sound | None = None
    data: str | None = None
    video_url: str | None = None
    file_id: str | None = None


Part = Annotated[
    Text | Json | RefusalPart | Image | ImageUrl | VideoUrl | InputAudio | InputVideo, Field(discriminator="type")
]


class Message(RequestModel):
    """One message."""

    role: Literal["user", "assistant", "system", "developer", "tool"]
    content: str | list[Part] | None = None
    type: Literal["message"] = "message"


class Call(RequestModel):
    """A tool call or its output, used as text of the history."""

    type: Literal["function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"]
    call_id: str
    arguments: str | None = None
    input: str | None = None
    output: str | list[Part] | None = None


def clip_input_of(messages: list[Message | Call]) -> ClipInput:
    """Convert a conversation: the last user message is the clip, the messages before it are the history.

    Media are those of the latest message that has any and is not the assistant's: a question about an earlier clip need
    not send it again, and a newer clip takes its place.
    """
    last = max((i for i, m in enumerate(messages) if isinstance(m, Message) and m.role == "user"), default=None)
    if last is None:
        raise ApiError(400, "no message with the role user", param="messages")
    if len(messages) > MAX_MESSAGES:
        raise ApiError(400, f"{len(messages)} messages: send at most {MAX_MESSAGES}", param="messages")
    source = ClipInput()
    for i, message in enumerate(messages):
        words, media = _text_and_media(message)
        if media and not (isinstance(message, Message) and message.role == "assistant"):
            source.media = media
        if i == last:
            source.words = words
        elif words:
            role = message.role if isinstance(message, Message) else "tool"
            source.history.append(Turn(role, words))
    return source


def json_text(data: object) -> str:
    """Serialise an object to JSON text."""
    text = json.dumps(data, ensure_ascii=False)
    if len(text) > MAX_JSON_CHARACTERS:
        raise ApiError(400, f"an object of {len(text)} characters: limit {MAX_JSON_CHARACTERS}", code="invalid_value")
    return clean(text)


def clean(text: str) -> str:
    """Replace lone surrogates, which no tokenizer accepts."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _text_and_media(message: Message | Call) -> tuple[str, list[Medium]]:
    if isinstance(message, Call):
        content = message.output if message.output is not None else message.arguments or message.input
    else:
        content = message.content
    if content is None or isinstance(content, str):
        return clean(content or ""), []
    words, media = [], []
    for part in content:
        if isinstance(part, Text):
            words.append(clean(part.text))
        elif isinstance(part, Json):
            words.append(json_text(part.data))
        elif isinstance(part, RefusalPart):
            words.append(clean(part.refusal))
        else:
            media.append(_medium(part))
    return "\n".join(words), media


def _medium(part: Image | ImageUrl | VideoUrl | InputAudio | InputVideo) -> Medium:
    if isinstance(part, ImageUrl):
        return medium_from_url("image", part.image_url.url)
    if isinstance(part, VideoUrl):
        return medium_from_url("video", part.video_url.url)
    if isinstance(part, Image):
        return _medium_of("image", None, part.image_url, part.file_id)
    if isinstance(part, InputAudio):
        return _medium_of("audio", part.input_audio.data if part.input_audio else part.data, None, part.file_id)
    return _medium_of("video", part.input_video.data if part.input_video else part.data, part.video_url, part.file_id)


def _medium_of(
    kind: Literal["image", "audio", "video"], data: str | None, url: str | None, file_id: str | None
) -> Medium:
    if sum(v is not None for v in (data, url, file_id)) != 1:
        raise ApiError(400, f"an input_{kind} needs exactly one of data, URL and file_id", code="invalid_value")
    if file_id is not None:
        return Medium(kind, file_id=file_id)
    return medium_from_url(kind, url) if url is not None else medium_from_base64(kind, data or "")
