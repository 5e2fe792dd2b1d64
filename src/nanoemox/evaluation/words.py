"""From whatever a prediction file holds to emotion words, or to a sentiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from nanoemox.evaluation.official_files import Predictions, read_predictions
from nanoemox.scoring.extraction import agreement, extract_words
from nanoemox.scoring.lexicon import look_up


def as_words(predictions: Predictions) -> Mapping[str, tuple[str, ...]]:
    """Return clip -> emotion words; out of a text they are extracted by rule."""
    if predictions.kind == "words":
        return predictions.words
    if predictions.kind == "sentiment":
        return {name: (label,) for name, label in predictions.texts.items()}
    return {name: extract_words(text) for name, text in predictions.texts.items()}


def as_sentiment(predictions: Predictions) -> Mapping[str, str]:
    """Return clip -> positive, negative or neutral; of emotion words the side of most of them, by our lexicon."""
    if predictions.kind == "sentiment":
        return predictions.texts
    return {name: sentiment_of(words) for name, words in as_words(predictions).items()}


def sentiment_of(words: Iterable[str]) -> str:
    """Return the sentiment of emotion words: the sign of the sum of their valences."""
    total = sum(known.valence for word in words if (known := look_up(word)) is not None)
    return "positive" if total > 0 else "negative" if total < 0 else "neutral"


def extraction_notes(path: Path, predictions: Predictions) -> tuple[str, ...]:
    """Tell how words came out of the texts of a result file, and how near that is to the list beside it.

    The authors keep the words that their language model took from ``X.npz`` in ``X-openset.npz``.
    """
    if predictions.kind != "text":
        return ()
    told = "emotion words are taken from the texts by rule"
    beside = path.with_name(f"{path.stem}-openset.npz")
    if not beside.is_file():
        return (told,)
    theirs, ours = read_predictions(beside).words, as_words(predictions)
    names = [name for name in theirs if name in ours]
    found = agreement([ours[name] for name in names], [theirs[name] for name in names])
    advice = "" if found.reliable else ": too far to rely on, score the list, or let a language model extract"
    return (told, f"F1 {found.synonyms:.2f} with the words of {beside.name}{advice}")
