"""Emotion words and sentiments out of whatever a file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nanoemox.evaluation.official_files import Predictions, read_predictions
from nanoemox.evaluation.words import as_sentiment, as_words, extraction_notes

TEXT = "The character's emotional state is {}."


def test_words_of_every_kind() -> None:
    assert as_words(Predictions("words", {"a": ("x",)}, {})) == {"a": ("x",)}
    assert as_words(Predictions("sentiment", {}, {"a": "positive"})) == {"a": ("positive",)}
    assert as_words(Predictions("text", {}, {"a": TEXT.format("sad, angry")})) == {"a": ("sad", "angry")}


def test_sentiment_of_every_kind() -> None:
    assert as_sentiment(Predictions("sentiment", {}, {"a": "mixed"})) == {"a": "mixed"}
    assert as_sentiment(Predictions("words", {"a": ("happy",), "b": ()}, {})) == {"a": "positive", "b": "neutral"}
    assert as_sentiment(Predictions("text", {}, {"a": TEXT.format("sad, angry")})) == {"a": "negative"}


def test_notes_on_extraction(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    texts = {str(i): TEXT.format("sad, angry") for i in range(3)}
    np.savez(path, name2reason=np.array(texts, dtype=object))
    predictions = read_predictions(path, trust_npz=True)
    assert extraction_notes(path, predictions) == ("emotion words are taken from the texts by rule",)
    np.savez(tmp_path / "x-openset.npz", filenames=np.array(list(texts)), fileitems=np.array(["[sad, angry]"] * 3))
    assert extraction_notes(path, predictions)[1] == "F1 1.00 with the words of x-openset.npz"
    np.savez(tmp_path / "x-openset.npz", filenames=np.array(list(texts)), fileitems=np.array(["[happy]"] * 3))
    assert "let a language model extract" in extraction_notes(path, predictions)[1]
    assert extraction_notes(tmp_path / "x-openset.npz", read_predictions(tmp_path / "x-openset.npz")) == ()
