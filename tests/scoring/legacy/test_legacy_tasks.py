"""The published scores of intent and replies against the authors' own figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanoemox.scoring.legacy.tasks import (
    EIGHT_CLASSES,
    bare_reply,
    fold_truth,
    legacy_emotion,
    legacy_intent,
    legacy_replies,
    legacy_sentiment,
)
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import NanoEmoXError


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "golden" / "erg_metrics.json").read_text("utf-8"))
    return found


def test_maps_are_the_published_ones(golden: dict[str, Any]) -> None:
    assert dict(EIGHT_CLASSES) == golden["eight_class_projection"]
    assert {word: fold_truth(word) for word in golden["ground_truth_projection"]} == golden["ground_truth_projection"]
    words = {*LABEL_SETS["avamerg"], *LABEL_SETS["avamerg_candidates"], *EIGHT_CLASSES}
    assert all(fold_truth(word) == word for word in words - set(golden["ground_truth_projection"]))


def test_emotion_extraction_matches_published_samples(golden: dict[str, Any]) -> None:
    for sample in golden["samples"]:
        truth, text = sample["ground_truth"], sample["response"]
        assert fold_truth(truth) == sample["ground_truth_projected"]
        assert legacy_emotion(text) == sample["extracted"]
        assert bare_reply(text) == sample["cleaned_response"]
        scores = legacy_replies({"a": truth}, {"a": text})
        assert scores.accuracy == float(sample["correct"])
        assert scores.hit_rate == (None if sample["hit"] is None else float(sample["hit"]))
        assert scores.unfolded == (sample["hit_error"] and sample["hit_error"].removeprefix("KeyError: "))
        assert scores.distinct_1 == pytest.approx(sample["dist1"] or 0.0, abs=1e-12)
        assert scores.distinct_2 == pytest.approx(sample["dist2"] or 0.0, abs=1e-12)
    assert legacy_emotion(None) == golden["odd_inputs"][0]["extracted"]


def test_aggregates_are_the_published_ones(golden: dict[str, Any]) -> None:
    samples = {s["id"]: s for s in golden["samples"]}
    for record in golden["aggregates"]:
        truth = {i: samples[i]["ground_truth"] for i in record["ground_truth_ids"]}
        replies = {i: samples[i]["response"] for i in record["response_ids"] if i in samples}
        scores = legacy_replies(truth, replies)
        assert 100 * scores.accuracy == pytest.approx(record["accuracy_unrounded"], abs=1e-9)
        assert 100 * scores.distinct_1 == pytest.approx(record["dist1_unrounded"], abs=1e-9)
        assert 100 * scores.distinct_2 == pytest.approx(record["dist2_unrounded"], abs=1e-9)
        if record["hitrate_unrounded"] is None:
            assert scores.hit_rate is None
            assert f"KeyError: {scores.unfolded}" == record["hitrate_error"]
        else:
            assert scores.hit_rate is not None
            assert 100 * scores.hit_rate == pytest.approx(record["hitrate_unrounded"], abs=1e-9)
            assert round(100 * scores.hit_rate, 2) == record["official_result"]["Hitrate"]


def test_intents_are_scored_as_published(golden: dict[str, Any], shared: Path) -> None:
    for record in golden["mintrec"]:
        rows = json.loads((shared / "data" / record["ground_truth"]).read_text("utf-8"))
        truth = {Path(r["videos"][0]).stem: r["messages"][1]["content"] for r in rows}
        scores = legacy_intent(truth, record["predictions"], record["intent_mapping"])
        assert scores.num_samples == record["n_scored"]
        assert 100 * scores.accuracy == pytest.approx(record["accuracy_unrounded"], abs=1e-9)
        assert 100 * scores.weighted_f1 == pytest.approx(record["weighted_f1_unrounded"], abs=1e-9)
        assert 100 * scores.weighted_precision == pytest.approx(record["weighted_precision_unrounded"], abs=1e-9)


def test_non_positive_sentiment_counts_as_negative() -> None:
    scores = legacy_sentiment(
        ["positive", "negative", "negative", "neutral", "negative"], ["positive", "neutral", "mixed", "positive", None]
    )
    assert (scores.accuracy, scores.weighted_f1, scores.num_samples) == (1.0, 1.0, 4)
    with pytest.raises(NanoEmoXError, match="all 2 clips are neutral"):
        legacy_sentiment(["neutral"] * 2, ["neutral"] * 2)


def test_no_common_clips() -> None:
    with pytest.raises(NanoEmoXError, match="none of the 1 clips"):
        legacy_intent({"a": "Inform"}, {"b": "Inform"})
    scores = legacy_replies({"a": "sad"}, {"b": "Oh, oh."})
    assert (scores.accuracy, scores.hit_rate, scores.num_samples, scores.distinct_1) == (0.0, 0.0, 0, 1.0)


@pytest.mark.parametrize(
    ("text", "emotion"),
    [
        ("", "unknown"),
        ("<think>The Emotion of the speaker is SAD.</think>", "sad"),
        ("<think>nothing</think> I was anxious", "worried"),
        ("a feeling of anxiety", "anxious"),
        ("that madam", "angry"),
        ("sadness", "sad"),
    ],
)
def test_emotions_of_odd_replies(text: str, emotion: str) -> None:
    assert legacy_emotion(text) == emotion
