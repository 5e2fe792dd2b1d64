"""Baseline rows: majority, removed and shuffled media, another label order."""

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


def test_majority_class_comes_from_training_if_available() -> None:
    test = [sample(i, label="joy") for i in range(5)]
    train = [sample(i, "train", "fear") for i in range(2)]
    assert (Majority.count(MELD, test + train).text, Majority.count(MELD, test).text) == ("fear", "joy")
    assert Majority.count(MELD, test).source == "test"
    assert Majority.count(MELD, test + train).answer(MELD, test[:1])[0].parsed == {"label": "fear", "raw": "fear"}


def test_shuffled_media_swaps_media_and_keeps_text() -> None:
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


def test_text_only_removes_video_and_audio_for_any_answerer() -> None:
    listener = Listener()
    row = text_only(listener)
    row.answer(MELD, [sample(1).model_copy(update={"media": "1.mp4", "audio": "1.wav"})])
    assert (row.name, listener.heard) == ("text-only", [(MELD, sample(1))])


def test_baseline_rows_equal_to_the_model_have_a_reason() -> None:
    words, one = sample(0), sample(1).model_copy(update={"media": "1.mp4"})
    two = sample(2).model_copy(update={"audio": "2.wav"})
    told = {name: own_row(name, [words, one]) for name in ("majority", "text-only", "shuffled-media", "other-order")}
    assert [name for name, why in told.items() if why] == ["shuffled-media"]
    assert [own_row(name, [words, one, two]) for name in told] == [None] * 4
    assert [bool(own_row(name, [words])) for name in told] == [False, True, True, False]
    assert [bool(own_row(name, [one, two], words_alone=True)) for name in told] == [False, True, True, False]


def test_every_process_repeats_the_models_row(tmp_path: Path) -> None:
    asked = EvalSet(MELD, [sample(i) for i in range(5)], [])
    own, row = tmp_path / "run", tmp_path / "row"
    for rank in range(2):
        predict(Listener(), asked, own, batch=2, process=ProcessRank(rank, 2))
        predict(CopiedRow(own, "text-only"), asked, row, batch=2, process=ProcessRank(rank, 2))
    for folder in (own, row):
        merge(folder, [asked])
    assert (row / "predictions.jsonl").read_bytes() == (own / "predictions.jsonl").read_bytes()


def test_other_order_permutes_the_labels() -> None:
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


def test_order_sensitivity_is_the_share_of_changed_answers() -> None:
    first = {"a": "joy", "b": "joy", "c": None, "d": "fear", "e": "fear"}
    found = order_sensitivity(first, {"a": "joy", "b": "fear", "c": "joy", "d": "fear", "x": "joy"})
    assert found is not None
    assert found.estimate == pytest.approx(2 / 4)
    assert 0 <= found.low < found.high <= 1
    assert order_sensitivity({"a": "joy"}, {"b": "joy"}) is None
