"""Benchmark records."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoemox.benchmarks.predict import read_eval_set
from nanoemox.benchmarks.records import BENCHMARKS, GROUPS, expand, get_benchmark, guess
from nanoemox.data.corpora import READERS
from nanoemox.tasks import TASKS
from nanoemox.types import NanoEmoXError


def test_ids_and_groups() -> None:
    assert all(key == record.id for key, record in BENCHMARKS.items())
    assert set(GROUPS["all"]) == set(BENCHMARKS)
    assert {b.task for b in expand(["intent"])} == {"mir"}
    # MER-UniBench has no intents, replies or explanations, and sizes that AffectGPT's paper states.
    unibench = expand(["mer-unibench"])
    assert {b.task for b in unibench} == {"mer", "msa", "ovmer"}
    assert sum(b.num_samples or 0 for b in unibench) == 12_599


@pytest.mark.parametrize("record", BENCHMARKS.values(), ids=lambda b: b.id)
def test_every_benchmark_has_a_valid_question(record: object) -> None:
    assert isinstance(record, type(get_benchmark("meld")))
    assert record.corpus in READERS
    assert record.task in TASKS
    assert record.identifier.startswith("[")
    assert TASKS[record.task].closed == bool(record.labels) or record.task == "erg"
    assert record.metrics


def test_sizes_of_the_two_second_intent_sets() -> None:
    assert get_benchmark("mintrec2").num_samples == 2033
    assert get_benchmark("mintrec2_paper").num_samples == 1044
    assert get_benchmark("mintrec2_paper").list_file is not None


def test_expand_takes_ids_and_groups_once() -> None:
    assert [b.id for b in expand(["intent", "meld", "mintrec"])] == ["mintrec", "mintrec2", "mintrec2_paper", "meld"]
    with pytest.raises(NanoEmoXError, match="unknown benchmark 'mosi'; there are mer2023, "):
        expand(["mosi"])


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("out/results-iemocapfour/run/checkpoint_1.npz", "iemocap"),
        ("results-MELD\\x.npz", "meld"),
        ("runs/ch_sims_v2/predictions.jsonl", "ch_sims_v2"),
        ("results-mintrec2", "mintrec2"),
        ("meld-notes/x.npz", None),
    ],
)
def test_a_path_may_name_its_benchmark(path: str, found: str | None) -> None:
    benchmark = guess(path)
    assert (benchmark and benchmark.id) == found


def test_published_protocol_uses_open_questions() -> None:
    assert get_benchmark("cmu_mosi").published_question == "ovmer"
    assert get_benchmark("mintrec").published_question == "mir"


def test_speakers_used_for_model_selection_are_noted() -> None:
    record = get_benchmark("ravdess")
    assert (record.split, record.num_samples) == ("validation", 240)
    assert "chosen on them" in (record.note or "")
    assert {b.split for b in BENCHMARKS.values() if b.id != "ravdess"} == {"test"}


def test_real_annotations_without_clips_become_text_samples(shared: Path, tmp_path: Path) -> None:
    for name, folder in {"annotations": "", "meld": "meld", "emer": "emer"}.items():
        (tmp_path / name).symlink_to(shared / "data/annotations" / folder)
    for key, size in {"meld": 2610, "mintrec": 445, "mintrec2": 2033, "mintrec2_paper": 1044, "emer": 93}.items():
        samples = read_eval_set(get_benchmark(key), tmp_path).samples
        assert len(samples) == size
        assert all(s.subtitle and not s.media for s in samples)


@pytest.mark.slow
def test_real_voices_of_the_four_actors(shared: Path) -> None:
    samples = read_eval_set(get_benchmark("ravdess"), shared / "data").samples
    assert len(samples) == get_benchmark("ravdess").num_samples
    assert {s.speaker for s in samples} == {f"actor-{i}" for i in (17, 18, 19, 20)}
