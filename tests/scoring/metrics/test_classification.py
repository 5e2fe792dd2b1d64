"""Single-label scores against scikit-learn, by hand, and as properties."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from nanoemox.scoring import (
    accuracy,
    classification_scores,
    confusion_matrix,
    confusion_statistic,
    macro_f1,
    unweighted_average_recall,
    weighted_f1,
    weighted_precision,
)
from nanoemox.types import NanoEmoXError

LABELS = ("anger", "fear", "joy", "sad")
ABSTAINED = "abstained"
METRICS = (accuracy, macro_f1, weighted_f1, weighted_precision, unweighted_average_recall)
pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, None])), min_size=1, max_size=60)


def _split(rows: list[tuple[str, str | None]]) -> tuple[list[str], list[str | None]]:
    return [t for t, _ in rows], [p for _, p in rows]


def _sklearn(truth: list[str], predicted: list[str | None]) -> dict[str, float]:
    """The same scores by scikit-learn, which knows no abstention: it becomes a word that is never averaged over."""
    guess = [ABSTAINED if p is None else p for p in predicted]
    labels = sorted({*truth, *guess} - {ABSTAINED})
    options = {"labels": labels, "zero_division": 0}
    in_truth = sorted(set(truth))
    return {
        "accuracy": sk.accuracy_score(truth, guess),
        "macro_f1": sk.f1_score(truth, guess, average="macro", **options),
        "weighted_f1": sk.f1_score(truth, guess, average="weighted", **options),
        "weighted_precision": sk.precision_score(truth, guess, average="weighted", **options),
        "unweighted_average_recall": sk.recall_score(truth, guess, average="macro", labels=in_truth, zero_division=0),
    }


def test_by_hand() -> None:
    truth = ["a", "a", "a", "b", "b", "c"]
    predicted = ["a", "a", "b", "b", None, "a"]
    scores = classification_scores(truth, predicted)
    assert scores.labels == ("a", "b", "c")
    assert scores.confusion.tolist() == [[2, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]]
    assert scores.confusion.dtype == np.int64
    assert scores.precision == pytest.approx([2 / 3, 1 / 2, 0])
    assert scores.recall == pytest.approx([2 / 3, 1 / 2, 0])
    assert scores.accuracy == pytest.approx(3 / 6)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert scores.weighted_f1 == pytest.approx((3 * 2 / 3 + 2 * 1 / 2) / 6)
    assert scores.weighted_precision == pytest.approx((3 * 2 / 3 + 2 * 1 / 2) / 6)
    assert scores.unweighted_average_recall == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert (scores.num_samples, scores.num_abstained) == (6, 1)


@given(pairs)
def test_equal_to_scikit_learn(rows: list[tuple[str, str | None]]) -> None:
    truth, predicted = _split(rows)
    scores = classification_scores(truth, predicted)
    for name, value in _sklearn(truth, predicted).items():
        assert getattr(scores, name) == pytest.approx(value, abs=1e-12), name
    guess = [ABSTAINED if p is None else p for p in predicted]
    square = sk.confusion_matrix(truth, guess, labels=[*scores.labels, ABSTAINED])
    assert scores.confusion.tolist() == square[:-1].tolist()


@given(pairs, st.randoms(use_true_random=False))
def test_order_of_samples_and_labels_does_not_matter(rows: list[tuple[str, str | None]], random: object) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for metric in METRICS:
        first = metric(confusion_matrix(*_split(rows), LABELS))
        assert metric(confusion_matrix(*_split(shuffled), LABELS[::-1])) == pytest.approx(first, abs=1e-12)


@given(pairs)
def test_bounds(rows: list[tuple[str, str | None]]) -> None:
    truth, predicted = _split(rows)
    for metric in METRICS:
        assert 0 <= metric(confusion_matrix(truth, predicted)) <= 1 + 1e-12
        assert metric(confusion_matrix(truth, truth)) == pytest.approx(1)
        assert metric(confusion_matrix(truth, [None] * len(truth))) == 0


@given(pairs)
def test_an_abstention_never_helps_accuracy(rows: list[tuple[str, str | None]]) -> None:
    truth, predicted = _split(rows)
    silent = [None, *predicted[1:]]
    assert accuracy(confusion_matrix(truth, silent)) <= accuracy(confusion_matrix(truth, predicted))


def test_a_prediction_outside_the_list_counts_as_an_abstention() -> None:
    assert confusion_matrix(["a"], ["zebra"], ["a", "b"]).tolist() == [[0, 0, 1], [0, 0, 0]]


def test_labels_that_never_occur_do_not_change_the_scores() -> None:
    truth, predicted = ["a", "b", "b"], ["a", "a", "b"]
    for metric in METRICS:
        few, many = (confusion_matrix(truth, predicted, labels) for labels in (None, ["c", "b", "a", "d"]))
        assert metric(few) == pytest.approx(metric(many))


def test_leading_axes_are_free() -> None:
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 9, (5, 3, 4, 5))
    for metric in METRICS:
        batch = metric(counts)
        assert batch.shape == (5, 3)
        assert batch[2, 1] == pytest.approx(float(metric(counts[2, 1])))


def test_the_statistic_equals_scoring_each_resample() -> None:
    generator = np.random.default_rng(1)
    truth = generator.choice(LABELS, 40).tolist()
    predicted = [None if p == ABSTAINED else p for p in generator.choice([*LABELS, ABSTAINED], 40).tolist()]
    indices = generator.integers(0, 40, (7, 40))
    for metric in METRICS:
        scores = confusion_statistic(truth, predicted, metric)(indices)
        for row, score in zip(indices, scores, strict=True):
            alone = confusion_matrix([truth[i] for i in row], [predicted[i] for i in row])
            assert score == pytest.approx(float(metric(alone)), abs=1e-12)


def test_mistakes_are_named() -> None:
    with pytest.raises(NanoEmoXError, match="2 true labels but 1 predictions"):
        confusion_matrix(["a", "b"], ["a"])
    with pytest.raises(NanoEmoXError, match="0 samples"):
        classification_scores([], [])
    with pytest.raises(NanoEmoXError, match="'c' is none of the 2 labels a, b"):
        confusion_matrix(["a", "c"], ["a", "a"], ["a", "b"])


def test_the_scores_printed_with_a_published_matrix(shared: Path) -> None:
    text = (shared / "data/predictions/emotion_llama/MER2023_stage2_result.txt").read_text("utf-8")
    printed = {name: float(value) for name, value in re.findall(r"^([A-Z][\w ]+): ([\d.]+)", text, re.MULTILINE)}
    counts = np.array([re.findall(r"\d+", line) for line in text[text.index("[[") :].splitlines()], dtype=np.int64)
    confusion = np.pad(counts, ((0, 0), (0, 1)))  # nobody abstained
    assert accuracy(confusion) == pytest.approx(printed["Accuracy"], abs=1e-12)
    assert weighted_precision(confusion) == pytest.approx(printed["Precision"], abs=1e-12)
    assert weighted_f1(confusion) == pytest.approx(printed["F1 Score"], abs=1e-12)
