"""Prediction journals: several processes, limits, recovery after a kill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from nanoemox.benchmarks.answerer import Reply
from nanoemox.benchmarks.predict import EvalSet, ProcessRank, merge, predict, read_eval_set
from nanoemox.benchmarks.records import Benchmark, get_benchmark
from nanoemox.data.manifest import ReplyLabels, Sample, write_manifest
from nanoemox.types import NanoEmoXError, Think, Turn
from tests.benchmarks.served import MELD
from tests.benchmarks.served import numbered as sample


class Echo:
    """Answers joy, and remembers what it was asked."""

    name = "echo"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        assert benchmark is MELD
        self.asked += [s.id for s in samples]
        return [Reply("joy", {"label": "joy"}) for _ in samples]


def ids(out: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (out / "predictions.jsonl").read_text("utf-8").splitlines()]


def test_several_processes_share_a_run_and_the_first_merges_it(tmp_path: Path) -> None:
    asked = EvalSet(MELD, [sample(i) for i in range(7)], [])
    echoes = [Echo() for _ in range(3)]
    for rank, echo in enumerate(echoes):
        predict(echo, asked, tmp_path, batch=2, process=ProcessRank(rank, 3))
    assert sorted(name for echo in echoes for name in echo.asked) == [f"c{i}" for i in range(7)]
    merge(tmp_path, [asked])
    assert ids(tmp_path) == [f"c{i}" for i in range(7)]
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.jsonl"]
    alone = Echo()
    predict(alone, asked, tmp_path)
    assert alone.asked == []


def test_truncated_last_line_is_redone_and_invalid_line_is_an_error(tmp_path: Path) -> None:
    asked = EvalSet(MELD, [sample(i) for i in range(3)], [])
    predict(Echo(), asked, tmp_path)
    file = tmp_path / "predictions.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    echo = Echo()
    predict(echo, asked, tmp_path)
    assert echo.asked == ["c2"]
    assert ids(tmp_path) == ["c0", "c1", "c2"]
    file.write_text("{nonsense\n" + file.read_text("utf-8"), "utf-8")
    with pytest.raises(NanoEmoXError, match=r"predictions\.jsonl:1: not JSON"):
        predict(echo, asked, tmp_path)


def test_smaller_limit_selects_a_subset(tmp_path: Path) -> None:
    write_manifest([sample(i) for i in range(20)], tmp_path / "manifests" / "meld.jsonl")
    few, more = ([s.id for s in read_eval_set(MELD, tmp_path, n).samples] for n in (4, 9))
    assert (len(few), len(more)) == (4, 9)
    assert set(few) < set(more)
    assert more == sorted(more, key=lambda name: int(name[1:]))
    write_manifest([sample(0, "train")], tmp_path / "manifests" / "meld.jsonl")
    with pytest.raises(NanoEmoXError, match="no test clip of meld"):
        read_eval_set(MELD, tmp_path)


class Moody(Echo):
    """Fails at some clips."""

    def __init__(self, *bad: str) -> None:
        super().__init__()
        self.bad = bad

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        good = super().answer(benchmark, samples)
        return [Reply(error="tired") if s.id in self.bad else r for s, r in zip(samples, good, strict=True)]


def test_unanswered_clips_are_retried_on_request(tmp_path: Path) -> None:
    asked = EvalSet(MELD, [sample(i) for i in range(4)], [])
    predict(Moody("c1", "c2"), asked, tmp_path)
    second, third = Echo(), Moody("c2")
    predict(second, asked, tmp_path)
    predict(third, asked, tmp_path, again=True)
    assert (second.asked, third.asked) == ([], ["c1", "c2"])
    merge(tmp_path, [asked])
    found = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert [row["error"] for row in found] == [None, None, "tired", None]
    assert ids(tmp_path) == ["c0", "c1", "c2", "c3"]


def test_reply_rows_contain_the_dialogue(tmp_path: Path) -> None:
    labels = ReplyLabels(think=Think(scenario="s", emotion="sad", cause="c", goal="g"), reply="I am sorry.")
    history = (Turn(role="speaker", text="Hello."), Turn(role="listener", text="Hi!"))
    said = Sample(
        id="a", corpus="avamerg", split="test", task="erg", labels=labels, subtitle="I lost.", history=history
    )
    silent = said.model_copy(update={"id": "b", "subtitle": None})
    benchmark = get_benchmark("avamerg")

    class Kind:
        name = "kind"

        def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
            return [Reply("oh", {"think": None, "reply": "oh"}) for _ in samples]

    predict(Kind(), EvalSet(benchmark, [said, silent], []), tmp_path)
    first, second = (json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text("utf-8").splitlines())
    turns = [{"role": "speaker", "text": "Hello."}, {"role": "listener", "text": "Hi!"}]
    assert first["context"] == [*turns, {"role": "speaker", "text": "I lost."}]
    assert second["context"] == turns
    assert first["truth"] == "sad"
