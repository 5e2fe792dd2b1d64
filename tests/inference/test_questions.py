"""Questions: three types, three notations, and invalid ones."""

from __future__ import annotations

import json
import typing
from pathlib import Path

import pytest

from nanoemox.inference.questions import FORMS, Decision, Option, Question, as_question, check_questions, read_questions
from nanoemox.model.calibration import Calibration
from nanoemox.types import NanoEmoXError

CHOICE = Question.choice("Is the speaker sincere?", ["yes", "no", "not clear"])


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("choice: Is the speaker sincere? yes|no| not clear", CHOICE),
        ("predicate: Is the speaker tired?", Question.predicate("Is the speaker tired?")),
        ("Predicate: The speaker is tired.", Question.predicate("The speaker is tired.")),
        ("score: How tense? calm|tense", Question.score("How tense?", ["calm", "tense"])),
        ("choice: Hm? No: pick one: a|b?|c", Question.choice("Hm? No: pick one:", ["a", "b?", "c"])),
    ],
)
def test_short_forms(line: str, wanted: Question) -> None:
    assert as_question(line) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("Is he sad?", "write 'predicate"),
        ("choice: Is he sad?", "bars between"),
        ("choice: yes|no", "options follow the question mark"),
        ("choice: Sad? yes", "bars between"),
        ("choice: Sad? yes|yes", "given twice: yes"),
        ("choice: Sad? yes|", "an option is empty"),
        ("predicate:  ", "write 'predicate"),
        ({"type": "guess", "instructions": "Sad?"}, "needs type"),
        ({"type": "predicate", "instructions": ["Sad?"]}, "instructions as text"),
        ({"type": "predicate", "instructions": "Sad?", "choices": []}, "choices is no part of a predicate"),
        ({"type": "choice", "instructions": "Sad?"}, "needs choices"),
        ({"type": "choice", "instructions": "Sad?", "choices": [{"value": 3}, "b"]}, "needs value as text"),
        ({"type": "choice", "instructions": "Sad?", "choices": [{"value": "a", "x": 1}, "b"]}, "needs value"),
        ({"type": "score", "instructions": "Sad?", "levels": [True, False]}, "needs label as text"),
        ({"type": "score", "instructions": "Sad?", "levels": ["a"]}, "1 option"),
        ({"type": "choice", "instructions": "Sad?", "choices": [str(i) for i in range(256)]}, "256 option"),
        ({"type": "predicate", "instructions": " "}, "no question"),
        ({"type": "predicate", "instructions": "a" * 8001}, "characters with its options, limit 8000"),
        (3, "question 3"),
    ],
)
def test_invalid_questions_are_refused(given: object, message: str) -> None:
    with pytest.raises(NanoEmoXError, match=message):
        as_question(given)  # type: ignore[arg-type]


def test_numbers_of_questions() -> None:
    assert len(check_questions(["predicate: Sad?"] * 400)) == 400
    assert check_questions("predicate: Sad?") == (Question.predicate("Sad?"),)
    for wrong in ([], ["predicate: Sad?"] * 401):
        with pytest.raises(NanoEmoXError, match="between 1 and 400"):
            check_questions(wrong)
    with pytest.raises(NanoEmoXError, match="not one string"):
        Question.choice("Sad?", "yes|no")


@pytest.mark.parametrize(
    "question",
    [
        CHOICE,
        Question.predicate("Sad?", name="sad"),
        Question.score("How sad?", [Option("a bit", "hardly"), "very"], name="degree"),
        Question.choice("Typed?", [True, "true", Option(False, "no, never")]),
    ],
)
def test_objects_come_back(question: Question, tmp_path: Path) -> None:
    assert as_question(json.loads(json.dumps(question.to_dict()))) == question
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"questions": [question.to_dict()]}))
    assert read_questions(path) == (question,)


def test_files_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("# two of them\npredicate: Sad?\n\nchoice: Is the speaker sincere? yes|no|not clear\n")
    assert read_questions(path) == (Question.predicate("Sad?"), CHOICE)
    for text, message in (('{"a": 1}', "list of questions"), ("[1", "not valid JSON"), ("Sad?", "write")):
        path.write_text(text)
        with pytest.raises(NanoEmoXError, match=message):
            read_questions(path)
    with pytest.raises(NanoEmoXError, match=r"gone\.txt: no such file"):
        read_questions(tmp_path / "gone.txt")


def test_decision_values() -> None:
    assert Question.predicate("Sad?").texts == ("yes", "no")
    assert Question.choice("Which?", ["Ask_for  Help", "OPPOSE", True]).texts == ("ask for help", "oppose", "true")
    assert Question.choice("Which?", [True, "true", "No"]).texts == ("true", '"true"', '"No"')
    assert Question.choice("Which?", ["Yes", "yes"]).texts == ('"Yes"', '"yes"')
    assert len(set(Question.choice("Which?", [True, "true", '"true"']).texts)) == 3


def test_expected_level_and_confidence() -> None:
    even = Decision(Question.score("How?", ["a", "b", "c"]), (1 / 3, 1 / 3, 1 / 3))
    assert even.score == pytest.approx(1.0)
    assert even.confidence == pytest.approx(0, abs=1e-9)
    sure = Decision(Question.score("How?", ["a", "b", "c"]), (0.0, 0.0, 1.0))
    assert (sure.score, sure.confidence, sure.choice) == (2.0, 1.0, "c")
    likely = Decision(Question.choice("How?", ["a", "b"]), (0.25, 0.75), (0.5, 0.5))
    assert likely.confidence == pytest.approx(0.5)
    assert likely.to_dict()["probabilities"][1] == {"value": "b", "probability": 0.75, "raw": 0.5}
    yes = Decision(Question.predicate("So?", name="so"), (0.9, 0.1))
    assert yes.to_dict() == {"type": "predicate", "name": "so", "probability": 0.9, "raw": 0.9}


def test_calibration_names_the_forms() -> None:
    kind = typing.get_type_hints(Calibration)["forms"]
    assert typing.get_args(typing.get_args(kind)[0]) == FORMS
