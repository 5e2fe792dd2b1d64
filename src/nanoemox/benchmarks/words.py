"""Convert predictions to emotion words, or to a sentiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from nanoemox.benchmarks.official_files import Predictions, read_predictions
from nanoemox.scoring.corrected.extraction import agreement, extract_words, is_answer_list
from nanoemox.scoring.corrected.lexicon import look_up


def as_words(predictions: Predictions) -> Mapping[str, tuple[str, ...]]:
    """Return clip -> emotion words; out of a text they are extracted by rule."""
    if predictions.kind == "words":
        return predictions.words
    if predictions.kind == "sentiment":
        return {name: (label,) for name, label in predictions.texts.items()}
    return {name: extract_words(text) for name, text in predictions.texts.items()}


def as_sentiment(predictions: Predictions) -> Mapping[str, str]:
    """Return clip -> positive, negative or neutral; of emotion words the side of most of them, by our lexicon.

    A clip whose answer holds no word that the lexicon knows is left out: it is unanswered, not neutral.
    """
    if predictions.kind == "sentiment":
        return predictions.texts
    found = {name: sentiment_of(words) for name, words in as_words(predictions).items()}
    return {name: sentiment for name, sentiment in found.items() if sentiment is not None}


def sentiment_of(words: Iterable[str]) -> str | None:
    """Return the sentiment of emotion words: the sign of the sum of their valences; None if no word is known."""
    valences = [known.valence for word in words if (known := look_up(word)) is not None]
    if not valences:
        return None
    total = sum(valences)
    return "positive" if total > 0 else "negative" if total < 0 else "neutral"


def extraction_notes(
    predictions: Predictions, published: Path | None = None, extracted: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[str, ...]:
    """Describe how words were extracted, and how well they agree with the authors' list for the same answers.

    Args:
        predictions: The answers as written.
        published: The authors' list (``published_words``), where there is one.
        extracted: The words that a language model extracted; None if rules did.
    """
    if predictions.kind != "text":
        return ()
    by_rule = extracted is None
    words = as_words(predictions) if extracted is None else extracted
    prose = sum(not is_answer_list(text) for text in predictions.texts.values())
    if published is None:
        if not by_rule or not prose:
            return ()
        summary = f"{prose} of {len(predictions.texts)} answers are running text, whose words are taken by rule"
        return (f"{summary}: a language model reads them better, name one with --extractor",)
    notes = ["emotion words are taken from the texts by rule"] if by_rule else []
    theirs = read_predictions(published).words
    names = [name for name in theirs if name in words]
    if names:
        found = agreement([words[name] for name in names], [theirs[name] for name in names])
        far = by_rule and not found.reliable
        advice = ": too far to rely on, score that list, or name a language model that takes the words with --extractor"
        notes.append(f"F1 {found.synonyms:.2f} with the words of {published.name}{advice if far else ''}")
    return tuple(notes)


def published_words(path: Path) -> Path | None:
    """Return the list that its authors' language model took from ``X.npz``: ``X-openset.npz``, where it is there."""
    beside = path.with_name(f"{path.stem}-openset.npz")
    return beside if path.suffix == ".npz" and beside.is_file() else None
