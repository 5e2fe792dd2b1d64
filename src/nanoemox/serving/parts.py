"""The pieces of a message, as OpenAI's clients send them, with sound and video beside text and pictures."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nanoemox.serving.errors import Refusal
from nanoemox.serving.media import Medium, Spoken, medium_at, medium_of
from nanoemox.types import Turn

MAX_MESSAGES = 200
MAX_JSON_CHARACTERS = 256 * 1024


class Loose(BaseModel):
    """A part of a request; what is not named here is left aside, as OpenAI's clients send more than is used."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Text(Loose):
    """Words."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class Json(Loose):
    """An object, taken as words."""

    type: Literal["input_json"]
    data: dict[str, Any] | list[Any]


class Refused(Loose):
    """What an assistant would not say, in a history."""

    type: Literal["refusal"]
    refusal: str


class Image(Loose):
    """A picture: a data URI, or an uploaded file."""

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None


class Url(Loose):
    """Where something lies."""

    url: str


class ImageUrl(Loose):
    """A picture in a chat."""

    type: Literal["image_url"]
    image_url: Url


class VideoUrl(Loose):
    """A video in a chat."""

    type: Literal["video_url"]
    video_url: Url


class Sound(Loose):
    """Base64 of a sound or a video file."""

    data: str
    format: str | None = None


class InputAudio(Loose):
    """A sound: base64, or an uploaded file."""

    type: Literal["input_audio"]
    input_audio: Sound | None = None
    data: str | None = None
    file_id: str | None = None


class InputVideo(Loose):
    """A video: base64, a data URI, or an uploaded file."""

    type: Literal["input_video"]
    input_video: Sound | None = None
    data: str | None = None
    video_url: str | None = None
    file_id: str | None = None


Part = Annotated[
    Text | Json | Refused | Image | ImageUrl | VideoUrl | InputAudio | InputVideo, Field(discriminator="type")
]


class Message(Loose):
    """One message."""

    role: Literal["user", "assistant", "system", "developer", "tool"]
    content: str | list[Part] | None = None
    type: Literal["message"] = "message"


class Call(Loose):
    """A call of a tool, or what it gave: text of a history."""

    type: Literal["function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"]
    call_id: str
    arguments: str | None = None
    input: str | None = None
    output: str | list[Part] | None = None


def spoken_of(messages: list[Message | Call]) -> Spoken:
    """Make what is said of a conversation: the last message of the user is the clip, what came before is history."""
    last = max((i for i, m in enumerate(messages) if isinstance(m, Message) and m.role == "user"), default=None)
    if last is None:
        raise Refusal(400, "no message of the user", param="messages")
    if len(messages) > MAX_MESSAGES:
        raise Refusal(400, f"{len(messages)} messages: send at most {MAX_MESSAGES}", param="messages")
    spoken = Spoken()
    for i, message in enumerate(messages):
        words, media = _taken(message)
        spoken.media += media
        if i == last:
            spoken.words = words
        elif words:
            role = message.role if isinstance(message, Message) else "tool"
            spoken.history.append(Turn(role, words))
    return spoken


def words_of(data: object) -> str:
    """Write an object down as words."""
    text = json.dumps(data, ensure_ascii=False)
    if len(text) > MAX_JSON_CHARACTERS:
        raise Refusal(400, f"an object of {len(text)} characters, limit {MAX_JSON_CHARACTERS}", code="invalid_value")
    return clean(text)


def clean(text: str) -> str:
    """Put a mark where half a character stands, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _taken(message: Message | Call) -> tuple[str, list[Medium]]:
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
            words.append(words_of(part.data))
        elif isinstance(part, Refused):
            words.append(clean(part.refusal))
        else:
            media.append(_medium(part))
    return "\n".join(words), media


def _medium(part: Image | ImageUrl | VideoUrl | InputAudio | InputVideo) -> Medium:
    if isinstance(part, ImageUrl):
        return medium_at("image", part.image_url.url)
    if isinstance(part, VideoUrl):
        return medium_at("video", part.video_url.url)
    if isinstance(part, Image):
        return _one("image", None, part.image_url, part.file_id)
    if isinstance(part, InputAudio):
        return _one("audio", part.input_audio.data if part.input_audio else part.data, None, part.file_id)
    return _one("video", part.input_video.data if part.input_video else part.data, part.video_url, part.file_id)


def _one(kind: Literal["image", "audio", "video"], data: str | None, url: str | None, file_id: str | None) -> Medium:
    if sum(v is not None for v in (data, url, file_id)) != 1:
        raise Refusal(
            400, f"an input_{kind} needs exactly one of its data, its URL and a file_id", code="invalid_value"
        )
    if file_id is not None:
        return Medium(kind, file_id=file_id)
    return medium_at(kind, url) if url is not None else medium_of(kind, data or "")
