"""``POST /v1/decisions`` as in OpenAI's API, and ``POST /v1/systemone`` as in transformers' server."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field, JsonValue, StrictBool, StrictStr
from starlette.responses import Response

from nanoemox.inference.decide import Decisions
from nanoemox.inference.questions import MAX_OPTIONS, MAX_QUESTIONS, Decision, Option, Question
from nanoemox.serving.errors import ApiError, json_response
from nanoemox.serving.media import ClipInput, Medium, medium_from_base64
from nanoemox.serving.parts import Call, Json, Message, RequestModel, StrictModel, Text, clean, clip_input_of, json_text
from nanoemox.serving.service import Service
from nanoemox.serving.work import DecideWork

routes = APIRouter()
Instructions = str | list[Annotated[Text | Json, Field(discriminator="type")]]


class PredicateIn(RequestModel):
    """A yes-no question."""

    type: Literal["predicate"]
    instructions: Instructions
    name: str | None = None


class ChoiceOption(RequestModel):
    """An option of a choice."""

    value: StrictStr | StrictBool
    description: str | None = None


class ChoiceIn(RequestModel):
    """A choice among options."""

    type: Literal["choice"]
    instructions: Instructions
    choices: list[ChoiceOption] = Field(min_length=2, max_length=MAX_OPTIONS)
    name: str | None = None


class Level(RequestModel):
    """A level of a score, lowest first."""

    label: str
    description: str | None = None


class ScoreIn(RequestModel):
    """A score on ordered levels."""

    type: Literal["score"]
    instructions: Instructions
    levels: list[Level] = Field(min_length=2, max_length=MAX_OPTIONS)
    name: str | None = None


AnyQuestion = Annotated[PredicateIn | ChoiceIn | ScoreIn, Field(discriminator="type")]


class DecisionsIn(RequestModel):
    """A request for decisions."""

    model: str
    input: str | list[Message | Call]
    questions: list[AnyQuestion] = Field(min_length=1, max_length=MAX_QUESTIONS)


class SystemOneIn(StrictModel):
    """A request for decisions in the System One format."""

    model: str | None = None
    state: str | dict[str, JsonValue] | list[JsonValue]
    questions: dict[str, NoulIn | CriteriaIn | LevelsIn] = Field(min_length=1, max_length=MAX_QUESTIONS)
    assets: dict[str, AssetIn] = Field(default_factory=dict, max_length=16)


class NoulIn(StrictModel):
    """A yes-no question."""

    type: Literal["noul"]
    instructions: JsonValue = None
    criteria: dict[Literal["true", "false"], JsonValue] | None = None


class CriteriaIn(StrictModel):
    """A choice among options."""

    type: Literal["choice"]
    instructions: JsonValue = None
    criteria: dict[str, JsonValue] = Field(min_length=2, max_length=MAX_OPTIONS)


class LevelsIn(StrictModel):
    """A score on ordered levels."""

    type: Literal["score"]
    instructions: JsonValue = None
    criteria: list[JsonValue] = Field(min_length=2, max_length=MAX_OPTIONS)


class AssetIn(StrictModel):
    """An image, keyed by its placeholder; audio and video are extensions."""

    type: Literal["image", "audio", "video"] = "image"
    format: str | None = None
    data_base64: str


SystemOneIn.model_rebuild()


@routes.post("/v1/decisions")
async def decisions(request: Request, body: DecisionsIn) -> Response:
    """Answer typed questions about text, images, audio and video."""
    service: Service = request.app.state.service
    service.check_model(body.model)
    source = ClipInput(clean(body.input)) if isinstance(body.input, str) else clip_input_of(body.input)
    found = await _decide(service, request, source, [_question(q) for q in body.questions])
    usage = {
        "input_tokens": found.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": found.input_tokens,
    }
    answers = [a.to_dict() for a in found.answers]
    return json_response({"model": body.model, "answers": answers, "usage": usage, "warnings": list(found.warnings)})


@routes.post("/v1/systemone")
async def systemone(request: Request, body: SystemOneIn) -> Response:
    """Answer typed questions about a state and its assets."""
    service: Service = request.app.state.service
    service.check_model(body.model)
    state = clean(body.state) if isinstance(body.state, str) else json_text(body.state)
    for placeholder in sorted(body.assets, key=len, reverse=True):
        state = state.replace(placeholder, "") if placeholder else state
    media: list[Medium] = [medium_from_base64(asset.type, asset.data_base64) for asset in body.assets.values()]
    asked = [_system_question(name, q) for name, q in body.questions.items()]
    found = await _decide(service, request, ClipInput(state, media=media), asked)
    answers = {q.name: _system_answer(a) for q, a in zip(asked, found.answers, strict=True)}
    usage = {"input_tokens": found.input_tokens, "output_tokens": 0}
    return json_response({"model": body.model or service.names[0], "answers": answers, "usage": usage})


async def _decide(service: Service, request: Request, source: ClipInput, asked: list[Question]) -> Decisions:
    async def work() -> Decisions:
        clip = await service.clip(source)
        found: Decisions = await service.batcher.run(DecideWork(service.engine), (clip, tuple(asked)))
        return found

    return await service.while_connected(request, work())


def _question(given: PredicateIn | ChoiceIn | ScoreIn) -> Question:
    asked = given.instructions
    if not isinstance(asked, str):
        asked = "\n".join(p.text if isinstance(p, Text) else json_text(p.data) for p in asked)
    asked, name = clean(asked), given.name
    if isinstance(given, PredicateIn):
        return Question.predicate(asked, name=name)
    if isinstance(given, ChoiceIn):
        return Question.choice(asked, [Option(c.value, c.description) for c in given.choices], name=name)
    return Question.score(asked, [Option(v.label, v.description) for v in given.levels], name=name)


def _text(value: JsonValue) -> str | None:
    """Return text as it is, an object as JSON."""
    return None if value is None else clean(value) if isinstance(value, str) else json_text(value)


def _system_question(name: str, given: NoulIn | CriteriaIn | LevelsIn) -> Question:
    asked = _text(given.instructions) or name
    if isinstance(given, NoulIn):
        criteria = {key: _text(value) for key, value in (given.criteria or {}).items()}
        return Question.predicate(asked, if_true=criteria.get("true"), if_false=criteria.get("false"), name=name)
    if isinstance(given, CriteriaIn):
        return Question.choice(asked, [Option(k, _text(v)) for k, v in given.criteria.items()], name=name)
    levels = [_text(level) for level in given.criteria]
    if any(level is None for level in levels):
        raise ApiError(400, "a level is null: describe every level", param="questions")
    return Question.score(asked, [Option(level or "") for level in levels], name=name)


def _system_answer(answer: Decision) -> dict[str, Any]:
    asked = answer.question
    if asked.form == "predicate":
        return {"type": "noul", "noul": answer.probability}
    if asked.form == "choice":
        shares = {str(o.value): p for o, p in zip(asked.options, answer.probabilities, strict=True)}
        head = {"type": "choice", "choice": answer.choice}
        return {**head, "confidence": answer.confidence, "probabilities": shares}
    return {
        "type": "score",
        "score": answer.score,
        "legend": {str(i): o.value for i, o in enumerate(asked.options)},
        "confidence": answer.confidence,
        "probabilities": {str(i): p for i, p in enumerate(answer.probabilities)},
    }
