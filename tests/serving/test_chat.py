"""Chat completions with OpenAI's client: task identifiers, streams."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

from nanoemox.inference.decoding import GenerationOptions
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions
from nanoemox.serving.chat import read_task
from nanoemox.types import Clip, Turn
from tests.serving.conftest import data_uri, picture, video, wav

SHORT = AnswerOptions(generation=GenerationOptions(max_new_tokens=24))


@pytest.fixture(scope="module")
def client(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def user(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": parts[0] if len(parts) == 1 and isinstance(parts[0], str) else list(parts)}]


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("Hello.", ("erg", None, "Hello.")),
        (None, ("erg", None, None)),
        ("I got it! [Recognition]", ("mer", None, "I got it!")),
        ("[Recognition] Which sentiment?", ("msa", None, None)),
        ("Hm.\n[Recognition] Choose one: happy, sad.", ("mer", ("happy", "sad"), "Hm.")),
        ("Hm. [Recogn_OV] List them: all", ("ovmer", None, "Hm.")),
        ("Hm. [Intent]", ("mir", None, "Hm.")),
        ("Hm. [Inference] Why?", ("eri", None, "Hm.")),
        ("Hm. [Interaction]", ("erg", None, "Hm.")),
    ],
)
def test_identifiers_choose_the_task(words: str | None, wanted: tuple[Any, ...]) -> None:
    found = read_task(words)
    assert (found.task, found.labels, found.words) == wanted


def test_a_reply(client: OpenAI, engine: Engine) -> None:
    found = client.chat.completions.create(model="tiny", messages=user("I got the job!"), max_tokens=24)
    clip = Clip("words", subtitle="I got the job!")
    wanted = engine.answer(clip, ("erg",), options=replace(SHORT, think=False)).tasks["erg"].raw
    choice = found.choices[0]
    assert choice.message.content == wanted
    assert choice.finish_reason in ("stop", "length")
    assert found.usage is not None
    assert 0 < found.usage.completion_tokens <= 25
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens


def test_usage_counts_no_terminator_where_a_stop_string_ended_the_answer(client: OpenAI) -> None:
    ask = {"model": "tiny", "messages": user("I got the job!"), "max_tokens": 3}
    whole = client.chat.completions.create(**ask)
    last = (whole.choices[0].message.content or "")[-1]
    cut = client.chat.completions.create(**ask, stop=[last])
    assert whole.usage.completion_tokens == 3
    assert cut.usage.completion_tokens <= 3


def test_media_are_those_of_the_latest_message_with_any(client: OpenAI, engine: Engine) -> None:
    seen = {"type": "image_url", "image_url": {"url": data_uri(picture(), "image/png")}}
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav()).decode(), "format": "wav"}}
    history = [*user(seen, text("Hello.")), {"role": "assistant", "content": "Hi."}]
    turns = [Turn("user", "Hello."), Turn("assistant", "Hi.")]
    for parts, data in (((text("Fine. [Inference]"),), picture()), ((sound, text("Fine. [Inference]")), wav())):
        found = client.chat.completions.create(model="tiny", messages=[*history, *user(*parts)], max_tokens=24)
        wanted = engine.answer(engine.load(data, subtitle="Fine.", history=turns), ("eri",), options=SHORT)
        assert found.choices[0].message.content == wanted.tasks["eri"].raw


def test_media_and_history(client: OpenAI, engine: Engine) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav()).decode(), "format": "wav"}}
    seen = {"type": "image_url", "image_url": {"url": data_uri(picture(), "image/png")}}
    film = {"type": "video_url", "video_url": {"url": data_uri(video(), "video/x-matroska")}}
    for part, data in ((sound, wav()), (seen, picture()), (film, video())):
        messages = [{"role": "assistant", "content": "How was it?"}, *user(part, text("Fine. [Inference]"))]
        found = client.chat.completions.create(model="tiny", messages=messages, max_tokens=24)
        clip = engine.load(data, subtitle="Fine.", history=[Turn("assistant", "How was it?")])
        wanted = engine.answer(clip, ("eri",), options=SHORT).tasks["eri"].raw
        assert found.choices[0].message.content == wanted


def test_closed_task_response_has_probabilities(client: OpenAI, engine: Engine) -> None:
    asked = user("I got the job! [Recognition] Choose one: happy, sad, angry.")
    found = client.chat.completions.create(model="tiny", messages=asked)
    reading = engine.answer(Clip("w", subtitle="I got the job!"), "mer", ["happy", "sad", "angry"]).tasks["mer"]
    assert found.choices[0].message.content == reading.raw
    shares = found.model_extra["nanoemox"]["probabilities"]
    assert shares == pytest.approx(reading.probabilities, abs=1e-5)
    other = client.chat.completions.create(
        model="tiny", messages=user("Hm."), extra_body={"task": "mir", "labels": ["joke", "thank"]}
    )
    assert other.choices[0].message.content in ("joke", "thank")


def test_stream_equals_the_whole_response(client: OpenAI) -> None:
    for words in ("I got the job!", "Hm. [Recogn_OV]", "Hm. [Recognition]"):
        whole = client.chat.completions.create(model="tiny", messages=user(words), max_tokens=24)
        chunks = list(
            client.chat.completions.create(
                model="tiny",
                messages=user(words),
                max_tokens=24,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert chunks[0].choices[0].delta.role == "assistant"
        said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert said == whole.choices[0].message.content
        assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
        assert chunks[-1].usage == whole.usage


def test_stop_strings(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="tiny", messages=user("Hello"), max_tokens=24).choices[0].message
    content = whole.content or ""
    assert len(content) > 6
    for stop in (content[3:5], [content[4:6], "zz"]):
        first = min(content.find(s) for s in ([stop] if isinstance(stop, str) else stop) if s in content)
        cut = client.chat.completions.create(model="tiny", messages=user("Hello"), max_tokens=24, stop=stop).choices[0]
        assert cut.message.content == content[:first]
        assert cut.finish_reason == "stop"
        events = client.chat.completions.create(
            model="tiny", messages=user("Hello"), max_tokens=24, stop=stop, stream=True
        )
        assert "".join(e.choices[0].delta.content or "" for e in events) == content[:first]


def test_sampling_is_reproducible_with_a_seed(client: OpenAI) -> None:
    def drawn(seed: int) -> str | None:
        options: Any = {"temperature": 1.5, "top_p": 0.9, "max_tokens": 24, "seed": seed}
        return (
            client.chat.completions.create(model="tiny", messages=user("Hello"), **options).choices[0].message.content
        )

    assert drawn(7) == drawn(7) != drawn(8)


def test_concurrent_async_clients(address: str, engine: Engine) -> None:
    words = [f"It was number {i}." for i in range(12)]

    async def ask() -> list[Any]:
        async with AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
            asked = (client.chat.completions.create(model="tiny", messages=user(w), max_tokens=12) for w in words)
            return await asyncio.gather(*asked)

    found = asyncio.run(ask())
    for said, answer in zip(words, found, strict=True):
        options = AnswerOptions(think=False, generation=GenerationOptions(max_new_tokens=12))
        reading = engine.answer(Clip("w", subtitle=said), "erg", options=options).tasks["erg"]
        assert answer.choices[0].message.content == reading.raw


def test_models(client: OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["tiny", "nanoemox"]
    assert client.models.retrieve("tiny").object == "model"
    with pytest.raises(NotFoundError, match="no such model"):
        client.models.retrieve("gpt-6")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "Hm."}]}, "no message with the role user"),
        ({"messages": user("[Intent]")}, "nothing to answer from"),
        ({"n": 2}, "n: not supported by this model"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"temperature": 3}, "temperature"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"extra_body": {"task": "guess"}}, "unknown task"),
        ({"extra_body": {"labels": ["happy"]}}, "labels belong to one closed task"),
        ({"messages": user(text("a" * 9000))}, "the model takes 1024"),
        ({"max_tokens": 1_000_000}, "or lower max_tokens"),
        (
            {"messages": user({"type": "file", "file": {}})},
            "messages.0.content.0: no such type; the types are 'text', 'input_text'",
        ),
        ({"messages": user(text("Hm."), {"image_url": "x"})}, "messages.0.content.1: needs a type"),
        ({"messages": user({"type": "text"})}, "messages.0.content.0.text.text: Field required"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_mistakes(client: OpenAI, change: dict[str, Any], says: str, stream: bool) -> None:
    request = {"model": "tiny", "messages": user("Hello"), "stream": stream} | change
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(**request)
    assert says in refused.value.message


def test_invalid_json_is_refused(address: str) -> None:
    head = {"content-type": "application/json"}
    for content in (b"{", b"[1]", b'"a"', b"", b"\xff"):
        answer = httpx.post(f"{address}/v1/chat/completions", content=content, headers=head)
        assert answer.status_code == 400, content
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_lone_surrogates_are_accepted(address: str) -> None:
    body = {"model": "tiny", "messages": user("\ud800 [Recognition]"), "labels": ["sad\ud800", "glad"]}
    head = {"content-type": "application/json"}
    answer = httpx.post(f"{address}/v1/chat/completions", content=json.dumps(body), headers=head, timeout=60)
    assert answer.status_code == 200, answer.text
