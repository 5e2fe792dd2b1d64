"""``/v1/affect`` equals the engine: forms, JSON, files, timelines, concurrent clients."""

from __future__ import annotations

import base64
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import jsonschema
import pytest

from nanoemox.inference.decoding import GenerationOptions
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions
from nanoemox.serving.limits import Limits
from nanoemox.serving.service import Service
from nanoemox.tasks import ALL_TASKS
from nanoemox.types import Answer, Turn, answer_schema
from tests.serving.conftest import data_uri, running, video, wav

SHORT = AnswerOptions(generation=GenerationOptions(max_new_tokens=8))
TASKS = ("msa", "mer", "erg")


def post(address: str, **how: Any) -> httpx.Response:
    return httpx.post(f"{address}/v1/affect", timeout=120, **how)


def check(found: dict[str, Any], wanted: Answer) -> None:
    assert list(found["tasks"]) == list(wanted.tasks)
    assert found["modalities"] == list(wanted.modalities)
    jsonschema.validate(found, answer_schema())
    for key, reading in wanted.tasks.items():
        mine, theirs = found["tasks"][key], json.loads(json.dumps(reading.to_dict()))
        assert mine["raw"] == theirs["raw"]
        if "probabilities" in theirs:
            assert mine["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-4)


def test_form_upload_gets_six_answers(address: str, engine: Engine) -> None:
    found = post(address, files={"file": ("me.mkv", video(), "video/x-matroska")}, data={"max_new_tokens": "8"})
    assert found.status_code == 200, found.text
    check(found.json(), engine.answer(engine.load(video()), ALL_TASKS, options=SHORT))
    assert "me.mkv" not in found.text


def test_the_published_schema_is_that_of_the_answer(address: str) -> None:
    routes = httpx.get(f"{address}/openapi.json").json()["paths"]
    assert routes["/v1/affect"]["post"]["responses"]["200"]["content"]["application/json"]["schema"] == answer_schema()


def test_json_and_uploaded_files(address: str, engine: Engine) -> None:
    asked = {"text": "It is over.", "tasks": list(TASKS), "max_new_tokens": 8, "think": False, "explain": True}
    wanted = engine.answer(engine.load(wav(), subtitle="It is over."), TASKS, options=replace(SHORT, think=False))
    file = httpx.post(f"{address}/v1/files", files={"file": ("a.wav", wav())}, data={"purpose": "user_data"}).json()
    for medium in (
        {"audio": base64.b64encode(wav()).decode()},
        {"audio": data_uri(wav(), "audio/wav")},
        {"file_id": file["id"]},
    ):
        found = post(address, json=asked | medium)
        assert found.status_code == 200, found.text
        check(found.json(), wanted)
        assert found.json()["evidence"]["window_attention"]


def test_text_only_with_labels_and_history(address: str, engine: Engine) -> None:
    form = {"text": "It is over.", "tasks": "mer", "labels": '{"mer": ["happy", "sad"]}'}
    found = post(address, data=form, files={"file": ("a.wav", wav())})
    check(found.json(), engine.answer(engine.load(wav(), subtitle="It is over."), "mer", ["happy", "sad"]))
    said = {"text": "It is over.", "tasks": ["mer"], "history": [{"role": "friend", "text": "Well?"}]}
    check(
        post(address, json=said).json(),
        engine.answer(None, "mer", text="It is over.", history=[Turn("friend", "Well?")]),
    )


def test_a_timeline_holds_a_place_in_the_queue_until_it_ends(engine: Engine) -> None:
    body = {"tasks": ["mer"], "timeline": {"every_s": 0.5, "window_s": 1.0}, "text": "Hm."}
    body["audio"] = base64.b64encode(wav(4.0)).decode()
    with running(Service(engine, Limits(queue=1))) as url, httpx.Client(base_url=url, timeout=120) as client:
        with client.stream("POST", "/v1/affect", json=body) as first:
            lines = first.iter_lines()
            next(lines)
            refused = httpx.post(f"{url}/v1/affect", json={"text": "Hm.", "tasks": ["mer"]}, timeout=120)
            assert refused.status_code == 429
            assert "retry-after" in refused.headers
            assert len(list(lines)) == 6
        assert client.post("/v1/affect", json=body).status_code == 200


def test_timeline(address: str, engine: Engine) -> None:
    asked = {"tasks": ["mer"], "timeline": {"every_s": 1.0, "window_s": 2.0}, "text": "Hm."}
    found = post(address, json=asked | {"audio": base64.b64encode(wav(4.0)).decode()})
    assert found.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in found.text.splitlines()]
    assert [line["span_s"] for line in lines] == [[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]]
    for line in lines:
        clip = engine.load(wav(4.0), subtitle="Hm.", span_s=tuple(line["span_s"]))
        check(line, engine.answer(clip, "mer"))
    wrong = post(address, json=asked | {"timeline": {"every_s": 3, "window_s": 2}, "audio": asked["text"] + "AAA="})
    assert wrong.status_code == 400


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "nothing to answer about: send JSON with text"),
        ({"txt": "Hm."}, "txt: no such field; the fields are video, audio, image, file_id, text, history, tasks"),
        ({"text": "Hm.", "tasks": ["guess"]}, "unknown task"),
        ({"text": "Hm.", "tasks": []}, "tasks"),
        ({"text": "Hm.", "labels": ["a"]}, 'labels: Input should be an object: give it as {"mer": ["happy", "sad"]}'),
        ({"text": "Hm.", "labels": {"erg": ["a"]}}, "erg has no labels"),
        ({"text": "Hm.", "tasks": ["mer"], "labels": {"mir": ["a"]}}, "not in tasks"),
        ({"text": "Hm.", "labels": {"mer": ["a", "A"]}}, "given twice"),
        ({"text": "Hm.", "max_new_tokens": 2000}, "max_new_tokens"),
        ({"text": "Hm.", "timeline": {}}, "one video or audio"),
        ({"video": "AAAA"}, "video"),
        ({"audio": "http://example.com/a.wav"}, "does not fetch URLs"),
        ({"file_id": "file-0"}, "no such file"),
    ],
)
def test_mistakes(address: str, body: dict[str, Any], says: str) -> None:
    found = post(address, json=body)
    assert found.status_code in (400, 404), found.text
    assert says in found.json()["error"]["message"]


def test_file_as_request_body_names_the_correct_way(address: str) -> None:
    found = post(address, content=wav(), headers={"content-type": "application/x-www-form-urlencoded"})
    assert found.status_code == 400
    assert "curl -F file=@" in found.json()["error"]["message"]


def test_invalid_forms_are_refused(address: str) -> None:
    kind = "multipart/form-data; boundary=x"
    for content in (b"", b"--x", b"--x\r\n\r\n", b"--x--", b"\xff" * 100):
        found = post(address, content=content, headers={"content-type": kind})
        assert found.status_code == 400, (content, found.text)
    assert post(address, files={"file": ("a.wav", b"")}).status_code == 400
    found = post(address, data={"labels": "happy,sad"}, files={"file": ("a.wav", wav())})
    assert found.status_code == 400
    assert found.json()["error"]["message"] == 'labels: not valid JSON: give it as {"mer": ["happy", "sad"]}'
    assert httpx.post(f"{address}/v1/files", json={}).status_code == 415


def test_large_forms_stay_in_memory(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("rolled over to the disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", never)
    data = wav(50.0)
    assert len(data) > 2**20
    found = httpx.post(f"{address}/v1/files", files={"file": ("a.wav", data)})
    assert found.status_code == 200
    assert found.json()["bytes"] == len(data)
    assert post(address, files={"file": ("a.wav", data)}, data={"tasks": "mer"}).status_code == 200


def test_concurrent_requests_get_their_own_answers(address: str, engine: Engine, service: Service) -> None:
    sounds = [wav(1.0, seed) for seed in range(8)]

    def ask(i: int) -> dict[str, Any]:
        form = {"tasks": "mer,ovmer", "text": f"Number {i}.", "max_new_tokens": "8"}
        found = post(address, files={"file": ("a.wav", sounds[i])}, data=form)
        assert found.status_code == 200, found.text
        return dict(found.json())

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    for i, found in enumerate(answers):
        clip = engine.load(sounds[i], subtitle=f"Number {i}.")
        check(found, engine.answer(clip, ("mer", "ovmer"), options=SHORT))
