"""``/v1/decisions`` with OpenAI's client, and ``/v1/systemone`` in the format of transformers' server."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from nanoemox.inference.engine import Engine
from nanoemox.inference.questions import Question
from nanoemox.serving.media import merge
from nanoemox.types import Clip, Turn
from tests.serving.conftest import data_uri, picture, video, wav

QUESTIONS: list[Any] = [
    {"type": "predicate", "name": "over", "instructions": "Is it over?"},
    {
        "type": "choice",
        "instructions": [{"type": "input_text", "text": "Is the speaker"}, {"type": "input_text", "text": "sincere?"}],
        "choices": [{"value": "yes", "description": "plainly"}, {"value": "no"}, {"value": True}],
    },
    {
        "type": "score",
        "name": "tension",
        "instructions": "How tense?",
        "levels": [{"label": "calm"}, {"label": "tense"}],
    },
]


@pytest.fixture(scope="module")
def client(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def ours(engine: Engine, clip: Clip) -> list[dict[str, Any]]:
    from nanoemox.inference.questions import Option

    questions = [
        Question.predicate("Is it over?", name="over"),
        Question.choice("Is the speaker\nsincere?", [Option("yes", "plainly"), Option("no"), Option(True)]),
        Question.score("How tense?", ["calm", "tense"], name="tension"),
    ]
    return [a.to_dict() for a in engine.decide(clip, questions).answers]


def check(found: Any, wanted: list[dict[str, Any]]) -> None:
    predicate, choice, score = found.answers
    assert (predicate.type, predicate.name) == ("predicate", "over")
    assert predicate.probability == pytest.approx(wanted[0]["probability"], abs=1e-5)
    assert choice.choice == wanted[1]["choice"]
    assert [p.value for p in choice.probabilities] == ["yes", "no", True]
    for a, b in zip(choice.probabilities, wanted[1]["probabilities"], strict=True):
        assert a.probability == pytest.approx(b["probability"], abs=1e-5)
    assert score.score == pytest.approx(wanted[2]["score"], abs=1e-5)
    assert [(p.label, p.value) for p in score.probabilities] == [("calm", 0), ("tense", 1)]
    assert found.usage.total_tokens == found.usage.input_tokens > 0


def test_text(client: OpenAI, engine: Engine) -> None:
    found = client.decisions.create(model="tiny", input="It is over.", questions=QUESTIONS)
    assert found.model == "tiny"
    check(found, ours(engine, Clip("words", subtitle="It is over.")))


def test_a_conversation(client: OpenAI, engine: Engine) -> None:
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": [{"type": "output_text", "text": "How was it?"}]},
        {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "It is"}, {"type": "input_json", "data": {"a": 1}}],
        },
    ]
    turns = [("system", "Be brief."), ("user", "Hello."), ("assistant", "How was it?"), ("tool", "{}")]
    clip = Clip("words", subtitle='It is\n{"a": 1}', history=tuple(Turn(*t) for t in turns))
    check(client.decisions.create(model="nanoemox", input=messages, questions=QUESTIONS), ours(engine, clip))


def loaded(engine: Engine, *sources: bytes, words: str | None = None) -> Clip:
    return merge([engine.load(s, subtitle=words) for s in sources], engine.processor.config.vision.num_frames)


def asking(*parts: dict[str, Any]) -> list[Any]:
    return [{"role": "user", "content": list(parts)}]


def test_pictures(client: OpenAI, engine: Engine) -> None:
    one = {"type": "input_image", "image_url": data_uri(picture(), "image/png"), "detail": "auto"}
    words = {"type": "input_text", "text": "It is over."}
    found = client.decisions.create(model="tiny", input=asking(one, words), questions=QUESTIONS)
    check(found, ours(engine, loaded(engine, picture(), words="It is over.")))
    two = {"type": "input_image", "image_url": data_uri(picture(1, 32, 64), "image/png")}
    found = client.decisions.create(model="tiny", input=asking(one, two), questions=QUESTIONS)
    check(found, ours(engine, loaded(engine, picture(), picture(1, 32, 64))))


def test_audio_and_video_parts(client: OpenAI, engine: Engine) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav()).decode(), "format": "wav"}}
    seen = {"type": "input_video", "video_url": data_uri(video(), "video/x-matroska")}
    check(
        client.decisions.create(model="tiny", input=asking(sound), questions=QUESTIONS),
        ours(engine, loaded(engine, wav())),
    )
    both = client.decisions.create(model="tiny", input=asking(seen, sound), questions=QUESTIONS)
    check(both, ours(engine, loaded(engine, video(), wav())))


def test_an_uploaded_file(client: OpenAI, engine: Engine) -> None:
    file = client.files.create(file=("talk.mkv", video()), purpose="user_data")
    assert client.files.retrieve(file.id).bytes == len(video())
    assert file.id in [f.id for f in client.files.list()]
    part = {"type": "input_video", "file_id": file.id}
    found = client.decisions.create(model="tiny", input=asking(part), questions=QUESTIONS)
    check(found, ours(engine, loaded(engine, video())))
    assert client.files.delete(file.id).deleted
    with pytest.raises(NotFoundError, match="no such file"):
        client.decisions.create(model="tiny", input=asking(part), questions=QUESTIONS)


PREDICATE: Any = {"type": "predicate", "instructions": "So?"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"questions": []}, "questions"),
        ({"questions": [PREDICATE] * 401}, "questions"),
        ({"questions": [{"type": "guess", "instructions": "So?"}]}, "questions"),
        ({"questions": [{"type": "choice", "instructions": "So?", "choices": [{"value": "a"}] * 2}]}, "given twice"),
        ({"questions": [{"type": "predicate", "instructions": "why " * 1900}]}, "the model takes 1024"),
        ({"input": ""}, "nothing to answer from"),
        ({"input": []}, "no message with the role user"),
        ({"input": asking({"type": "input_image", "image_url": "data:image/png,abc"})}, "data:TYPE;base64,DATA"),
        ({"input": asking({"type": "input_image", "image_url": "data:image/png;base64,!"})}, "not valid base64"),
        ({"input": asking({"type": "input_image", "image_url": "http://127.0.0.1/a.png"})}, "does not fetch URLs"),
        ({"input": asking({"type": "input_image", "image_url": data_uri(b"no picture", "image/png")})}, "image"),
        ({"input": asking({"type": "input_audio"})}, "exactly one"),
    ],
)
def test_mistakes(client: OpenAI, change: dict[str, Any], says: str) -> None:
    request = {"model": "tiny", "input": "It is over.", "questions": [PREDICATE]} | change
    with pytest.raises(BadRequestError) as refused:
        client.decisions.create(**request)
    assert says in refused.value.message
    assert refused.value.type == "invalid_request_error"


def test_another_model(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="the models are tiny, nanoemox") as refused:
        client.decisions.create(model="gpt-6-luna", input="It is over.", questions=[PREDICATE])
    assert refused.value.code == "model_not_found"


def test_system_one(address: str, engine: Engine) -> None:
    request = {
        "model": "tiny",
        "state": {"said": "It is over.", "seen": "img-1"},
        "assets": {"img-1": {"type": "image", "format": "png", "data_base64": base64.b64encode(picture()).decode()}},
        "questions": {
            "over": {"type": "noul", "instructions": "Is it over?", "criteria": {"true": "nothing follows"}},
            "how": {"type": "choice", "instructions": "Which?", "criteria": {"good": None, "bad": {"a": 1}}},
            "much": {"type": "score", "instructions": "How much?", "criteria": ["a bit", "very"]},
        },
    }
    answer = httpx.post(f"{address}/v1/systemone", json=request, timeout=60)
    assert answer.status_code == 200, answer.text
    found = answer.json()["answers"]
    clip = loaded(engine, picture(), words='{"said": "It is over.", "seen": ""}')
    same = Question.predicate("Is it over?", if_true="nothing follows")
    share = engine.decide(clip, [same]).answers[0].probability
    assert found["over"] == {"type": "noul", "noul": pytest.approx(share, abs=1e-5)}
    assert set(found["how"]["probabilities"]) == {"good", "bad"}
    assert found["much"]["legend"] == {"0": "a bit", "1": "very"}
    assert 0 <= found["much"]["score"] <= 1
    refused = httpx.post(f"{address}/v1/systemone", json=request | {"questions": {}}, timeout=60)
    assert refused.status_code == 400


def test_system_one_answers_have_the_shape_of_transformers(address: str) -> None:
    templates = pytest.importorskip("transformers.decision.template_utils")
    from transformers.decision import DecisionConfig

    questions = {
        "over": {"type": "noul", "instructions": "Is it over?"},
        "how": {"type": "choice", "criteria": {"good": None, "bad": None}},
        "much": {"type": "score", "criteria": ["a bit", "some", "very"]},
    }
    body = {"state": "It is over.", "questions": questions}
    found = httpx.post(f"{address}/v1/systemone", json=body, timeout=60).json()["answers"]
    for asked in templates.parse_questions(questions, DecisionConfig()):
        mine = found[asked.name]
        shares = mine.get("probabilities") or {"true": mine["noul"], "false": 1 - mine["noul"]}
        wanted = asked.answer([shares[option] for option in asked.options])
        assert mine.keys() == wanted.keys()
        for key, value in wanted.items():
            assert mine[key] == (pytest.approx(value) if isinstance(value, float | dict) and key != "legend" else value)


def test_lone_surrogates_are_accepted(address: str) -> None:
    half = "\ud800"
    questions = [
        {"type": "predicate", "instructions": half, "name": half},
        {"type": "choice", "instructions": "Who?", "choices": [{"value": half, "description": half}, {"value": "you"}]},
        {
            "type": "score",
            "instructions": "How loud?",
            "levels": [{"label": half}, {"label": "b", "description": half}],
        },
    ]
    body = json.dumps({"model": "tiny", "input": half, "questions": questions})
    head = {"content-type": "application/json"}
    answer = httpx.post(f"{address}/v1/decisions", content=body, headers=head, timeout=60)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["answers"]) == 3
