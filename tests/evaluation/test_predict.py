"""Journals of predictions: shares of several processes, limits, what a kill leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from nanoemox.data.manifest import ClosedLabels, Sample, write_manifest
from nanoemox.engine import Engine
from nanoemox.evaluation.answerer import Reply
from nanoemox.evaluation.baselines import Majority, shuffled_media
from nanoemox.evaluation.benchmarks import Benchmark, get_benchmark
from nanoemox.evaluation.predict import Asked, Place, merge, predict, read_asked
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import NanoEmoXError

MELD = get_benchmark("meld")


def sample(i: int, split: str = "test", label: str = "joy") -> Sample:
    labels = ClosedLabels(label=label, candidates=LABEL_SETS["meld"])
    return Sample(id=f"c{i}", corpus="meld", split=split, task="mer", labels=labels, subtitle="words")


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
    asked = Asked(MELD, [sample(i) for i in range(7)], [])
    echoes = [Echo() for _ in range(3)]
    for rank, echo in enumerate(echoes):
        predict(echo, asked, tmp_path, batch=2, place=Place(rank, 3))
    assert sorted(name for echo in echoes for name in echo.asked) == [f"c{i}" for i in range(7)]
    merge(tmp_path, [asked])
    assert ids(tmp_path) == [f"c{i}" for i in range(7)]
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.jsonl"]
    alone = Echo()
    predict(alone, asked, tmp_path)
    assert alone.asked == []


def test_a_torn_last_line_is_asked_again_and_a_broken_one_is_told(tmp_path: Path) -> None:
    asked = Asked(MELD, [sample(i) for i in range(3)], [])
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


def test_a_smaller_limit_asks_some_of_a_larger_ones_clips(tmp_path: Path) -> None:
    write_manifest([sample(i) for i in range(20)], tmp_path / "manifests" / "meld.jsonl")
    few, more = ([s.id for s in read_asked(MELD, tmp_path, n).samples] for n in (4, 9))
    assert (len(few), len(more)) == (4, 9)
    assert set(few) < set(more)
    assert more == sorted(more, key=lambda name: int(name[1:]))
    write_manifest([sample(0, "train")], tmp_path / "manifests" / "meld.jsonl")
    with pytest.raises(NanoEmoXError, match="no test clip of meld"):
        read_asked(MELD, tmp_path)


def test_majority_is_counted_in_training_before_anywhere_else() -> None:
    test = [sample(i, label="joy") for i in range(5)]
    train = [sample(i, "train", "fear") for i in range(2)]
    assert (Majority.count(MELD, test + train).text, Majority.count(MELD, test).text) == ("fear", "joy")
    assert Majority.count(MELD, test).source == "test"
    assert Majority.count(MELD, test + train).answer(MELD, test[:1])[0].parsed == {"label": "fear", "raw": "fear"}


def test_shuffled_media_are_another_clips_and_words_stay(tmp_path: Path) -> None:
    samples = [sample(i).model_copy(update={"media": f"{i % 4}.mp4"}) for i in range(8)]
    engine = Engine.__new__(Engine)
    change = shuffled_media(engine, tmp_path, samples).change
    assert change is not None
    changed = [change(s) for s in samples]
    assert all(new.media != old.media for new, old in zip(changed, samples, strict=True))
    assert {s.media for s in changed} == {s.media for s in samples}
    assert [s.model_copy(update={"media": None}) for s in changed] == [
        s.model_copy(update={"media": None}) for s in samples
    ]
    silent = sample(9)
    assert change(silent) == silent
