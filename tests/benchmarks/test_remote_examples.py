"""Few-shot examples for served models, and three-step replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanoemox.benchmarks.records import get_benchmark
from nanoemox.benchmarks.remote_examples import ExemplarIndex, draw_examples
from nanoemox.types import Clip, NanoEmoXError
from tests.benchmarks.served import AVAMERG, MELD, TALK, asking, parts, reply, said, sample
from tests.judging.fake_endpoint import Says, in_turn

pytest.importorskip("openai")
CHAIN = "<think>\nscenario: a loss\nemotion: sad\ncause: the cat died\ngoal: comfort\n</think>\nI am so sorry."


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_few_shot_examples_are_training_samples_before_the_question(tmp_path: Path) -> None:
    train = [
        sample(f"t{i}", "train", label, media="no.mp4") for i, label in enumerate(("anger", "fear", "joy", "fear"))
    ]
    others = [sample("v", "validation"), sample("t9", "train").model_copy(update={"subtitle": None})]
    corpus = [sample("x"), sample("y"), *train, *others]
    with asking(tmp_path, in_turn(Says("joy")), corpus, shots=3) as (model, fake):
        model.answer(MELD, corpus[:2])
    by_words = {s.subtitle: s for s in train}
    shown = []
    for request in fake.requests:
        *before, last = request["messages"][1:]
        assert [m["role"] for m in before] == ["user", "assistant"] * 3
        words = [next(w for w in by_words if w and w in m["content"]) for m in before[::2]]
        assert [m["content"] for m in before[1::2]] == [by_words[w].labels.label for w in words]  # type: ignore[union-attr]
        assert "I am x." in last["content"] or "I am y." in last["content"]
        shown.append(words)
    assert shown[0] == shown[1]
    assert len(set(shown[0])) == 3
    assert [s.subtitle for s in draw_examples(MELD, corpus, 2)] == shown[0][:2]


def test_few_shot_examples_are_never_from_the_evaluated_split() -> None:
    corpus = [sample(f"x{i}", "test") for i in range(9)] + [sample("v", "validation")]
    assert [s.id for s in draw_examples(MELD, corpus, 1)] == ["v"]
    with pytest.raises(NanoEmoXError, match=r"--shots 2: corpus meld has 1 samples .* give --shots 1"):
        draw_examples(MELD, corpus, 2)
    ravdess = get_benchmark("ravdess")
    part = [s.model_copy(update={"corpus": "ravdess", "split": ravdess.split}) for s in corpus]
    with pytest.raises(NanoEmoXError, match="has 0 samples"):
        draw_examples(ravdess, part, 1)


def test_three_step_reply_prompting(tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").write_bytes(TALK.read_bytes())
    train = [reply("t1", "train", "sad", "my dog died"), reply("t2", "train", "joyful", "my cat died, hooray"),
             reply("t3", "train", "sad", "nothing of this"), reply("t4", "train", "furious", "red")]  # fmt: skip
    asked = reply("x", "test", "sad", "my cat died").model_copy(update={"media": "talk.mp4"})
    turns = in_turn(Says("emotion: sad\ncause: the cat"), Says("acknowledging, like 1"), Says(CHAIN))
    with asking(tmp_path, turns, [asked, *train], erg_steps=True, shots=2) as (model, fake):
        (found,) = model.answer(AVAMERG, [asked])
    first, second, third = fake.requests
    assert len(parts(first, "image_url")) == 8
    assert "Step 1 of 3" in said(first)
    assert "afraid, angry" in said(first)
    assert [m["role"] for m in second["messages"]] == ["system", "user", "assistant", "user"]
    assert second["messages"][2]["content"] == "emotion: sad\ncause: the cat"
    listed = said(second)
    assert listed.index("reply to t1") < listed.index("reply to t3")  # the emotion first, then common words
    assert "reply to t2" not in listed
    assert third["messages"][:4] == second["messages"]
    assert third["messages"][4]["content"] == "acknowledging, like 1"
    assert "Step 3 of 3" in said(third)
    for request in (second, third):
        assert all(isinstance(m["content"], str) for m in request["messages"])  # media are sent once
        assert "my cat died" in request["messages"][1]["content"]
    assert found.raw == CHAIN
    assert found.parsed is not None
    assert (found.parsed["reply"], found.parsed["think"]["emotion"]) == ("I am so sorry.", "sad")


def test_reasoning_text_is_ignored(tmp_path: Path) -> None:
    asked = reply("x", "test", "sad", "my cat died")
    says = [f"<think>joyful? no</think>{text}" for text in ("emotion: sad", "a plan", CHAIN)]
    with asking(tmp_path, in_turn(*map(Says, says)), [asked], erg_steps=True) as (model, fake):
        (found,) = model.answer(AVAMERG, [asked])
    assert [m["content"] for m in fake.requests[2]["messages"] if m["role"] == "assistant"] == [
        "emotion: sad",
        "a plan",
    ]
    assert found.raw == CHAIN
    assert found.parsed is not None
    assert found.parsed["think"]["emotion"] == "sad"


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_failed_step_leaves_the_clip_unanswered(tmp_path: Path, fails: int) -> None:
    def moody(request: dict[str, Any]) -> Says:
        return Says("no", status=400) if f"Step {fails} of 3" in said(request) else Says("emotion: sad")

    asked = reply("x", "test", "sad", "my cat died")
    with asking(tmp_path, moody, [asked], erg_steps=True) as (model, fake):
        (found,) = model.answer(AVAMERG, [asked])
    assert "status 400" in str(found.error)
    assert len(fake.requests) == fails
    assert "replies that other people" not in json.dumps(fake.requests)  # no training part, no exemplars


def test_exemplar_retrieval_falls_back_to_word_overlap() -> None:
    memory = ExemplarIndex(
        AVAMERG, [reply("t1", "train", "sad", "rain again"), reply("t2", "train", "proud", "my cat won")]
    )
    clip = Clip("x", subtitle="My CAT!")
    assert memory.nearest("who knows", clip, AVAMERG.labels, 1) == [("my cat won", "reply to t2")]
    assert memory.nearest("emotion: sad", clip, AVAMERG.labels, 1) == [("rain again", "reply to t1")]


def test_single_step_replies_follow_the_format(tmp_path: Path) -> None:
    corpus = [reply("x", "test", "sad", "my cat died"), reply("t", "train", "proud", "I won")]
    with asking(tmp_path, in_turn(Says(CHAIN)), corpus, shots=1) as (model, fake):
        (found,) = model.answer(AVAMERG, corpus[:1])
    assert found.parsed is not None
    assert found.parsed["think"]["cause"] == "the cat died"
    assert fake.requests[0]["messages"][2]["content"].startswith("<think>\nscenario: s\nemotion: proud\n")
