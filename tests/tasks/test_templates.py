"""Question templates: invariants independent of the wording."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from nanoemox.tasks import ALL_TASKS, TASKS
from nanoemox.tasks.templates import load_templates
from nanoemox.types import CheckpointError

TEMPLATES: dict[str, Any] = yaml.safe_load(files("nanoemox").joinpath("tasks", "templates.yaml").read_text("utf-8"))
ANSWERS = {"msa": "{label}", "mer": "{label}", "ovmer": "{labels}", "mir": "{label}", "eri": "{text}", "erg": "{chain}"}
# Quoted in our notes on the authors' release: our wording is our own.
AUTHORS = (
    "most likely",
    "candidate labels",
    "recognize speaker's intention",
    "answer my question based on all the provided information",
    "the subtitle of this video is",
    "the dialogue history is",
    "current user input",
    "###human",
    "firstly",
    "<video>",
)


def _questions(key: str) -> list[str]:
    task = TEMPLATES["tasks"][key]
    return [*task["questions"], *task.get("questions_no_think", [])]


def _fields(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_the_file_has_exactly_the_keys_of_its_schema() -> None:
    assert list(TEMPLATES) == [
        "version", "prefix", "media", "history", "history_turn", "subtitle", "suffix", "terminator", "tasks",
    ]  # fmt: skip
    assert TEMPLATES["version"] == 1
    assert tuple(TEMPLATES["tasks"]) == ALL_TASKS
    for key, task in TEMPLATES["tasks"].items():
        extra = {"questions_no_think", "answer_no_think"} if key == "erg" else set()
        assert set(task) == {"questions", "answer"} | extra
        assert task["answer"] == ANSWERS[key]
    assert TEMPLATES["tasks"]["erg"]["answer_no_think"] == "{reply}"


def test_media_sentences_follow_the_paper_and_contain_their_tokens() -> None:
    assert list(TEMPLATES["media"]) == ["fusion", "speech", "face", "vision"]
    for sentence in TEMPLATES["media"].values():
        assert sentence.count("{tokens}") == 1
        assert sentence.endswith("\n")
    assert len(set(TEMPLATES["media"].values())) == 4


def test_chat_markers_around_a_question_are_balanced() -> None:
    assert TEMPLATES["prefix"].startswith("<|im_start|>system\n")
    assert TEMPLATES["prefix"].endswith("<|im_start|>user\n")
    assert TEMPLATES["suffix"] == f"{TEMPLATES['terminator']}\n<|im_start|>assistant\n"
    assert len(TEMPLATES["prefix"].split()) <= 12
    assert _fields(TEMPLATES["history"]) == {"history"}
    assert _fields(TEMPLATES["history_turn"]) == {"role", "text"}
    assert _fields(TEMPLATES["subtitle"]) == {"subtitle"}


@pytest.mark.parametrize("key", ALL_TASKS)
def test_questions(key: str) -> None:
    for name in ("questions", "questions_no_think")[: 2 if key == "erg" else 1]:
        questions = TEMPLATES["tasks"][key][name]
        assert len(questions) >= 4
        assert len({q.casefold() for q in questions}) == len(questions)
    for question in _questions(key):
        assert question.startswith(TASKS[key].identifier + " ")
        assert question.count("{labels}") == (1 if TASKS[key].closed else 0)
        assert _fields(question) <= {"labels"}
        assert len(question.replace("{labels}", "").split()) < 25
        assert question == question.strip()
        assert not question.endswith((" .", ":"))


def test_no_question_belongs_to_two_tasks() -> None:
    everything = [q for key in ALL_TASKS for q in _questions(key)]
    assert len(everything) == len(set(everything))


def test_wording_differs_from_the_authors() -> None:
    text = " ".join(
        [*(q for key in ALL_TASKS for q in _questions(key)), *TEMPLATES["media"].values()]
        + [TEMPLATES[k] for k in ("prefix", "history", "history_turn", "subtitle", "suffix")]
    ).casefold()
    assert [phrase for phrase in AUTHORS if phrase in text] == []


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("tasks", "mer", "questions"), ["Which of {words}?"], r"may hold only \{labels\}"),
        (("tasks", "mer", "questions"), ["Which of {labels}? {words}"], r"may hold only \{labels\}"),
        (("tasks", "mer", "questions"), ["Which of {labels.__class__}?"], "may hold only"),
        (("tasks", "mer", "questions"), ["Which of {labels:>1000000000}?"], "may hold only"),
        (("tasks", "mer", "questions"), ["Which of {labels?"], "braces that do not match"),
        (("tasks", "mer", "questions"), [], "at least 1 item"),
        (("tasks", "eri", "questions"), ["Why, given {words}?"], "which nothing fills in"),
        (("subtitle",), "Says: {words}", r"may hold only \{subtitle\}"),
        (("subtitle",), "Says something.", r"lacks \{subtitle\}"),
        (("history_turn",), "{text}\n", r"lacks \{role\}"),
        (("history",), "{history} {history}", "each once"),
        (("terminator",), "", "no answer would ever end"),
    ],
)
def test_mistakes_are_found_when_templates_are_loaded(
    tmp_path: Path, keys: tuple[str, ...], value: object, says: str
) -> None:
    path = load_templates().save(tmp_path)
    data = yaml.safe_load(path.read_text("utf-8"))
    place = data
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(yaml.safe_dump(data), "utf-8")
    with pytest.raises(CheckpointError, match=says):
        load_templates(path)
