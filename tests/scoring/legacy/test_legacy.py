"""The published score on emotion wheels against the authors' own figures, and on small tables by hand."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from nanoemox.benchmarks.official_files import read_predictions, read_wheel_tables
from nanoemox.scoring.legacy.wheels import WheelScores
from nanoemox.scoring.legacy.words import LegacyScorer, WheelTables, legacy_scorer, split_list
from nanoemox.types import NanoEmoXError

SMALL = WheelTables(
    wheels=(
        (("Happy", "Proud", "Brave"), ("", "", "daring"), ("Sad ", " guilty", "sorry"), ("Mad", "guilty", "cross")),
    ),
    synonyms=(("Brave", "['Fearless', 'bold']"), ("cross", "angry"), ("sorry", ""), ("proud", ""), ("Mad", "angry")),
    forms=(("fearless", "fear,fearlessly"), ("angry", "anger"), ("sorry", ""), ("mad", ""), ("proud", "pride")),
)


@pytest.fixture(scope="module")
def tables(shared: Path) -> WheelTables:
    return read_wheel_tables(shared / "data" / "emotion_wheel")


@pytest.fixture(scope="module")
def records(shared: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((shared / "golden" / "metrics.json").read_text("utf-8"))["records"]
    return found


@pytest.mark.parametrize("level", [1, 2])
def test_every_word_has_the_published_class(tables: WheelTables, shared: Path, level: Any) -> None:
    mappings = legacy_scorer(tables, level).mappings
    with gzip.open(shared / "golden" / "wheel_mapping.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for w, words in enumerate(mappings, 1):
        assert words == {row["form"]: found for row in rows if (found := row[f"wheel{w}_level{level}"])}


def test_open_vocabulary_is_scored_as_published(
    tables: WheelTables, records: list[dict[str, Any]], shared: Path
) -> None:
    scorers = {f"level{n}": legacy_scorer(tables, n) for n in (1, 2)}  # type: ignore[arg-type]
    ours = [r for r in records if r["kind"] == "ov"]
    assert len(ours) > 10
    for record in ours:
        truth = read_predictions(shared / "data" / record["ground_truth"]).words
        answers = read_predictions(shared / "data" / record["prediction"]).words
        predicted = [answers[name] for name in truth]
        for level, scorer in scorers.items():
            scores = scorer.set_scores(list(truth.values()), predicted)
            check(scores, record[level]["mean"])
            for w, wheel in enumerate(record[level]["per_wheel"]):
                assert scores.counted[w] == wheel["n_kept"]
                expected = [wheel["fscore"], wheel["precision"], wheel["recall"]]
                assert list(scores.per_wheel[w]) == pytest.approx(expected, abs=1e-9)


def check(scores: WheelScores, expected: dict[str, float]) -> None:
    assert scores.f1 == pytest.approx(expected["fscore"], abs=1e-9)
    assert scores.precision == pytest.approx(expected["precision"], abs=1e-9)
    assert scores.recall == pytest.approx(expected["recall"], abs=1e-9)


def test_small_tables_by_hand() -> None:
    (inner,) = legacy_scorer(SMALL).mappings
    assert inner == {
        "fear": "happy", "fearlessly": "happy", "fearless": "happy",  # brave < fearless: the famous mistake
        "angry": "mad", "anger": "mad", "mad": "mad", "sorry": "sad", "proud": "happy", "pride": "happy",
    }  # fmt: skip
    (middle,) = legacy_scorer(SMALL, 2).mappings
    assert middle["mad"] == "guilty"
    assert middle["fear"] == "proud"


def test_excluded_samples() -> None:
    scorer = legacy_scorer(SMALL)
    scores = scorer.hit_rate(["sorry", "angry", "neutral", "anger"], [["Pride ", "sorry"], [], ["sorry"], ["mad", "x"]])
    assert scores.counted == (3,)
    assert scores.hit_rate == pytest.approx(2 / 3)
    assert scores.precision == pytest.approx((1 + 0 + 1) / 3)  # pride is no class of the truth here
    scores = scorer.set_scores([["sorry", "pride"], ["neutral"]], [["sorry", "mad", "unheard"], ["sorry"]])
    assert (scores.precision, scores.recall, scores.f1, scores.counted) == (0.5, 0.5, 0.5, (1,))


def test_long_lists_win_under_the_published_protocol(tables: WheelTables) -> None:
    scorer = legacy_scorer(tables)
    everything = sorted({word for words in scorer.mappings for word in words})
    truth = ["anger", "joy", "sadness", "disgust", "fear", "surprise"]
    assert scorer.hit_rate(truth, [everything] * 6).hit_rate == 1.0


def test_lists_are_split_as_published() -> None:
    assert split_list("['a', \"b\", , c d]") == ["a", "b", "c d"]
    assert split_list(" a,b ") == ["a", "b"]
    assert split_list("[]") == split_list("") == []


def test_lengths_must_agree() -> None:
    with pytest.raises(NanoEmoXError, match="1 true labels but 0 predictions"):
        LegacyScorer(({},)).set_scores([["a"]], [])
    with pytest.raises(NanoEmoXError, match="0 samples"):
        LegacyScorer(({},)).hit_rate([], [])
