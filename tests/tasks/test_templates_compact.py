"""The compact layout: the same tasks and identifiers in fewer tokens, candidates in one order."""

from __future__ import annotations

from nanoemox.model.processing import Ask
from nanoemox.tasks import ALL_TASKS
from nanoemox.tasks.templates import load_templates
from tests.tiny import tiny_processor


def test_every_question_is_shorter_and_keeps_its_identifier() -> None:
    compact, full = load_templates(layout="compact"), load_templates()
    for task in ALL_TASKS:
        short, long = compact.tasks[task].questions[0], full.tasks[task].questions[0]
        assert len(short) < len(long)
        assert short.split("]")[0] == long.split("]")[0]


def test_candidate_order_does_not_affect_the_prompt() -> None:
    processor = tiny_processor()
    processor.templates = load_templates(layout="compact")
    one, other = (Ask("mer", labels) for labels in (("sad", "happy", "angry"), ("happy", "angry", "sad")))
    assert processor.question_ids(one) == processor.question_ids(other)
