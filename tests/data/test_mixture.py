from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoemox.data.manifest import ClosedLabels, Sample
from nanoemox.data.mixture import Mixture
from nanoemox.types import RecipeError


def samples(name: str, count: int) -> list[Sample]:
    labels = ClosedLabels(label="a", candidates=("a", "b"))
    return [
        Sample(id=f"{name}{i}", corpus=name, split="train", task="mer", labels=labels, subtitle="x")
        for i in range(count)
    ]


SOURCES = {"x": samples("x", 7), "y": samples("y", 1234), "z": samples("z", 50)}
WEIGHTS = {"x": 18.0, "y": 28.0, "z": 5.0}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.5, 100), min_size=1, max_size=3), st.integers(0, 99))
def test_ratios_within_a_percent(weights: list[float], seed: int) -> None:
    chosen = dict(zip(SOURCES, weights, strict=False))
    mixture = Mixture(SOURCES, chosen, seed)
    drawn = Counter(mixture[i][0] for i in range(10_000))
    for name, weight in chosen.items():
        assert abs(drawn[name] / 10_000 - weight / sum(weights)) < 0.01


def test_sampling_depends_only_on_the_position() -> None:
    one, other = Mixture(SOURCES, WEIGHTS, 3), Mixture(SOURCES, WEIGHTS, 3)
    forward = [one[i][1].id for i in range(3000)]
    assert [other[i][1].id for i in reversed(range(3000))] == forward[::-1]
    assert [Mixture(SOURCES, WEIGHTS, 4)[i][1].id for i in range(100)] != forward[:100]


def test_epochs_are_complete_and_reshuffled() -> None:
    mixture = Mixture(SOURCES, WEIGHTS, 0)
    drawn = [s.id for name, s in (mixture[i] for i in range(2000)) if name == "x"]
    epochs = [drawn[i : i + 7] for i in range(0, 70, 7)]
    assert all(len(set(e)) == 7 for e in epochs)
    assert len({tuple(e) for e in epochs}) > 5


def test_a_batch_mixes_sources() -> None:
    mixture = Mixture(SOURCES, WEIGHTS, 0)
    assert len({mixture[i][0] for i in range(32)}) == 3


def test_unusable_weights() -> None:
    with pytest.raises(RecipeError, match="positive"):
        Mixture(SOURCES, {"x": 0.0, "y": 1.0}, 0)
    with pytest.raises(RecipeError, match="no sample for x"):
        Mixture({"x": []}, {"x": 1.0}, 0)
    with pytest.raises(RecipeError, match="weight of x is below"):
        Mixture(SOURCES, {"x": 1e-5, "y": 1.0}, 0)
