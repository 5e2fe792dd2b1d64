"""Pair the truth of a benchmark with the predictions, clip by clip."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nanoemox.benchmarks.official_files import Predictions
from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.truth import Truth, Value
from nanoemox.benchmarks.words import as_sentiment, as_words
from nanoemox.scoring.corrected.scorer import LabelMap
from nanoemox.tasks import MER, MSA, format_label, parse_label
from nanoemox.types import NanoEmoXError

AnswerValue = tuple[str, ...] | str | None
"""Emotion words, or a text; None if there is no answer."""


@dataclass(frozen=True, slots=True)
class AlignedAnswers:
    """Truths and answers, clip by clip.

    Attributes:
        names: The scored clips.
        truth: What is right.
        answers: The answers; None for an unanswered clip.
        strays: Answers to clips without a truth.
        notes: Notes on clips of only one side, or without an answer.
        speakers: Clip -> speaker, where known.
    """

    names: tuple[str, ...]
    truth: tuple[Value, ...]
    answers: tuple[AnswerValue, ...]
    strays: tuple[AnswerValue, ...] = ()
    notes: tuple[str, ...] = ()
    speakers: Mapping[str, str] = field(default_factory=dict)


def align(
    benchmark: Benchmark,
    truth: Truth,
    predictions: Predictions,
    *,
    clips: Collection[str] | None = None,
    speakers: Mapping[str, str] | None = None,
) -> AlignedAnswers:
    """Pair truths with answers: an evaluated clip without an answer is kept, and counts as wrong.

    Args:
        benchmark: The benchmark.
        truth: What is right.
        predictions: The predictions.
        clips: The evaluated clips; None for every clip of the truth. Clips of the truth that were not evaluated are
            left out, and a note says so.
        speakers: Clip -> speaker, where known.

    Raises:
        NanoEmoXError: The predictions are of other clips than the truth.
    """
    answers = _answers(benchmark, predictions)
    names = tuple(name for name in truth if clips is None or name in clips)
    unknown = [name for name in answers if name not in truth]
    unanswered = sum(name not in answers for name in names)
    given = {*predictions.words, *predictions.texts}
    if not names or (given and given.isdisjoint(names)):
        raise NanoEmoXError(
            f"{benchmark.id}: no clip in common: the truth has {_some(truth)}, the answers {_some(given)}; "
            "is it the right benchmark and label file?"
        )
    candidates = [
        (len(unknown), f"{len(unknown)} answered clips are not in the truth and are not scored"),
        (len(truth) - len(names), f"{len(truth) - len(names)} clips of the truth were not evaluated: left out"),
        (unanswered, f"{unanswered} clips have no answer and are counted as wrong"),
    ]
    notes = [note for number, note in candidates if number]
    size = benchmark.num_samples
    if size is not None and len(names) != size:
        notes.append(f"{len(names)} clips are scored; the evaluated split has {size}")
    return AlignedAnswers(
        names=names,
        truth=tuple(truth[name] for name in names),
        answers=tuple(answers.get(name) for name in names),
        strays=tuple(answers[name] for name in unknown),
        notes=tuple(notes),
        speakers=speakers or {},
    )


def _answers(benchmark: Benchmark, predictions: Predictions) -> Mapping[str, AnswerValue]:
    """Return clip -> answer in the form of the benchmark's task."""
    if benchmark.task == MER.key or benchmark.form in ("labels", "text"):
        return as_words(predictions)
    if benchmark.task == MSA.key:
        return as_sentiment(predictions)
    if predictions.kind == "words":
        return {name: ", ".join(words) for name, words in predictions.words.items()}
    return dict(predictions.texts)


def _some(names: Collection[str]) -> str:
    return f"{len(names)} such as {next(iter(names), 'none')!r}"


def select_clips(aligned: AlignedAnswers, names: Sequence[str]) -> AlignedAnswers:
    """Return the named clips, in the order of the names."""
    places = {name: place for place, name in enumerate(aligned.names)}
    chosen = [places[name] for name in names]
    return AlignedAnswers(
        names=tuple(names),
        truth=tuple(aligned.truth[place] for place in chosen),
        answers=tuple(aligned.answers[place] for place in chosen),
        speakers=aligned.speakers,
    )


def read_label(benchmark: Benchmark, answer: AnswerValue) -> str | None:
    """Return the label that an answer to a closed task is read as."""
    if not answer:
        return None
    if benchmark.task == MER.key:
        return LabelMap(benchmark.labels).read((answer,) if isinstance(answer, str) else answer)
    return parse_label(answer if isinstance(answer, str) else ", ".join(answer), benchmark.labels)


def true_label(benchmark: Benchmark, truth: Value) -> str:
    """Return the true label of a closed task in the benchmark's spelling."""
    text = truth if isinstance(truth, str) else ", ".join(truth)
    return read_label(benchmark, text) or (text if benchmark.task == MER.key else format_label(text))
