"""Nearly valid requests, which pass the first checks more often than random ones."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

from hypothesis import strategies as st

from tests.serving.conftest import data_uri, picture, video, wav

SOUND, PICTURE, VIDEO = wav(0.3), picture(0, 24, 16), video(0, 1)
IMAGE_URL = {"type": "image_url", "image_url": {"url": data_uri(PICTURE, "image/png")}}
VIDEO_URL = {"type": "video_url", "video_url": {"url": data_uri(VIDEO, "video/x-matroska")}}
HEARD = {"type": "input_audio", "input_audio": {"data": base64.b64encode(SOUND).decode(), "format": "wav"}}
QUESTIONS = [
    {"type": "predicate", "instructions": "Is it a joke?"},
    {"type": "choice", "instructions": "Who?", "choices": [{"value": "me"}, {"value": True, "description": "you"}]},
    {
        "type": "score",
        "instructions": [{"type": "text", "text": "How loud?"}],
        "levels": [{"label": "a"}, {"label": "b"}],
    },
]
NOULS = {
    "joke": {"type": "noul", "instructions": "Is it a joke?", "criteria": {"true": "yes", "false": "no"}},
    "who": {"type": "choice", "criteria": {"me": "the speaker", "you": None}},
    "loud": {"type": "score", "instructions": "How loud?", "criteria": ["low", "high"]},
}
AFFECT = {"text": "It is over.", "tasks": ["mer", "erg"], "labels": {"mer": ["sad", "glad"]}, "max_new_tokens": 3}
CHAT = {"model": "tiny", "max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "seed": 1, "stop": ["e", "x"]}

JSON: dict[str, list[dict[str, Any]]] = {
    "/v1/affect": [
        AFFECT | {"history": [{"role": "friend", "text": "Well?"}], "think": True},
        AFFECT | {"audio": base64.b64encode(SOUND).decode(), "explain": True},
        AFFECT | {"image": data_uri(PICTURE, "image/png"), "tasks": ["mir", "ovmer"], "labels": {}},
        AFFECT | {"video": data_uri(VIDEO, "video/x-matroska"), "timeline": {"every_s": 0.5, "window_s": 1.0}},
    ],
    "/v1/decisions": [
        {"model": "tiny", "input": "I got it!", "questions": QUESTIONS},
        {
            "model": "tiny",
            "input": [
                {"role": "assistant", "content": "Well?"},
                {"type": "function_call_output", "call_id": "1", "output": "no"},
                {"role": "user", "content": [{"type": "input_json", "data": {"a": [1]}}, HEARD]},
            ],
            "questions": QUESTIONS[:1],
        },
        {
            "model": "tiny",
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_image", "image_url": data_uri(PICTURE, "image/png")},
                        {"type": "input_video", "data": base64.b64encode(VIDEO).decode()},
                    ],
                }
            ],
            "questions": QUESTIONS[1:],
        },
    ],
    "/v1/systemone": [
        {"state": "I got it!", "questions": NOULS},
        {
            "model": "tiny",
            "state": {"said": "Look: <image_1>"},
            "questions": {"joke": NOULS["joke"]},
            "assets": {"<image_1>": {"type": "image", "data_base64": base64.b64encode(PICTURE).decode()}},
        },
    ],
    "/v1/chat/completions": [
        CHAT | {"messages": [{"role": "user", "content": "It is over. [Recognition] Which of: sad, glad"}]},
        CHAT | {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hm. [Intent]"}, IMAGE_URL]}]},
        CHAT | {"messages": [{"role": "user", "content": [HEARD]}], "stream": True, "task": "ovmer"},
        CHAT | {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": [VIDEO_URL]}], "n": 1},
    ],
}  # fmt: skip
FORMS: dict[str, list[dict[str, Any]]] = {
    "/v1/affect": [
        {"tasks": "mer,msa", "text": "Hm.", "max_new_tokens": "3"},
        {"tasks": '["erg"]', "history": '[{"role": "a", "text": "b"}]', "max_new_tokens": "3", "labels": "{}"},
    ],
    "/v1/files": [{"purpose": "user_data"}],
}

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["", "\0", "\ud800", "tiny", "mer", "user", "0", "1e400", "data:;base64,", "[Inference]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something can be put in place of what is there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, v in inner for p in ((*at, key), *places(v, (*at, key)))]


@st.composite
def broken(draw: st.DrawFn, bodies: list[dict[str, Any]], value: st.SearchStrategy[Any] = values) -> dict[str, Any]:
    """One of the bodies, with up to two places replaced or left out."""
    body = copy.deepcopy(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(0, 2))):
        if not (left := places(body)):
            break
        *way, last = draw(st.sampled_from(left))
        inner: Any = body
        for key in way:
            inner = inner[key]
        if draw(st.booleans()):
            inner[last] = draw(value)
        else:
            del inner[last]
    return body


@st.composite
def requests(draw: st.DrawFn, path: str) -> dict[str, Any]:
    """Arguments of ``TestClient.post`` for a route."""
    if path in FORMS and (path not in JSON or draw(st.booleans())):
        data = draw(st.binary(max_size=200) | st.sampled_from([SOUND, PICTURE, VIDEO, VIDEO[:-500]]))
        kind = draw(st.sampled_from(["audio/wav", "image/png", "video/mp4", "", "x"]))
        name = draw(st.sampled_from(["file", "file", "file", "files"]))
        return {"files": {name: ("a", data, kind)}, "data": draw(broken(FORMS[path], st.text(max_size=20)))}
    content = json.dumps(draw(broken(JSON[path])))
    return {"content": content, "headers": {"content-type": "application/json"}}
