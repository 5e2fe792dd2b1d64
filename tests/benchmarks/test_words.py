"""Emotion words and sentiments from all kinds of predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nanoemox.benchmarks.official_files import Predictions, read_predictions
from nanoemox.benchmarks.words import as_sentiment, as_words, extraction_notes, published_words

TEXT = "The character's emotional state is {}."


def test_words_of_every_kind() -> None:
    assert as_words(Predictions("words", {"a": ("x",)}, {})) == {"a": ("x",)}
    assert as_words(Predictions("sentiment", {}, {"a": "positive"})) == {"a": ("positive",)}
    assert as_words(Predictions("text", {}, {"a": TEXT.format("sad, angry")})) == {"a": ("sad", "angry")}


def test_sentiment_of_every_kind() -> None:
    assert as_sentiment(Predictions("sentiment", {}, {"a": "mixed"})) == {"a": "mixed"}
    assert as_sentiment(Predictions("words", {"a": ("happy",), "b": ()}, {})) == {"a": "positive"}
    assert as_sentiment(Predictions("text", {}, {"a": TEXT.format("sad, angry")})) == {"a": "negative"}


def test_notes_on_extraction(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    texts = {str(i): TEXT.format("sad, angry") for i in range(3)}
    np.savez(path, name2reason=np.array(texts, dtype=object))
    predictions = read_predictions(path, trust_npz=True)
    assert published_words(path) is None
    assert extraction_notes(predictions) == ()  # lists are taken as they stand
    np.savez(tmp_path / "x-openset.npz", filenames=np.array(list(texts)), fileitems=np.array(["[sad, angry]"] * 3))
    beside = published_words(path)
    assert extraction_notes(predictions, beside)[1] == "F1 1.00 with the words of x-openset.npz"
    np.savez(tmp_path / "x-openset.npz", filenames=np.array(list(texts)), fileitems=np.array(["[happy]"] * 3))
    assert "name a language model that takes the words with --extractor" in extraction_notes(predictions, beside)[1]
    taken = dict.fromkeys(texts, ("happy",))
    assert extraction_notes(predictions, beside, taken) == ("F1 1.00 with the words of x-openset.npz",)
    assert extraction_notes(read_predictions(tmp_path / "x-openset.npz")) == ()


def test_running_text_recommends_a_language_model() -> None:
    predictions = Predictions("text", {}, {"a": "He looks sad. He cries.", "b": "sad, angry"})
    assert extraction_notes(predictions) == (
        "1 of 2 answers are running text, whose words are taken by rule: a language model reads them better, "
        "name one with --extractor",
    )
    assert extraction_notes(predictions, extracted={"a": ("sad",)}) == ()
