"""Scores of a prediction file: align with the truth, measure, resample, set baselines beside.

Nothing here needs a model, torch or transformers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nanoemox.benchmarks.clusters import Clusters, clusters_of
from nanoemox.benchmarks.measures import Measured, Measures
from nanoemox.benchmarks.official_files import Predictions
from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.truth import Truth, Value
from nanoemox.benchmarks.words import as_sentiment, as_words
from nanoemox.judging.extract_words import Taken
from nanoemox.scoring.corrected.extraction import extract_words
from nanoemox.scoring.metrics.bootstrap import bootstrap_interval
from nanoemox.types import NanoEmoXError

BLIND_WORDS: Final = 8
"""Words of the blind list: about as many as the longest answers of published models hold."""
_NO_JUDGE: Final = (
    "explanations are scored by the emotion words in them; the published score is a language model's: nanoemox judge"
)
_CHAIN: Final = "<think>\nscenario: -\nemotion: {0}\ncause: -\ngoal: the emotion of the speaker is {0}\n</think>\n"
Answer = tuple[str, ...] | str | None


@dataclass(frozen=True, slots=True)
class Aligned:
    """Truths and answers, clip by clip.

    Attributes:
        names: The clips that are scored.
        truth: What is right.
        answers: What was answered, None where nothing was.
        strays: Answers to clips that the truth does not know.
        notes: Sentences about clips that only one side knows, or that have no answer.
        speakers: Clip -> speaker, where known.
    """

    names: tuple[str, ...]
    truth: tuple[Value, ...]
    answers: tuple[Answer, ...]
    strays: tuple[Answer, ...] = ()
    notes: tuple[str, ...] = ()
    speakers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Score:
    """The scores of one prediction file on one benchmark.

    ``clusters`` is what the intervals were drawn over, ``taken`` what a language model took out of texts.
    """

    benchmark: Benchmark
    scorer: str
    measured: Measured
    num_samples: int
    num_unanswered: int
    intervals: dict[str, tuple[float, float]]
    clusters: Clusters
    baselines: dict[str, dict[str, float | None]]
    notes: tuple[str, ...] = field(default=())
    taken: Taken | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the command line."""
        return {
            "benchmark": self.benchmark.id,
            "benchmark_version": self.benchmark.version,
            "scorer": self.scorer,
            "metrics": self.measured.metrics,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "clusters": self.clusters.to_dict(),
            "per_wheel": self.measured.per_wheel,
            "n": self.num_samples,
            "n_counted": self.measured.num_counted,
            "n_unanswered": self.num_unanswered,
            "baselines": self.baselines,
            "notes": list(self.notes),
            **({} if self.taken is None else {"extracted": self.taken.to_dict()}),
        }


def align(
    benchmark: Benchmark,
    truth: Truth,
    predictions: Predictions,
    *,
    asked: Collection[str] | None = None,
    speakers: Mapping[str, str] | None = None,
) -> Aligned:
    """Pair truths with answers: a clip that was asked and has no answer stays, and is wrong.

    Args:
        benchmark: What is scored.
        truth: What is right.
        predictions: What was answered.
        asked: The clips that were asked, None for every clip of the truth. Clips of the truth that were not asked are
            left out, which a note tells.
        speakers: Clip -> speaker, where known.

    Raises:
        NanoEmoXError: No clip of the truth has an answer.
    """
    answers = _answers(benchmark, predictions)
    names = tuple(name for name in truth if asked is None or name in asked)
    unknown = [name for name in answers if name not in truth]
    unanswered = sum(name not in answers for name in names)
    if unanswered == len(names):
        raise NanoEmoXError(
            f"{benchmark.id}: no clip in common: the truth has {_some(truth)}, the answers {_some(answers)}; "
            "is it the right benchmark and label file?"
        )
    notes = [
        (len(unknown), f"{len(unknown)} answered clips are not in the truth and are not scored"),
        (len(truth) - len(names), f"{len(truth) - len(names)} clips of the truth were not asked: left out"),
        (unanswered, f"{unanswered} clips have no answer and are counted as wrong"),
    ]
    told = [note for number, note in notes if number]
    size = benchmark.num_samples
    if size is not None and len(names) != size:
        told.append(f"{len(names)} clips are scored; the part that is asked has {size}")
    return Aligned(
        names=names,
        truth=tuple(truth[name] for name in names),
        answers=tuple(answers.get(name) for name in names),
        strays=tuple(answers[name] for name in unknown),
        notes=tuple(told),
        speakers=speakers or {},
    )


def score(
    benchmark: Benchmark, aligned: Aligned, measures: Measures, *, num_resamples: int = 1000, by: str = "auto"
) -> Score:
    """Measure answers, with 95 % intervals, beside two baselines that know the truth's words but no clip.

    Args:
        benchmark: What is scored.
        aligned: Truths and answers.
        measures: The scorer.
        num_resamples: Resamples of each interval.
        by: What they draw: ``auto`` (speaker, else dialogue, else clip) or ``clip``.
    """
    measured = measure(benchmark, aligned, measures)
    clusters = clusters_of(benchmark, aligned.names, aligned.speakers, by)
    intervals = {}
    for name, (statistic, kept) in measured.statistics.items():
        interval = bootstrap_interval(statistic, len(kept), clusters=clusters.of(kept), num_resamples=num_resamples)
        intervals[name] = (interval.low, interval.high)
    rows = {
        name: measure(benchmark, replace(aligned, answers=(answer,) * len(aligned.truth), strays=()), measures).metrics
        for name, answer in blind_answers(benchmark, aligned.truth).items()
    }
    return Score(
        benchmark=benchmark,
        scorer=measures.name,
        measured=measured,
        num_samples=len(aligned.names),
        num_unanswered=sum(a is None for a in aligned.answers),
        intervals=intervals,
        clusters=clusters,
        baselines=rows,
        notes=(*((benchmark.note,) if benchmark.note else ()), *aligned.notes, *measured.notes, *clusters.notes()),
    )


def measure(benchmark: Benchmark, aligned: Aligned, measures: Measures) -> Measured:
    """Measure aligned answers by the benchmark's task."""
    truth = aligned.truth
    one = [value if isinstance(value, str) else ", ".join(value) for value in truth]
    texts = [_text(answer) for answer in aligned.answers]
    lists = [(answer,) if isinstance(answer, str) else answer for answer in aligned.answers]
    if benchmark.task == "mer":
        return measures.emotion(one, lists, benchmark.labels)
    if benchmark.task == "eri":
        found = measures.open([extract_words(value) for value in one], lists)
        return replace(found, notes=[*found.notes, _NO_JUDGE])
    if benchmark.task == "ovmer":
        return measures.open([(v,) if isinstance(v, str) else v for v in truth], lists)
    if benchmark.task == "msa":
        return measures.sentiment(one, texts)
    if benchmark.task == "mir":
        return measures.intent(one, texts, benchmark.labels)
    return measures.replies(one, texts, [text for text in map(_text, aligned.strays) if text is not None])


def blind_answers(benchmark: Benchmark, truth: Sequence[Value]) -> dict[str, Answer]:
    """Return what to answer to every clip without looking: the most common label, and a list of the most common.

    Both take the words from the truth itself, which is more than a model may know: a model below them is no good, and
    a scorer under which the list wins is no good either.
    """
    if benchmark.task == "eri":
        truth = [extract_words(value) if isinstance(value, str) else value for value in truth]
    words = Counter(word for value in truth for word in ((value,) if isinstance(value, str) else value))
    common = [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0])) if word]
    if not common:
        return {}
    if benchmark.task == "erg":
        return {"majority": _CHAIN.format(common[0])}
    if benchmark.task in ("mir", "msa"):
        return {"majority": common[0]}
    return {"majority": (common[0],), "blind_list": tuple(common[:BLIND_WORDS])}


def _answers(benchmark: Benchmark, predictions: Predictions) -> Mapping[str, Answer]:
    """Return clip -> answer in the form that the benchmark's task needs."""
    if benchmark.task in ("mer", "ovmer", "eri"):
        return as_words(predictions)
    if benchmark.task == "msa":
        return as_sentiment(predictions)
    if predictions.kind == "words":
        return {name: ", ".join(words) for name, words in predictions.words.items()}
    return dict(predictions.texts)


def _text(answer: Answer) -> str | None:
    return answer if answer is None or isinstance(answer, str) else ", ".join(answer)


def _some(names: Mapping[str, Any]) -> str:
    return f"{len(names)} such as {next(iter(names), 'none')!r}"
