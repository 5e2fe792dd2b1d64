"""Set scores by hand, against scikit-learn, against the published predictions' file, and as properties."""

from __future__ import annotations

import ast
import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from nanoemox.scoring import set_f1_statistic, set_precision_recall, set_scores
from nanoemox.types import NanoEmoXError

WORDS = ("angry", "calm", "glad", "sad", "tired")
some = st.lists(st.sampled_from(WORDS), max_size=6)
rows = st.lists(st.tuples(some.filter(bool), some), min_size=1, max_size=30)


def _harmonic(p: float, r: float) -> float:
    return 2 * p * r / (p + r) if p + r else 0.0


def test_by_hand() -> None:
    truth = [["sad", "tired"], ["glad"], [], ["calm"]]
    predicted = [["sad", "sad", "angry", "glad"], [], ["calm"], None]
    assert set_precision_recall(truth, predicted).tolist() == [[1 / 3, 1 / 2], [0, 0], [0, 0]]
    scores = set_scores(truth, predicted)
    p, r = 1 / 9, 1 / 6
    assert (scores.precision, scores.recall) == pytest.approx((p, r))
    assert scores.f1 == pytest.approx(_harmonic(p, r))
    assert scores.num_samples == 3


def test_f_is_of_the_averages_not_the_average_of_fs() -> None:
    scores = set_scores([["a"], ["a", "b"]], [["a", "b"], ["a"]])
    assert scores.f1 == pytest.approx(0.75)  # the average of the samples' F would be 2/3


@given(rows)
def test_equal_to_scikit_learn(pairs: list[tuple[list[str], list[str]]]) -> None:
    truth, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    binarize = MultiLabelBinarizer(classes=list(WORDS))
    p, r, _, _ = precision_recall_fscore_support(
        binarize.fit_transform(truth), binarize.transform(predicted), average="samples", zero_division=0
    )
    scores = set_scores(truth, predicted)
    assert (scores.precision, scores.recall) == pytest.approx((p, r), abs=1e-12)
    assert scores.f1 == pytest.approx(_harmonic(p, r), abs=1e-12)


@given(rows)
def test_properties(pairs: list[tuple[list[str], list[str]]]) -> None:
    truth, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    scores = set_scores(truth, predicted)
    for value in (scores.f1, scores.precision, scores.recall):
        assert 0 <= value <= 1 + 1e-12
    assert set_scores(truth[::-1], predicted[::-1]).f1 == pytest.approx(scores.f1, abs=1e-12)
    assert set_scores(truth, [p[::-1] * 2 for p in predicted]) == scores
    assert set_scores(truth, truth).f1 == 1
    everything = set_scores(truth, [WORDS] * len(truth))
    assert everything.recall == 1
    assert everything.precision <= 1


def test_nothing_in_common_is_zero_not_a_crash() -> None:
    assert set_scores([["a"]], [["b"]]).f1 == 0
    assert set_scores([["a"]], [None]).f1 == 0


def test_the_statistic_equals_scoring_each_resample() -> None:
    generator = np.random.default_rng(0)
    truth = [generator.choice(WORDS, 2).tolist() for _ in range(20)]
    predicted = [generator.choice(WORDS, 3).tolist() for _ in range(20)]
    indices = generator.integers(0, 20, (5, 20))
    scores = set_f1_statistic(truth, predicted)(indices)
    for row, score in zip(indices, scores, strict=True):
        assert score == pytest.approx(set_scores([truth[i] for i in row], [predicted[i] for i in row]).f1)


def test_mistakes_are_named() -> None:
    with pytest.raises(NanoEmoXError, match="1 true sets but 2"):
        set_scores([["a"]], [["a"], ["b"]])
    with pytest.raises(NanoEmoXError, match="0 of 1 samples"):
        set_scores([[]], [["a"]])
    with pytest.raises(NanoEmoXError, match="'sad, calm' is a string"):
        set_scores([["sad"]], ["sad, calm"])


def test_real_predictions(shared: Path) -> None:
    columns = []
    for name in ("check", "predict"):
        path = shared / f"data/annotations/mer2024/ov_store/{name}-openset.csv"
        with path.open(newline="", encoding="utf-8") as file:
            columns.append({row["name"]: ast.literal_eval(row["openset"]) for row in csv.DictReader(file)})
    truth, predicted = columns
    scores = set_scores(list(truth.values()), [predicted[name] for name in truth])
    assert scores.num_samples == 332
    assert 0.1 < scores.f1 < 0.9
