"""Alignment, scores, intervals and blind baselines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import f1_score

from nanoemox.benchmarks.align import AlignedAnswers, align
from nanoemox.benchmarks.corrected_measures import CorrectedMeasures, eight_class
from nanoemox.benchmarks.measures import LegacyMeasures, Measures, TaskScores
from nanoemox.benchmarks.official_files import Predictions, read_predictions, read_wheel_tables
from nanoemox.benchmarks.records import get_benchmark
from nanoemox.benchmarks.runs import read_parts
from nanoemox.benchmarks.score import blind_answers, measure, score, score_aligned
from nanoemox.benchmarks.truth import read_truth
from nanoemox.benchmarks.words import sentiment_of
from nanoemox.scoring.legacy.wheels import WheelScores
from nanoemox.scoring.legacy.words import LegacyScorer, legacy_scorer
from nanoemox.tasks import parse
from nanoemox.types import NanoEmoXError

WHEEL = LegacyScorer(({"sad": "sad", "upset": "sad", "joy": "happy", "anger": "mad", "cross": "mad"},))
LEGACY = LegacyMeasures(WHEEL)
IDS = {
    "CMUMOSI": "cmu_mosi", "IEMOCAPFour": "iemocap", "MELD": "meld", "OV-MERD": "ov_merd", "SIMS": "ch_sims",
    "SIMSv2": "ch_sims_v2",
}  # fmt: skip


def words(**answers: str) -> Predictions:
    return Predictions("words", {name: tuple(text.split()) for name, text in answers.items()}, {})


def labels(**answers: str) -> Predictions:
    return Predictions("sentiment", {}, answers)


def measured(key: str, truth: list[Any], answers: list[Any], measures: Measures) -> TaskScores:
    names = tuple(map(str, range(len(truth))))
    return measure(get_benchmark(key), AlignedAnswers(names, tuple(truth), tuple(answers)), measures)


def test_published_scores_are_reproduced(shared: Path) -> None:
    legacy = LegacyMeasures(legacy_scorer(read_wheel_tables(shared / "data" / "emotion_wheel")))
    records = json.loads((shared / "golden" / "metrics.json").read_text("utf-8"))["records"]
    for record in records:
        benchmark = get_benchmark(IDS[record["dataset"].split("(")[0]])
        truth = read_truth(shared / "data" / record["ground_truth"], benchmark, trust_npz=True)
        predictions = read_predictions(shared / "data" / record["prediction"])
        aligned = align(benchmark, truth, predictions, clips=predictions.names)
        assert len(aligned.names) == record["n_samples"]
        check(record, measure(benchmark, aligned, legacy))


def check(record: dict[str, Any], found: Any) -> None:
    if record["kind"] == "msa":
        assert found.num_counted == record["n_nonzero"]
        assert found.metrics["weighted_f1"] == pytest.approx(record["weighted_f1"], abs=1e-9)
        assert found.metrics["accuracy"] == pytest.approx(record["accuracy"], abs=1e-9)
        return
    names = {"hit_rate": "hitrate", "precision": "mscore"}
    names = names if record["kind"] == "hitrate" else {"f1": "fscore", "precision": "precision", "recall": "recall"}
    wheels = record["per_wheel"] if record["kind"] == "hitrate" else record["level1"]["per_wheel"]
    mean = record["mean"] if record["kind"] == "hitrate" else record["level1"]["mean"]
    for ours, theirs in names.items():
        assert found.metrics[ours] == pytest.approx(mean[theirs], abs=1e-9)
        for row, wheel in zip(found.per_wheel, wheels, strict=True):
            assert (row["wheel"], row["n"]) == (wheel["wheel"], wheel["n_kept"])
            assert row[ours] == pytest.approx(wheel[theirs], abs=1e-9)


def test_unanswered_clips_count_as_wrong() -> None:
    benchmark = replace(get_benchmark("meld"), num_samples=4)
    aligned = align(benchmark, dict.fromkeys("abcd", "sad"), words(a="upset", b="joy", c="sad"))
    assert aligned.answers == (("upset",), ("joy",), ("sad",), None)
    assert aligned.notes == ("1 clips have no answer and are counted as wrong",)
    found = score_aligned(benchmark, aligned, LEGACY, num_resamples=50)
    assert (found.task_scores.metrics["hit_rate"], found.num_unanswered, found.num_samples) == (0.5, 1, 4)


def test_only_evaluated_clips_count_and_none_is_dropped() -> None:
    benchmark = replace(get_benchmark("meld"), num_samples=3)
    truth = dict.fromkeys("abcde", "sad")
    whole = align(benchmark, truth, words(a="sad", b="sad", x="sad", y="sad", z="sad"))
    assert whole.names == tuple("abcde")
    assert whole.answers == (("sad",), ("sad",), None, None, None)
    assert whole.notes == (
        "3 answered clips are not in the truth and are not scored",
        "3 clips have no answer and are counted as wrong",
        "5 clips are scored; the evaluated split has 3",
    )
    part = align(benchmark, truth, words(a="sad", b="sad"), clips=("a", "b", "c"))
    assert (part.names, part.answers[2]) == (("a", "b", "c"), None)
    assert part.notes == (
        "2 clips of the truth were not evaluated: left out",
        "1 clips have no answer and are counted as wrong",
    )
    with pytest.raises(
        NanoEmoXError, match="no clip in common: the truth has 1 such as 'a', the answers 1 such as 'x'"
    ):
        align(benchmark, {"a": "sad"}, words(x="sad"))


def test_intervals_contain_the_score_and_per_wheel_scores_are_listed() -> None:
    benchmark = get_benchmark("ov_merd")
    truth = {str(i): ("sad",) if i % 2 else ("joy", "cross") for i in range(40)}
    answers = words(**{name: "upset joy" if int(name) % 3 else "cross" for name in truth})
    found = score_aligned(benchmark, align(benchmark, truth, answers), LEGACY, num_resamples=100)
    out = json.loads(json.dumps(found.to_dict()))
    assert set(out["metrics"]) == {"f1", "precision", "recall", "labels_per_answer"}
    for name in ("f1", "precision", "recall"):
        low, high = out["intervals"][name]
        assert low <= out["metrics"][name] <= high
    assert out["per_wheel"] == [
        {"wheel": 1, "n": 40, **{k: pytest.approx(out["metrics"][k]) for k in ("f1", "precision", "recall")}}
    ]
    assert (out["n"], out["n_counted"], out["n_unanswered"], out["scorer"]) == (40, 40, 0, "legacy")


def test_blind_answers_are_the_most_common_words() -> None:
    truth = ["sad", "sad", "joy", "anger"]
    assert blind_answers(get_benchmark("meld"), truth) == {"majority": ("sad",), "blind_list": ("sad", "anger", "joy")}
    assert blind_answers(get_benchmark("mintrec"), truth) == {"majority": "sad"}
    assert blind_answers(get_benchmark("ov_merd"), [("a", "b"), ("b",)])["majority"] == ("b",)
    assert blind_answers(get_benchmark("avamerg"), [""]) == {}
    benchmark = get_benchmark("avamerg")
    for measures in (LEGACY, CorrectedMeasures()):
        found = measured(benchmark.id, truth, [blind_answers(benchmark, truth)["majority"]] * 4, measures)
        assert found.metrics["accuracy"] == 0.5


def test_neutral_is_not_negative_in_corrected_sentiment() -> None:
    truth, answers = ["negative", "negative", "positive", "neutral"], ["neutral", "negative", "positive", "neutral"]
    benchmark = "cmu_mosi"
    assert measured(benchmark, truth, answers, LEGACY).metrics["accuracy"] == 1.0
    ours = measured(benchmark, truth, answers, CorrectedMeasures())
    assert (ours.metrics["accuracy"], ours.num_counted) == (0.75, 4)
    assert ours.metrics["accuracy_nonzero"] == pytest.approx(2 / 3)
    assert measured(benchmark, ["positive"], ["mixed"], CorrectedMeasures()).metrics["accuracy"] == 0.0


def test_intents_match_in_any_spelling() -> None:
    benchmark = "mintrec"
    truth, answers = ["Inform", "Ask for help", "Care", "Joke"], ["inform", "The intent is Ask for help.", "Car", None]
    assert measured(benchmark, truth, answers, LEGACY).metrics["accuracy"] == 0.0
    ours = measured(benchmark, truth, answers, CorrectedMeasures())
    assert (ours.metrics["accuracy"], ours.num_counted) == (0.5, 4)


def test_reply_emotions_of_truth_and_answer_use_one_map() -> None:
    def reply(emotion: str) -> str:
        return f"<think>\nscenario: s\nemotion: {emotion}\ncause: c\ngoal: g\n</think>\nOh dear, oh dear."

    ours = measured(
        "avamerg", ["anxious", "proud", "sad", "angry"], [reply("anxious"), reply("happiness"), reply("x"), None],
        CorrectedMeasures(),
    )  # fmt: skip
    assert (ours.metrics["accuracy"], ours.metrics["hit_rate"], ours.metrics["chains"]) == (0.25, 0.5, 0.75)
    assert ours.metrics["distinct_1"] == pytest.approx(3 / 4)
    assert ours.metrics["corpus_distinct_1"] == pytest.approx(3 / 12)
    assert [eight_class(w) for w in ("embarrassed", "tired", "table")] == ["sad", "sad", None]


def test_sentiment_of_words() -> None:
    assert sentiment_of(["happy", "sad", "joyful"]) == "positive"
    assert sentiment_of(["angry"]) == "negative"
    assert sentiment_of(["happy", "sad"]) == "neutral"
    assert sentiment_of([]) is sentiment_of(["zzz"]) is None


@pytest.mark.parametrize("answer", [None, "", "I cannot tell.", "-1.2"])
def test_an_answer_without_a_sentiment_is_wrong_and_not_neutral(answer: str | None) -> None:
    truth = {"a_1": "positive", "a_2": "neutral", "a_3": "Neutral"}
    found = score(truth, {"a_1": "positive", "a_2": answer, "a_3": answer}, "cmu_mosi")
    assert found.task_scores.metrics["accuracy"] == pytest.approx(1 / 3)
    assert found.num_unanswered == 2


@pytest.mark.parametrize("key", ["meld", "cmu_mosi", "mintrec", "ov_merd"])
def test_a_run_without_one_readable_answer_is_wrong_everywhere(key: str) -> None:
    """A served model that refuses every clip must not end an evaluation."""
    benchmark = get_benchmark(key)
    label = benchmark.labels[0] if benchmark.labels else "happy"
    parsed = parse(benchmark.task, "I cannot help.", benchmark.labels or None).to_dict()
    rows = {
        str(i): {"id": str(i), "truth": label, "raw": "I cannot help.", "parsed": parsed, "error": None}
        for i in range(3)
    }
    answers = read_parts({key: rows}, "run")[key]
    found = score(answers.truth, answers, benchmark)
    assert found.task_scores.metrics[benchmark.metrics[0]] == 0
    assert found.num_samples == 3


def test_calibration_folds_the_spelling_of_the_truth_as_accuracy_does() -> None:
    benchmark = get_benchmark("mintrec")
    parsed = {"label": "complain", "probabilities": {"complain": 0.95}}
    rows = {str(i): {"id": str(i), "raw": "complain", "parsed": parsed, "error": None} for i in range(4)}
    answers = read_parts({"mintrec": rows}, "run")["mintrec"]
    for spelt in ("complain", "Complain"):
        metrics = score(dict.fromkeys(rows, spelt), answers, benchmark).task_scores.metrics
        assert metrics["accuracy"] == 1
        assert metrics["expected_calibration_error"] == pytest.approx(0.05)


def test_emotion_words_of_a_truth_may_come_as_one_text() -> None:
    answers = {"a": ["happy", "sad"], "b": ["angry"]}
    listed = score({"a": ["happy", "sad"], "b": ["angry"]}, answers, "ov_merd").task_scores.metrics
    assert score({"a": "happy, sad", "b": "angry"}, answers, "ov_merd").task_scores.metrics == listed
    assert listed["f1"] == 1


def test_a_label_that_the_truth_lacks_counts_in_macro_f1_as_in_scikit_learn() -> None:
    truth, answers = ["happy", "happy", "sad", "sad"], ["happy", "happy", "sad", "angry"]
    names = [str(i) for i in range(4)]
    found = score(dict(zip(names, truth, strict=True)), dict(zip(names, answers, strict=True)), "meld")
    assert found.task_scores.metrics["macro_f1"] == pytest.approx(f1_score(truth, answers, average="macro"))


def test_legacy_scorer_requires_wheel_tables() -> None:
    with pytest.raises(NanoEmoXError, match="name their folder with --wheel-tables"):
        measured("meld", ["sad"], [("sad",)], LegacyMeasures(None))
    assert isinstance(WHEEL.hit_rate(["sad"], [["sad"]]), WheelScores)


def test_explanations_are_scored_by_their_emotion_words() -> None:
    found = measured("emer", ["She is sad."], ["The emotional state is upset, joy."], LEGACY)
    assert found.metrics["recall"] is not None
    assert "a language model's" in found.notes[-1]


def test_no_counted_clip_gives_no_score() -> None:
    found = measured("meld", ["neutral", "neutral"], [("sad",), ("neutral",)], LEGACY)
    assert (found.metrics["hit_rate"], found.num_counted, set(found.statistics)) == (None, 0, {"labels_per_answer"})
    assert "no clip counts" in found.notes[0]
    assert (
        measured("meld", ["neutral", "neutral"], [("sad",), ("neutral",)], CorrectedMeasures()).metrics["hit_rate"]
        == 0.5
    )


def test_fear_is_fear_and_long_lists_score_worse() -> None:
    truth = ["fear", "joy", "neutral", "neutral", "anger"]
    ours = CorrectedMeasures()
    right = measured("meld", truth, [("scared",), ("happiness",), ("calm",), ("neutral",), ("furious",)], ours)
    assert right.metrics["hit_rate"] == 1.0
    everything = measured("meld", truth, [get_benchmark("meld").labels] * 5, ours).metrics
    assert everything["recall"] == 1.0
    assert everything["hit_rate"] is not None
    assert everything["hit_rate"] <= 0.4
    unanswered = measured("meld", truth, [("scared",), None, None, None, None], ours)
    assert (unanswered.metrics["hit_rate"], unanswered.num_counted) == (0.2, 5)
