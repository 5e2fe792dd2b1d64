"""The plan of a human study: clips, dialogues, wording of criteria."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoemox.judging.judge_prompts import MAX_TEXT_CHARS, load_prompt
from nanoemox.study.plan import load_criteria, plan_study
from nanoemox.types import NanoEmoXError, Turn
from tests.study.rated_runs import CRITERIA, TALK, reply_row, two_runs, write_run


def test_criteria_match_the_judge_prompt() -> None:
    prompt = load_prompt("erg")
    criteria = load_criteria()
    assert tuple(c.name for c in criteria) == CRITERIA == prompt.dimensions
    for criterion in criteria:
        assert list(criterion.anchors) == ["1", "3", "5"]
        assert all(text in prompt.system for text in criterion.anchors.values())
        assert "ANSWER" not in criterion.question
        assert criterion.question.endswith("?")


def test_equal_arguments_give_equal_plans(tmp_path: Path) -> None:
    runs = two_runs(tmp_path, 40)
    plan = plan_study(runs, 10, 0)
    assert plan == plan_study([run / "predictions.jsonl" for run in runs], 10, 0)
    assert plan.runs == ("alpha", "omega")
    clips = [item.name for item in plan.items]
    assert len(set(clips)) == 10
    assert clips != sorted(clips)
    assert clips != [item.name for item in plan_study(runs, 10, 1).items]
    assert [item.name for item in plan_study(runs, 500, 0).items][:10] == clips
    assert all(item.replies == (f"Hm, {item.name}", f"Oh, {item.name}") for item in plan.items)
    assert plan.items[0].dialogue == tuple(Turn(**turn) for turn in TALK)


def test_only_clips_of_every_run_and_the_last_row_of_each(tmp_path: Path) -> None:
    other = {"benchmark": "meld", "id": "a", "truth": "joy", "parsed": {"label": "joy"}}
    first = write_run(tmp_path / "x", [reply_row("a", "old"), reply_row("b", "B"), other, reply_row("a", "new")])
    second = write_run(tmp_path / "y", [reply_row("c", "C"), reply_row("a", None, "Hello."), reply_row("b", "  ")])
    items = {item.name: item for item in plan_study([second, first], 9, 0).items}
    assert {name: item.replies for name, item in items.items()} == {"a": (None, "new"), "b": (None, "B")}
    assert items["a"].dialogue == (Turn("", "Hello."),)
    assert items["b"].dialogue == ()


def test_runs_of_one_name_are_distinguished(tmp_path: Path) -> None:
    one, two = (two_runs(tmp_path / name)[0] for name in ("one", "two"))
    assert plan_study([one, two], 3, 0).runs == ("one/alpha", "two/alpha")


def test_hostile_texts(tmp_path: Path) -> None:
    run = write_run(tmp_path / "x", [reply_row("a", "\ud800" + "x" * 10**5, [{"role": "<b>", "text": "\udfff"}])])
    item = plan_study([run], 1, 0).items[0]
    assert item.replies == ("?" + "x" * (MAX_TEXT_CHARS - 1),)
    assert item.dialogue == (Turn("<b>", "?"),)


@pytest.mark.parametrize("context", [3, [3], ["x"], [{"role": "speaker"}], [{"role": None, "text": "x"}], {"a": 1}])
def test_missing_context(tmp_path: Path, context: object) -> None:
    with pytest.raises(NanoEmoXError, match="context is no list of turns"):
        plan_study([write_run(tmp_path / "x", [reply_row("a", "b", context)])], 1, 0)


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    first = two_runs(tmp_path)[0]
    with pytest.raises(NanoEmoXError, match="name each run once"):
        plan_study([first, first / "predictions.jsonl"], 1, 0)
    with pytest.raises(NanoEmoXError, match="No such file"):
        plan_study([first, tmp_path / "none"], 1, 0)
    with pytest.raises(NanoEmoXError, match="no common clip"):
        plan_study([first, write_run(tmp_path / "z", [reply_row("other", "x")])], 1, 0)
    with pytest.raises(NanoEmoXError, match="different dialogues of clip 'c0'"):
        plan_study([first, write_run(tmp_path / "z", [reply_row("c0", "x", TALK[:1])])], 1, 0)
    with pytest.raises(NanoEmoXError, match="holds no empathetic reply"):
        plan_study([first, write_run(tmp_path / "z", [reply_row("c0", None)])], 1, 0)
    with pytest.raises(NanoEmoXError, match="row 1 has no benchmark and id"):
        plan_study([write_run(tmp_path / "z", [{"id": "a"}])], 1, 0)
