"""Rows beside a model: majority, withheld and shuffled media, another order of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from nanoemox.benchmarks.answerer import Reply
from nanoemox.benchmarks.baselines import (
    CopiedRow,
    Majority,
    order_sensitivity,
    other_order,
    own_row,
    reordered,
    shuffled_media,
    text_only,
)
from nanoemox.benchmarks.predict import EvalSet, ProcessRank, merge, predict
from nanoemox.benchmarks.records import BENCHMARKS, Benchmark
from nanoemox.data.manifest import Sample
from tests.benchmarks.served import MELD
from tests.benchmarks.served import numbered as sample


class Listener:
    """Answers nothing, and remembers what it was asked."""

    name = "listener"

    def __init__(self) -> None:
        self.heard: list[tuple[Benchmark, Sample]] = []

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        self.heard += [(benchmark, s) for s in samples]
        return [Reply() for _ in samples]


def test_majority_is_counted_in_training_before_anywhere_else() -> None:
    test = [sample(i, label="joy") for i in range(5)]
    train = [sample(i, "train", "fear") for i in range(2)]
    assert (Majority.count(MELD, test + train).text, Majority.count(MELD, test).text) == ("fear", "joy")
    assert Majority.count(MELD, test).source == "test"
    assert Majority.count(MELD, test + train).answer(MELD, test[:1])[0].parsed == {"label": "fear", "raw": "fear"}


def test_shuffled_media_are_another_clips_and_words_stay() -> None:
    samples = [sample(i).model_copy(update={"media": f"{i % 4}.mp4"}) for i in range(8)]
    change = shuffled_media(Listener(), samples).sample
    changed = [change(s) for s in samples]
    assert all(new.media != old.media for new, old in zip(changed, samples, strict=True))
    assert {s.media for s in changed} == {s.media for s in samples}
    assert [s.model_copy(update={"media": None}) for s in changed] == [
        s.model_copy(update={"media": None}) for s in samples
    ]
    silent = sample(9)
    assert change(silent) == silent


def test_text_only_takes_picture_and_sound_away_whoever_answers() -> None:
    listener = Listener()
    row = text_only(listener)
    row.answer(MELD, [sample(1).model_copy(update={"media": "1.mp4", "audio": "1.wav"})])
    assert (row.name, listener.heard) == ("text-only", [(MELD, sample(1))])


def test_rows_that_are_the_models_own_say_why() -> None:
    words, one = sample(0), sample(1).model_copy(update={"media": "1.mp4"})
    two = sample(2).model_copy(update={"audio": "2.wav"})
    told = {name: own_row(name, [words, one]) for name in ("majority", "text-only", "shuffled-media", "other-order")}
    assert [name for name, why in told.items() if why] == ["shuffled-media"]
    assert [own_row(name, [words, one, two]) for name in told] == [None] * 4
    assert [bool(own_row(name, [words])) for name in told] == [False, True, True, False]
    assert [bool(own_row(name, [one, two], words_alone=True)) for name in told] == [False, True, True, False]


def test_the_models_own_row_is_repeated_by_every_process(tmp_path: Path) -> None:
    asked = EvalSet(MELD, [sample(i) for i in range(5)], [])
    own, row = tmp_path / "run", tmp_path / "row"
    for rank in range(2):
        predict(Listener(), asked, own, batch=2, process=ProcessRank(rank, 2))
        predict(CopiedRow(own, "text-only"), asked, row, batch=2, process=ProcessRank(rank, 2))
    for folder in (own, row):
        merge(folder, [asked])
    assert (row / "predictions.jsonl").read_bytes() == (own / "predictions.jsonl").read_bytes()


def test_another_order_holds_the_same_labels_in_another_order() -> None:
    listener = Listener()
    other_order(listener).answer(MELD, [sample(1)])
    ((asked, shown),) = listener.heard
    assert (asked.id, shown) == ("meld", sample(1))
    assert asked.labels == reordered(MELD.labels) == reordered(MELD.labels)
    for benchmark in BENCHMARKS.values():
        for labels in (benchmark.labels, benchmark.labels[:2]):
            if len(labels) > 1:
                assert reordered(labels) != labels
                assert sorted(reordered(labels)) == sorted(labels)


def test_sensitivity_is_the_share_of_changed_answers_of_clips_answered_twice() -> None:
    first = {"a": "joy", "b": "joy", "c": None, "d": "fear", "e": "fear"}
    found = order_sensitivity(first, {"a": "joy", "b": "fear", "c": "joy", "d": "fear", "x": "joy"})
    assert found is not None
    assert found.estimate == pytest.approx(2 / 4)
    assert 0 <= found.low < found.high <= 1
    assert order_sensitivity({"a": "joy"}, {"b": "joy"}) is None
