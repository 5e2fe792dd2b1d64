"""From whatever a prediction file holds to emotion words, or to a sentiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nanoemox.evaluation.official_files import Predictions
from nanoemox.scoring.lexicon import look_up
from nanoemox.tasks import parse_labels


def as_words(predictions: Predictions) -> Mapping[str, tuple[str, ...]]:
    """Return clip -> emotion words; out of a text they are extracted by rule."""
    if predictions.kind == "words":
        return predictions.words
    if predictions.kind == "sentiment":
        return {name: (label,) for name, label in predictions.texts.items()}
    return {name: words_of(text) for name, text in predictions.texts.items()}


def words_of(text: str) -> tuple[str, ...]:
    """Return the emotion words of a text."""
    return parse_labels(text)


def as_sentiment(predictions: Predictions) -> Mapping[str, str]:
    """Return clip -> positive, negative or neutral; of emotion words the side of most of them, by our lexicon."""
    if predictions.kind == "sentiment":
        return predictions.texts
    return {name: sentiment_of(words) for name, words in as_words(predictions).items()}


def sentiment_of(words: Iterable[str]) -> str:
    """Return the sentiment of emotion words: the sign of the sum of their valences."""
    total = sum(known.valence for word in words if (known := look_up(word)) is not None)
    return "positive" if total > 0 else "negative" if total < 0 else "neutral"
