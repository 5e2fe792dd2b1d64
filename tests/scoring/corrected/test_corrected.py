"""The corrected scorer: examples by hand, properties, real predictions."""

from __future__ import annotations

import ast
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.extraction import read_pair
from hypothesis import given
from hypothesis import strategies as st

from nanoemox.scoring.corrected.extraction import extract_words
from nanoemox.scoring.corrected.lexicon import FAMILIES, UNSPECIFIC, words
from nanoemox.scoring.corrected.scorer import (
    LEVELS,
    CorrectedScorer,
    LabelMap,
    Level,
    emotion_report,
    unknown_words,
)
from nanoemox.scoring.legacy.wheels import WheelScorer
from nanoemox.scoring.metrics.bootstrap import bootstrap_difference
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import NanoEmoXError

MELD = LABEL_SETS["meld"]
word = st.sampled_from(sorted(words())) | st.sampled_from(("glorpy", "zorbed"))
answer = st.lists(word, max_size=6)
clips = st.lists(st.tuples(st.sampled_from(MELD), answer), min_size=1, max_size=20)


def f1(level: Level, truth: list[list[str]], predicted: list[list[str]]) -> tuple[float, float, float]:
    scores = CorrectedScorer(level).set_scores(truth, predicted)
    return scores.f1, scores.precision, scores.recall


def test_corrected_scorer_implements_wheel_scorer() -> None:
    scorer: WheelScorer = CorrectedScorer()
    assert scorer.set_scores([["sad"]], [["sad"]]).f1 == 1
    assert scorer.hit_rate(["sad"], [["sad"]]).hit_rate == 1


def test_fear_is_fear_and_neutral_is_a_class() -> None:
    scorer = CorrectedScorer(labels=MELD)
    assert scorer.hit_rate(["fear"] * 3, [["joy"], ["brave"], ["terrified"]]).hit_rate == pytest.approx(1 / 3)
    assert scorer.hit_rate(["neutral"] * 3, [["neutral"], ["calm"], ["sad"]]).hit_rate == pytest.approx(2 / 3)
    assert scorer.set_scores([["neutral"], ["fear"]], [["neutral"], ["fear"]]).counted == (2,)


@pytest.mark.parametrize("labels", [LABEL_SETS[name] for name in ("meld", "iemocap", "mer2023", "ravdess", "mead")])
def test_long_lists_are_no_better_than_one_guess(labels: tuple[str, ...]) -> None:
    truth = [label for label in labels for _ in range(5)]
    report = emotion_report(truth, [labels] * len(truth), labels)
    assert report.metrics["recall"] == 1
    assert report.metrics["hit_rate"] == pytest.approx(1 / len(labels))
    assert report.metrics["precision"] == pytest.approx(1 / len(labels))
    assert report.metrics["unweighted_average_recall"] == pytest.approx(1 / len(labels))
    everything = sorted(words())
    assert CorrectedScorer().set_scores([[t] for t in truth], [everything] * len(truth)).f1 < 0.15


def test_levels() -> None:
    truth, predicted = [["happy", "anxious"]], [["glad", "excited", "worried"]]
    assert f1("family", truth, predicted) == (1, 1, 1)
    assert f1("group", truth, predicted)[1:] == pytest.approx((2 / 3, 1))
    assert f1("word", truth, predicted) == (0, 0, 0)
    assert f1("word", [["happiness"]], [["happier"]]) == (1, 1, 1)


def test_nothing_is_dropped() -> None:
    assert f1("family", [["sad"]], [["sad", "glorpy"]])[1:] == (0.5, 1)
    assert f1("family", [["sad", "glorpy"]], [["sad"]])[1:] == (1, 0.5)
    assert f1("family", [["glorpy"]], [["glorpy"]]) == (1, 1, 1)
    assert f1("family", [["sad"]], [["sad", "professional"]])[1:] == (0.5, 1)
    assert unknown_words([["sad", "glorpy"], ["zorbed", "glorpy"]]) == {"glorpy": 2, "zorbed": 1}


def test_unspecific_words_do_not_count() -> None:
    assert f1("family", [["sad", "negative"]], [["sad", "negative"]]) == (1, 1, 1)
    assert f1("family", [["sad"]], [["negative", "sad"]]) == (1, 1, 1)
    assert CorrectedScorer().set_scores([["positive"], ["sad"]], [["positive"], ["sad"]]).counted == (1,)
    assert CorrectedScorer("word").set_scores([["positive"]], [["positive"]]).f1 == 1


def test_reading_one_label() -> None:
    folds = LabelMap(MELD)
    assert folds.read(["excited", "anxious", "joyful"]) == "joy"
    assert folds.read(["anxious", "excited"]) == "fear"
    assert folds.read(["glorpy", "positive"]) is None
    assert folds.read([]) is None
    assert LabelMap(("worried", "fear")).read(["nervous"]) == "worried"
    assert LabelMap(("worried", "fear")).read(["terror"]) == "fear"
    assert LabelMap(LABEL_SETS["ravdess"]).read(["relaxed"]) == "calm"
    assert LabelMap(LABEL_SETS["mead"]).read(["lonely"]) == "sad"
    assert LabelMap(("grumble",)).read(["Grumble"]) == "grumble"


def test_a_report_by_hand() -> None:
    truth = ["joy", "joy", "anger", "neutral"]
    report = emotion_report(truth, [["happy", "sad"], None, ["furious"], ["glorpy", "angry"]])
    assert report.metrics == pytest.approx(
        {
            "hit_rate": 0.5, "accuracy": 0.5, "unweighted_average_recall": 0.5, "macro_f1": (2 / 3 + 2 / 3 + 0) / 3,
            "weighted_f1": (2 * 2 / 3 + 2 / 3) / 4, "precision": 1.5 / 4, "recall": 0.5, "f1": 2 * 0.375 * 0.5 / 0.875,
            "abstained": 0.25, "labels_per_answer": 5 / 4,
        }
    )  # fmt: skip
    assert report.unknown == {"glorpy": 1}
    folded = emotion_report(["lonely", "furious"], [["sad"], ["mad"]], LABEL_SETS["mead"])
    assert folded.metrics["hit_rate"] == 1
    # A label that no clip of a small part has is a wrong answer, and an answer all the same.
    few = emotion_report(["neutral", "surprise"], [["joy"], ["anger"]], LABEL_SETS["meld"])
    assert (few.metrics["hit_rate"], few.metrics["abstained"]) == (0, 0)


@given(clips)
def test_the_report_and_the_scorer_agree(pairs: list[tuple[str, list[str]]]) -> None:
    truth, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    report, scores = emotion_report(truth, predicted), CorrectedScorer().hit_rate(truth, predicted)
    assert report.metrics["hit_rate"] == pytest.approx(scores.hit_rate)
    assert report.metrics["precision"] == pytest.approx(scores.precision)
    assert all(0 <= v <= 1 for k, v in report.metrics.items() if k != "labels_per_answer")
    assert report.metrics["precision"] <= report.metrics["recall"] + 1e-12


@given(st.lists(answer, min_size=1, max_size=12), st.sampled_from(LEVELS))
def test_perfect_answers_score_one(some: list[list[str]], level: Level) -> None:
    scores = CorrectedScorer(level).set_scores(some, some)
    kept = [a for a in some if CorrectedScorer(level).classes(a)]
    assert scores.counted == (len(kept),)
    assert scores.f1 == (1.0 if kept else 0.0)
    assert all(CorrectedScorer().classes([w]) for w in (w for a in some for w in a) if w in ("glorpy", "zorbed"))


def test_every_specific_family_counts() -> None:
    for known in words().values():
        assert CorrectedScorer().classes([known.base]) == (
            frozenset() if known.family in UNSPECIFIC else {known.family}
        )
    assert set(FAMILIES) >= UNSPECIFIC


def test_lengths_must_agree() -> None:
    with pytest.raises(NanoEmoXError, match="1 true labels but 2"):
        emotion_report(["joy"], [["joy"], ["joy"]])
    with pytest.raises(NanoEmoXError, match="0 samples"):
        CorrectedScorer().set_scores([], [])


def test_no_torch() -> None:
    code = "import sys; from nanoemox.scoring.corrected import extraction, scorer; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_real_predictions_against_blind_lists(shared: Path) -> None:
    with (shared / "data/annotations/mer2024/ov_store/check-openset.csv").open(newline="", encoding="utf-8") as file:
        truth = {row["name"]: ast.literal_eval(row["openset"]) for row in csv.DictReader(file)}
    root = shared / "data/predictions/affectgpt_mer_unibench/results-ovmerdplus"
    path = next(p for p in sorted(root.rglob("*.npz")) if "openset" not in p.name)
    with np.load(path, allow_pickle=True) as file_:
        answers = {name: extract_words(text) for name, text in file_["name2reason"].item().items()}
    wanted, given = list(truth.values()), [answers[name] for name in truth]
    blind = [("angry", "happy", "sad", "surprised", "anxious", "calm", "neutral", "confused")] * len(wanted)
    for level in LEVELS:
        scorer = CorrectedScorer(level)
        ours, theirs = (scorer.set_scores(wanted, said).statistic("f1") for said in (given, blind))
        found = bootstrap_difference(ours, theirs, len(wanted), num_resamples=300)
        assert found.interval.low > 0, level
    assert len(read_pair(path)[0]) == 532
