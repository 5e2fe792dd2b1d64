"""The published schema of an answer: what the embedded model gives fits it, and it says no to what is not an answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from nanoemox import Engine, answer_schema
from nanoemox.inference.decoding import GenerationOptions
from nanoemox.inference.options import AnswerOptions
from nanoemox.inference.timeline import TimelineOptions
from nanoemox.tasks import ALL_TASKS
from nanoemox.types import Answer, Reading, Think, Transcript, Word
from tests.cli.test_cli import SAMPLE

SCHEMA = jsonschema.Draft202012Validator(answer_schema())
SHORT = AnswerOptions(explain=True, generation=GenerationOptions(max_new_tokens=4))


def plain(answer: Answer) -> Any:
    """An answer as its readers get it."""
    return json.loads(json.dumps(answer.to_dict(), allow_nan=False))


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    engine = Engine.from_pretrained("mini")
    whole = engine.answer(SAMPLE, ALL_TASKS, options=SHORT)
    words = engine.answer(text="It is over.", tasks=("msa", "ovmer"), options=replace(SHORT, explain=False))
    windows = engine.timeline(SAMPLE, TimelineOptions(every_s=2.0, window_s=2.0, tasks=("msa",)))
    heard = Transcript("Hello.", "en", 0.9, "transcribe", 0.8, 0.1, (Word(0.0, 0.4, "Hello."),))
    chain = {"erg": Reading("erg", "…", reply="Oh.", think=Think("a", "b", "c", "d")), "mer": Reading("mer", "?")}
    return [whole, words, next(iter(windows)), Answer("a.wav", "m", chain, heard=heard), Answer("a.wav", "m", {})]


def test_real_answers_fit(answers: list[Answer]) -> None:
    jsonschema.Draft202012Validator.check_schema(answer_schema())
    seen: set[str] = set()
    for answer in answers:
        found = plain(answer)
        SCHEMA.validate(found)
        assert found["version"] == 1
        seen |= set(found)
    assert seen == set(answer_schema()["properties"])


def test_the_schema_names_every_field_of_a_reading(answers: list[Answer]) -> None:
    kinds = answer_schema()["properties"]["tasks"]["additionalProperties"]["anyOf"]
    fields = [set(kind["properties"]) for kind in kinds]
    for reading in (r for answer in answers for r in plain(answer)["tasks"].values()):
        assert any(set(reading) <= names for names in fields), reading


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2},
        {"tasks": {"mer": {"label": "happy", "probabilities": {"happy": 1.5}, "raw": ""}}},
        {"tasks": {"mer": {"label": "happy"}}},
        {"tasks": []},
        {"gate": 1},
        {"span_s": [0]},
    ],
)
def test_what_is_not_an_answer(answers: list[Answer], wrong: dict[str, Any]) -> None:
    assert not SCHEMA.is_valid(plain(answers[0]) | wrong)
    missing = {k: v for k, v in plain(answers[0]).items() if k not in wrong}
    assert SCHEMA.is_valid(missing) == ("span_s" in wrong)
