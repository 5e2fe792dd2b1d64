"""Score predictions in memory: align them with the truth, compute the metrics, resample them, add blind baselines.

Nothing here needs a file, a model, torch or transformers; ``score_files`` reads files and calls these functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from nanoemox.benchmarks.align import AlignedAnswers, AnswerValue, align
from nanoemox.benchmarks.clusters import Clusters, clusters_of
from nanoemox.benchmarks.corrected_measures import CorrectedMeasures
from nanoemox.benchmarks.measures import LegacyMeasures, Measures, TaskScores
from nanoemox.benchmarks.official_files import Predictions, predictions_from, read_wheel_tables
from nanoemox.benchmarks.records import WORD_TASKS, Benchmark, get_benchmark
from nanoemox.benchmarks.runs import BenchmarkAnswers
from nanoemox.benchmarks.truth import Truth, Value, checked_value
from nanoemox.benchmarks.words import extraction_notes
from nanoemox.judging.extract_words import Extraction, WordReader
from nanoemox.scoring.corrected.extraction import extract_words
from nanoemox.scoring.legacy.words import legacy_scorer, split_list
from nanoemox.scoring.metrics.bootstrap import bootstrap_interval
from nanoemox.scoring.metrics.calibration import expected_calibration_error
from nanoemox.tasks import MER, MSA
from nanoemox.types import NanoEmoXError

SCORERS: Final = ("corrected", "legacy")
AnyPredictions = BenchmarkAnswers | Predictions | Mapping[str, Any]
"""What ``score`` takes: answers of ``evaluate`` or of a run, of a result file, or clip -> text or list of words."""
BLIND_WORDS: Final = 8
"""Words of the blind list: about as many as the longest answers of published models hold."""
_NO_JUDGE: Final = (
    "explanations are scored by the emotion words in them; the published score is a language model's: nanoemox judge"
)
_CHAIN: Final = "<think>\nscenario: -\nemotion: {0}\ncause: -\ngoal: the emotion of the speaker is {0}\n</think>\n"


@dataclass(frozen=True, slots=True)
class Score:
    """The scores of one prediction file on one benchmark.

    ``clusters`` is what the intervals resample, ``extraction`` what a language model extracted from the texts.
    """

    benchmark: Benchmark
    scorer: str
    task_scores: TaskScores
    num_samples: int
    num_unanswered: int
    intervals: dict[str, tuple[float, float]]
    clusters: Clusters
    baselines: dict[str, dict[str, float | None]]
    notes: tuple[str, ...] = field(default=())
    extraction: Extraction | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the command line."""
        return {
            "benchmark": self.benchmark.id,
            "benchmark_version": self.benchmark.version,
            "scorer": self.scorer,
            "metrics": self.task_scores.metrics,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "clusters": self.clusters.to_dict(),
            "per_wheel": self.task_scores.per_wheel,
            "n": self.num_samples,
            "n_counted": self.task_scores.num_counted,
            "n_unanswered": self.num_unanswered,
            "baselines": self.baselines,
            "notes": list(self.notes),
            **({} if self.extraction is None else {"extracted": self.extraction.to_dict()}),
        }


@dataclass(frozen=True, slots=True)
class ScoringInput:
    """The answers to one benchmark, aligned with the truth.

    Attributes:
        benchmark: The benchmark.
        aligned: Truth and answers.
        answers: The answers with their labels and probabilities, if known.
        extraction: Emotion words that a language model extracted from the texts.
    """

    benchmark: Benchmark
    aligned: AlignedAnswers
    answers: BenchmarkAnswers | None = None
    extraction: Extraction | None = None


def score(
    truth: Mapping[str, str | Sequence[str]],
    predictions: AnyPredictions,
    benchmark: Benchmark | str,
    *,
    scorer: Measures | str = "corrected",
    clips: Collection[str] | None = None,
    speakers: Mapping[str, str] | None = None,
    intervals: str = "auto",
    num_resamples: int = 1000,
) -> Score:
    """Score predictions, with 95 % intervals and blind baselines.

    Args:
        truth: Clip -> label, text or emotion words, in the form of the benchmark's task.
        predictions: Clip -> text, or clip -> list of emotion words; an absent clip (or None) is unanswered. The answers
            of ``evaluate`` and of ``read_run`` are scored with their probabilities too.
        benchmark: The benchmark, or its id.
        scorer: ``corrected``, ``legacy``, or a scorer (``measures_of``).
        clips: The evaluated clips; by default all clips of the truth. Unanswered clips are wrong.
        speakers: Clip -> speaker, if known.
        intervals: What the bootstrap resamples: ``auto`` (speakers, else dialogues, else clips) or ``clip``.
        num_resamples: Resamples per interval.

    Raises:
        NanoEmoXError: An unknown benchmark or scorer, a value of the wrong type, or no clip in common.
    """
    measures = measures_of(scorer) if isinstance(scorer, str) else scorer
    given = scoring_input(truth, predictions, benchmark, clips=clips, speakers=speakers)
    return score_input(given, measures, by=intervals, num_resamples=num_resamples)


def measures_of(scorer: str, wheel_tables: Path | None = None) -> Measures:
    """Return a scorer by its name.

    Args:
        scorer: ``corrected`` or ``legacy``.
        wheel_tables: Folder of the published wheel tables, which ``legacy`` needs for emotion words.

    Raises:
        NanoEmoXError: An unknown name, or tables that cannot be read.
    """
    if scorer not in SCORERS:
        raise NanoEmoXError(f"--scorer {scorer}: there are {' and '.join(SCORERS)}")
    if scorer == "corrected":
        return CorrectedMeasures()
    return LegacyMeasures(None if wheel_tables is None else legacy_scorer(read_wheel_tables(wheel_tables)))


def scoring_input(
    truth: Mapping[str, str | Sequence[str]],
    predictions: AnyPredictions,
    benchmark: Benchmark | str,
    *,
    clips: Collection[str] | None = None,
    speakers: Mapping[str, str] | None = None,
    reader: WordReader | None = None,
    published: Path | None = None,
) -> ScoringInput:
    """Align predictions with the truth; further arguments as of ``score``.

    Args:
        truth: Clip -> label, text or emotion words.
        predictions: The answers.
        benchmark: The benchmark, or its id.
        clips: The evaluated clips; by default all clips of the truth.
        speakers: Clip -> speaker, if known; by default those of the answers.
        reader: Language model that extracts emotion words from texts; None for rules.
        published: The authors' own word list for these answers (``published_words``), which is compared.
    """
    benchmark = get_benchmark(benchmark) if isinstance(benchmark, str) else benchmark
    answers = predictions if isinstance(predictions, BenchmarkAnswers) else None
    if answers is not None:
        speakers = answers.speakers if speakers is None else speakers
    given = _as_predictions(predictions)
    words, notes, extraction = _extract(benchmark, given, reader, published)
    checked: Truth = {name: checked_value(value, f"clip {name!r}") for name, value in truth.items()}
    aligned = align(benchmark, checked, words, clips=None if clips is None else frozenset(clips), speakers=speakers)
    return ScoringInput(benchmark, replace(aligned, notes=(*aligned.notes, *notes)), answers, extraction)


def score_input(given: ScoringInput, measures: Measures, *, by: str = "auto", num_resamples: int = 1000) -> Score:
    """Score aligned answers; the calibration error is added if the answers carry probabilities."""
    found = score_aligned(given.benchmark, given.aligned, measures, num_resamples=num_resamples, by=by)
    metrics = found.task_scores.metrics | calibration_metrics(given)
    return replace(found, task_scores=replace(found.task_scores, metrics=metrics), extraction=given.extraction)


def calibration_metrics(given: ScoringInput, aligned: AlignedAnswers | None = None) -> dict[str, float | None]:
    """Return the calibration error of closed answers with probabilities; empty for all others.

    Args:
        given: The answers.
        aligned: A selection of their clips; by default all of them.
    """
    aligned, answers = aligned or given.aligned, given.answers
    if answers is None or not answers.confidences or not all(isinstance(value, str) for value in aligned.truth):
        return {}
    confidence, correct = answers.confidence(given.benchmark, aligned.names, aligned.truth)
    return {"expected_calibration_error": expected_calibration_error(confidence, correct)}


def _as_predictions(predictions: AnyPredictions) -> Predictions:
    if isinstance(predictions, BenchmarkAnswers):
        return predictions.predictions
    return predictions if isinstance(predictions, Predictions) else predictions_from(predictions)


def _extract(
    benchmark: Benchmark, predictions: Predictions, reader: WordReader | None, published: Path | None
) -> tuple[Predictions, tuple[str, ...], Extraction | None]:
    """Return the predictions, with emotion words in place of texts if a language model extracts them, and notes."""
    if benchmark.task not in WORD_TASKS or predictions.kind != "text":
        return predictions, (), None
    if reader is None:
        return predictions, extraction_notes(predictions, published), None
    extraction = reader.read(predictions.texts)
    if not extraction.words:
        why = next(iter(extraction.failures.values()), "there are none")
        raise NanoEmoXError(f"{reader.name} could read none of {len(predictions.texts)} answers; the first: {why}")
    summary = (
        f"{reader.name} extracted the words of {extraction.num_read} answers (prompt version {reader.prompt.version}) "
        f"and failed on {len(extraction.failures)}; {extraction.num_lists} were lists"
    )
    notes = (summary, *extraction_notes(predictions, published, extraction.words))
    return Predictions("words", extraction.words, {}), notes, extraction


def score_aligned(
    benchmark: Benchmark, aligned: AlignedAnswers, measures: Measures, *, num_resamples: int = 1000, by: str = "auto"
) -> Score:
    """Score aligned answers, with 95 % intervals and two baselines that know the words of the truth but see no clip.

    Args:
        benchmark: The benchmark.
        aligned: Truth and answers.
        measures: The scorer.
        num_resamples: Resamples per interval.
        by: What the bootstrap resamples: ``auto`` (speakers, else dialogues, else clips) or ``clip``.
    """
    scores = measure(benchmark, aligned, measures)
    clusters = clusters_of(benchmark, aligned.names, aligned.speakers, by)
    intervals = {}
    for name, (statistic, kept) in scores.statistics.items():
        interval = bootstrap_interval(statistic, len(kept), clusters=clusters.of(kept), num_resamples=num_resamples)
        intervals[name] = (interval.low, interval.high)
    rows = {
        name: measure(benchmark, replace(aligned, answers=(answer,) * len(aligned.truth), strays=()), measures).metrics
        for name, answer in blind_answers(benchmark, aligned.truth).items()
    }
    return Score(
        benchmark=benchmark,
        scorer=measures.name,
        task_scores=scores,
        num_samples=len(aligned.names),
        num_unanswered=sum(a is None for a in aligned.answers),
        intervals=intervals,
        clusters=clusters,
        baselines=rows,
        notes=(*((benchmark.note,) if benchmark.note else ()), *aligned.notes, *scores.notes, *clusters.notes()),
    )


def measure(benchmark: Benchmark, aligned: AlignedAnswers, measures: Measures) -> TaskScores:
    """Measure aligned answers by the form of the benchmark's task; emotion and sentiment have measures of their own."""
    truth = aligned.truth
    one = [value if isinstance(value, str) else ", ".join(value) for value in truth]
    texts = [_text(answer) for answer in aligned.answers]
    lists = [(answer,) if isinstance(answer, str) else answer for answer in aligned.answers]
    if benchmark.task == MER.key:
        return measures.emotion(one, lists, benchmark.labels)
    if benchmark.form == "text":
        found = measures.open([extract_words(value) for value in one], lists)
        return replace(found, notes=[*found.notes, _NO_JUDGE])
    if benchmark.form == "labels":
        return measures.open([split_list(v) if isinstance(v, str) else v for v in truth], lists)
    if benchmark.task == MSA.key:
        return measures.sentiment(one, texts)
    if benchmark.form == "label":
        return measures.intent(one, texts, benchmark.labels)
    return measures.replies(one, texts, [text for text in map(_text, aligned.strays) if text is not None])


def blind_answers(benchmark: Benchmark, truth: Sequence[Value]) -> dict[str, AnswerValue]:
    """Return what to answer to every clip without looking: the most common label, and a list of the most common.

    Both take the words from the truth itself, which is more than a model may know: a model below them is no good, and
    a scorer under which the list wins is no good either.
    """
    if benchmark.form == "text":
        truth = [extract_words(value) if isinstance(value, str) else value for value in truth]
    words = Counter(word for value in truth for word in ((value,) if isinstance(value, str) else value))
    common = [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0])) if word]
    if not common:
        return {}
    if benchmark.form == "reply":
        return {"majority": _CHAIN.format(common[0])}
    if benchmark.form == "label" and benchmark.task != MER.key:
        return {"majority": common[0]}
    return {"majority": (common[0],), "blind_list": tuple(common[:BLIND_WORDS])}


def _text(answer: AnswerValue) -> str | None:
    return answer if answer is None or isinstance(answer, str) else ", ".join(answer)
