"""``nanoemox score``: scores of a run, of the authors' result files, or of a folder of their checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nanoemox.benchmarks.clusters import clusters_text
from nanoemox.benchmarks.corrected_measures import CorrectedMeasures
from nanoemox.benchmarks.measures import LegacyMeasures, Measures
from nanoemox.benchmarks.official_files import Predictions, read_predictions, read_wheel_tables
from nanoemox.benchmarks.practice import checkpoint_files, practice
from nanoemox.benchmarks.records import Benchmark, expand, get_benchmark, guess
from nanoemox.benchmarks.runs import PREDICTIONS, SETTINGS, RunPart, read_run, unfinished
from nanoemox.benchmarks.score import Aligned, Score, align, score
from nanoemox.benchmarks.tables import cell
from nanoemox.benchmarks.truth import Truth, read_truth
from nanoemox.benchmarks.words import extraction_notes, published_words
from nanoemox.judging.endpoint import CallOptions
from nanoemox.judging.extract_words import CACHE, Taken, WordReader
from nanoemox.judging.language_models import cost_line
from nanoemox.scoring.legacy.words import legacy_scorer
from nanoemox.scoring.metrics.calibration import expected_calibration_error
from nanoemox.types import NanoEmoXError

SCORERS: Final = ("corrected", "legacy")
_UNFINISHED: Final = "the run has not ended: these are scores of the {} clips asked so far"
_WORD_TASKS: Final = ("mer", "ovmer", "msa")


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """The options of ``nanoemox score``.

    Attributes:
        benchmark: Id, of a run also a group; by default what the run or the path says.
        truth: Label file or corpus folder; by default what the run holds.
        scorer: ``corrected`` or ``legacy``.
        wheel_tables: Folder of the published tables, for ``legacy``.
        trust_npz: Open pickled files, which can run any code.
        common: Leave out what a label file knows beyond the clips of the run or file.
        extractor: Language model that takes the words out of running text; None for rules.
        intervals: What resamples draw: ``auto`` (speaker, else dialogue, else clip) or ``clip``.
        tell_unfinished: Note where a run has no scores of its own yet.
    """

    benchmark: str | None = None
    truth: Path | None = None
    scorer: str = "corrected"
    wheel_tables: Path | None = None
    trust_npz: bool = False
    common: bool = False
    extractor: str | None = None
    intervals: str = "auto"
    tell_unfinished: bool = True


@dataclass(frozen=True, slots=True)
class Loaded:
    """One benchmark's answers, ready to be scored.

    Attributes:
        benchmark: What they answer.
        aligned: Truths and answers.
        part: What else a run tells.
        taken: What a language model took out of the texts.
    """

    benchmark: Benchmark
    aligned: Aligned
    part: RunPart | None = None
    taken: Taken | None = None


def run_score(path: Path, request: ScoreRequest, options: CallOptions | None = None) -> dict[str, Any]:
    """Score a run, a result file or a folder of checkpoints; several benchmarks come under ``benchmarks``.

    Args:
        path: What to score.
        request: Options of the command.
        options: How a server that takes the words is called.

    Raises:
        NanoEmoXError: A file or option that cannot be meant.
    """
    measures = measures_of(request.scorer, request.wheel_tables)
    single = is_run(path) or path.is_file()
    with open_reader(path, request, options) as reader:
        if single:
            scores = {
                one.benchmark.id: _score(one, measures, request.intervals).to_dict()
                for one in load(path, request, reader)
            }
            result = next(iter(scores.values())) if len(scores) == 1 else {"benchmarks": scores}
        else:
            benchmark = _benchmark(path, request)
            files = checkpoint_files(path, benchmark)
            loaded = {epoch: _load_file(file, request, reader) for epoch, file in files.items()}
            _check_read(path, reader, loaded.values())
            result = practice(
                benchmark, {epoch: _score(one, measures, request.intervals) for epoch, one in loaded.items()}
            )
        return result if reader is None else result | {"extraction": reader.to_dict()}


def load(path: Path, request: ScoreRequest, reader: WordReader | None = None) -> list[Loaded]:
    """Read a run or a result file, one record a benchmark.

    Raises:
        NanoEmoXError: A file or option that cannot be meant.
    """
    found = _load_run(path, request, reader) if is_run(path) else [_load_file(path, request, reader)]
    _check_read(path, reader, found)
    return found


def is_run(path: Path) -> bool:
    """Whether a path is a run of this package, or its prediction file.

    Raises:
        NanoEmoXError: There is nothing.
    """
    if not path.exists():
        raise NanoEmoXError(f"{path}: no such file or folder")
    files = (PREDICTIONS, SETTINGS)
    return path.suffix == ".jsonl" or any((path / name).is_file() for name in files)


def open_reader(
    path: Path, request: ScoreRequest, options: CallOptions | None = None
) -> AbstractContextManager[WordReader | None]:
    """Open the language model that takes words, where one is asked for; its answers are kept beside what it reads."""
    if request.extractor is None:
        return nullcontext()
    folder = path if path.is_dir() else path.parent
    return closing(WordReader(request.extractor, folder / CACHE, options))


def measures_of(scorer: str, wheel_tables: Path | None) -> Measures:
    """Return a scorer by name."""
    if scorer not in SCORERS:
        raise NanoEmoXError(f"--scorer {scorer}: there are {' and '.join(SCORERS)}")
    if scorer == "corrected":
        return CorrectedMeasures()
    return LegacyMeasures(None if wheel_tables is None else legacy_scorer(read_wheel_tables(wheel_tables)))


def _benchmark(path: Path, request: ScoreRequest) -> Benchmark:
    found = guess(str(path)) if request.benchmark is None else get_benchmark(request.benchmark)
    if found is None:
        raise NanoEmoXError(f"{path} does not say which benchmark it answers: name it with --benchmark")
    return found


def _load_file(path: Path, request: ScoreRequest, reader: WordReader | None) -> Loaded:
    """Read a result file of others, whose truth is in another file."""
    benchmark = _benchmark(path, request)
    if request.truth is None:
        raise NanoEmoXError(f"{path} does not say what is right: name a label file of {benchmark.id} with --truth")
    truth = read_truth(request.truth, benchmark, trust_npz=request.trust_npz)
    predictions = read_predictions(path, trust_npz=request.trust_npz)
    # The published protocol scores what was answered.
    asked = predictions.names if request.common or request.scorer == "legacy" else None
    answers = _take_words(benchmark, predictions, reader, published_words(path))
    return _align(benchmark, truth, answers, asked)


def _load_run(path: Path, request: ScoreRequest, reader: WordReader | None) -> list[Loaded]:
    parts = read_run(path)
    asked = list(parts) if request.benchmark is None else [b.id for b in expand([request.benchmark])]
    wanted = [key for key in asked if key in parts]
    if not wanted:
        raise NanoEmoXError(f"{path}: answers {', '.join(parts)}, not {', '.join(asked)}")
    if request.truth is not None and len(wanted) > 1:
        raise NanoEmoXError(f"--truth is of one benchmark; name it with --benchmark: {', '.join(wanted)}")
    found, partial = [], request.tell_unfinished and unfinished(path)
    for key in wanted:
        benchmark, part, truth = get_benchmark(key), parts[key], parts[key].truth
        if request.truth is not None:
            truth = read_truth(request.truth, benchmark, trust_npz=request.trust_npz)
        if not truth:
            raise NanoEmoXError(f"the run does not say what is right: name a label file of {key} with --truth")
        listed = part.asked if request.common else None
        answers = _take_words(benchmark, part.predictions, reader)
        one = replace(_align(benchmark, truth, answers, listed, part.speakers), part=part)
        if partial:
            notes = (_UNFINISHED.format(len(part.asked)), *one.aligned.notes)
            one = replace(one, aligned=replace(one.aligned, notes=notes))
        found.append(one)
    return found


@dataclass(frozen=True, slots=True)
class _Answers:
    """Predictions, with the words of texts where a language model took them, and sentences about these."""

    predictions: Predictions
    notes: tuple[str, ...] = ()
    taken: Taken | None = None


def _take_words(
    benchmark: Benchmark, predictions: Predictions, reader: WordReader | None, published: Path | None = None
) -> _Answers:
    if benchmark.task not in _WORD_TASKS or predictions.kind != "text":
        return _Answers(predictions)
    if reader is None:
        return _Answers(predictions, extraction_notes(predictions, published))
    taken = reader.read(predictions.texts)
    if not taken.words:
        why = next(iter(taken.failures.values()), "there are none")
        raise NanoEmoXError(f"{reader.name} could read none of {len(predictions.texts)} answers; the first: {why}")
    told = (
        f"{reader.name} took the words of {taken.num_read} answers (prompt version {reader.prompt.version}) and failed "
        f"at {len(taken.failures)}; {taken.num_lists} were lists"
    )
    notes = (told, *extraction_notes(predictions, published, taken.words))
    return _Answers(Predictions("words", taken.words, {}), notes, taken)


def _align(
    benchmark: Benchmark,
    truth: Truth,
    answers: _Answers,
    asked: Sequence[str] | None,
    speakers: Mapping[str, str] | None = None,
) -> Loaded:
    wanted = None if asked is None else frozenset(asked)
    aligned = align(benchmark, truth, answers.predictions, asked=wanted, speakers=speakers)
    return Loaded(benchmark, replace(aligned, notes=(*aligned.notes, *answers.notes)), taken=answers.taken)


def _check_read(path: Path, reader: WordReader | None, found: Iterable[Loaded]) -> None:
    """Raise where a language model was named that had nothing to read."""
    if reader is not None and all(one.taken is None for one in found):
        raise NanoEmoXError(f"{path}: holds no written answers of mer, ovmer or msa, so --extractor has none to read")


def _score(loaded: Loaded, measures: Measures, by: str) -> Score:
    found = score(loaded.benchmark, loaded.aligned, measures, by=by)
    extra = calibration_metrics(loaded.aligned, loaded.part)
    measured = replace(found.measured, metrics=found.measured.metrics | extra)
    return replace(found, measured=measured, taken=loaded.taken)


def calibration_metrics(aligned: Aligned, part: RunPart | None) -> dict[str, float | None]:
    """Return the calibration error of a run's closed answers that tell their probability; else nothing."""
    if part is None or not part.confidences or not all(isinstance(value, str) for value in aligned.truth):
        return {}
    return {"expected_calibration_error": expected_calibration_error(*part.sureness(aligned.names, aligned.truth))}


# ---------------------------------------------------------------- text


def format_result(result: Mapping[str, Any]) -> str:
    """Return scores as lines for people, in percent."""
    if "extraction" in result:
        rest = {key: value for key, value in result.items() if key != "extraction"}
        return f"{format_result(rest)}\n{cost_line(result['extraction']['model'], result['extraction']['cost'])}"
    if "benchmarks" in result:
        return "\n\n".join(format_result(one) for one in result["benchmarks"].values())
    if "checkpoints" in result:
        return _format_practice(result)
    by = clusters_text(result["clusters"])
    lines = [f"{result['benchmark']} · {result['scorer']} scorer · {result['n']} clips · intervals by {by}"]
    for name, value in result["metrics"].items():
        low_high = result["intervals"].get(name)
        interval = "" if low_high is None else f"  [{cell(name, low_high[0])}, {cell(name, low_high[1])}]"
        others = "".join(f"  {key} {cell(name, row.get(name))}" for key, row in result["baselines"].items())
        lines.append(f"  {name:<28} {cell(name, value):>7}{interval}{others}")
    return "\n".join([*lines, *(f"  note: {note}" for note in result["notes"])])


def _format_practice(result: Mapping[str, Any]) -> str:
    lines = [f"{result['benchmark']} · {result['scorer']} scorer · {len(result['checkpoints'])} checkpoints"]
    for name, row in result["metrics"].items():
        printed = result["printed"].get(name)
        beside = "" if printed is None else f"  printed {100 * printed:.2f}"
        numbers = f"best on test {cell(name, row['best'])} (epoch {row['best_epoch']})  mean {cell(name, row['mean'])}"
        lines.append(f"  {name:<28} {numbers}  sd {cell(name, row['sd'])}{beside}")
    return "\n".join([*lines, *(f"  note: {note}" for note in result["notes"])])
