"""Score files: a run, the authors' result files, or a folder of their checkpoints (``nanoemox score``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nanoemox.benchmarks.checkpoint_scores import checkpoint_files, summarise_checkpoints
from nanoemox.benchmarks.clusters import clusters_text
from nanoemox.benchmarks.official_files import read_predictions
from nanoemox.benchmarks.records import WORD_TASKS, Benchmark, expand, get_benchmark, guess
from nanoemox.benchmarks.runs import PREDICTIONS, SETTINGS, read_run, unfinished
from nanoemox.benchmarks.score import ScoringInput, measures_of, score_input, scoring_input
from nanoemox.benchmarks.tables import cell
from nanoemox.benchmarks.truth import read_truth
from nanoemox.benchmarks.words import published_words
from nanoemox.judging.endpoint import CallOptions
from nanoemox.judging.extract_words import CACHE, WordReader
from nanoemox.judging.language_models import cost_line
from nanoemox.types import NanoEmoXError

_UNFINISHED: Final = "the run has not ended: these are scores of the {} clips so far"


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """The options of ``nanoemox score``.

    Attributes:
        benchmark: Benchmark id, or a group for a run; by default what the run or the path says.
        truth: Label file or corpus folder; by default the truth in the run.
        scorer: ``corrected`` or ``legacy``.
        wheel_tables: Folder of the published wheel tables, for ``legacy``.
        trust_npz: Open pickled files, which can run any code.
        common: Leave out clips of a label file that the run or result file does not have.
        extractor: Language model that extracts emotion words from running text; None for rules.
        intervals: What the bootstrap resamples: ``auto`` (speakers, else dialogues, else clips) or ``clip``.
    """

    benchmark: str | None = None
    truth: Path | None = None
    scorer: str = "corrected"
    wheel_tables: Path | None = None
    trust_npz: bool = False
    common: bool = False
    extractor: str | None = None
    intervals: str = "auto"


def score_files(path: Path, options: ScoreOptions, call: CallOptions | None = None) -> dict[str, Any]:
    """Score a run, a result file or a folder of checkpoints.

    Args:
        path: The run, file or folder.
        options: The options.
        call: How a served extractor is called.

    Returns:
        ``Score.to_dict``; several benchmarks are under ``benchmarks``, checkpoints as ``summarise_checkpoints`` says.

    Raises:
        NanoEmoXError: An unusable file or option.
    """
    measures = measures_of(options.scorer, options.wheel_tables)
    single = is_run(path) or path.is_file()
    with open_reader(path, options, call) as reader:
        if single:
            scores = {
                one.benchmark.id: score_input(one, measures, by=options.intervals).to_dict()
                for one in load(path, options, reader)
            }
            result = next(iter(scores.values())) if len(scores) == 1 else {"benchmarks": scores}
        else:
            benchmark = _benchmark(path, options)
            files = checkpoint_files(path, benchmark)
            loaded = {epoch: _load_file(file, options, reader) for epoch, file in files.items()}
            _check_extraction(path, reader, loaded.values())
            by_epoch = {epoch: score_input(one, measures, by=options.intervals) for epoch, one in loaded.items()}
            result = summarise_checkpoints(benchmark, by_epoch)
        return result if reader is None else result | {"extraction": reader.to_dict()}


def load(path: Path, options: ScoreOptions, reader: WordReader | None = None) -> list[ScoringInput]:
    """Read a run or a result file, one record per benchmark.

    Raises:
        NanoEmoXError: An unusable file or option.
    """
    found = _load_run(path, options, reader) if is_run(path) else [_load_file(path, options, reader)]
    _check_extraction(path, reader, found)
    return found


def is_run(path: Path) -> bool:
    """Return whether a path is a run of this package, or its prediction file.

    Raises:
        NanoEmoXError: The path does not exist.
    """
    if not path.exists():
        raise NanoEmoXError(f"{path}: no such file or folder")
    files = (PREDICTIONS, SETTINGS)
    return path.suffix == ".jsonl" or any((path / name).is_file() for name in files)


def open_reader(
    path: Path, options: ScoreOptions, call: CallOptions | None = None
) -> AbstractContextManager[WordReader | None]:
    """Open the extractor, if there is one; its answers are cached in the folder of the file."""
    if options.extractor is None:
        return nullcontext()
    folder = path if path.is_dir() else path.parent
    return closing(WordReader(options.extractor, folder / CACHE, call))


def _benchmark(path: Path, options: ScoreOptions) -> Benchmark:
    found = guess(str(path)) if options.benchmark is None else get_benchmark(options.benchmark)
    if found is None:
        raise NanoEmoXError(f"{path} does not say which benchmark it answers: name it with --benchmark")
    return found


def _load_file(path: Path, options: ScoreOptions, reader: WordReader | None) -> ScoringInput:
    """Read a result file, whose truth is in another file."""
    benchmark = _benchmark(path, options)
    if options.truth is None:
        raise NanoEmoXError(f"{path} does not hold the truth: name a label file of {benchmark.id} with --truth")
    truth = read_truth(options.truth, benchmark, trust_npz=options.trust_npz)
    predictions = read_predictions(path, trust_npz=options.trust_npz)
    # The published protocol scores what was answered.
    clips = predictions.names if options.common or options.scorer == "legacy" else None
    return scoring_input(truth, predictions, benchmark, clips=clips, reader=reader, published=published_words(path))


def _load_run(path: Path, options: ScoreOptions, reader: WordReader | None) -> list[ScoringInput]:
    parts = read_run(path)
    named = list(parts) if options.benchmark is None else [b.id for b in expand([options.benchmark])]
    wanted = [key for key in named if key in parts]
    if not wanted:
        raise NanoEmoXError(f"{path}: answers {', '.join(parts)}, not {', '.join(named)}")
    if options.truth is not None and len(wanted) > 1:
        raise NanoEmoXError(f"--truth is of one benchmark; name it with --benchmark: {', '.join(wanted)}")
    found, partial = [], unfinished(path)
    for key in wanted:
        benchmark, part, truth = get_benchmark(key), parts[key], parts[key].truth
        if options.truth is not None:
            truth = read_truth(options.truth, benchmark, trust_npz=options.trust_npz)
        if not truth:
            raise NanoEmoXError(f"{path} does not hold the truth: name a label file of {key} with --truth")
        one = scoring_input(truth, part, benchmark, clips=part.clips if options.common else None, reader=reader)
        if partial:
            notes = (_UNFINISHED.format(len(part.clips)), *one.aligned.notes)
            one = replace(one, aligned=replace(one.aligned, notes=notes))
        found.append(one)
    return found


def _check_extraction(path: Path, reader: WordReader | None, found: Iterable[ScoringInput]) -> None:
    """Raise if an extractor was named but had nothing to read."""
    if reader is not None and all(one.extraction is None for one in found):
        raise NanoEmoXError(
            f"{path}: no written answers to {', '.join(WORD_TASKS)}, so --extractor has nothing to read"
        )


def format_scores(result: Mapping[str, Any]) -> str:
    """Format scores as text, in percent."""
    if "extraction" in result:
        rest = {key: value for key, value in result.items() if key != "extraction"}
        return f"{format_scores(rest)}\n{cost_line(result['extraction']['model'], result['extraction']['cost'])}"
    if "benchmarks" in result:
        return "\n\n".join(format_scores(one) for one in result["benchmarks"].values())
    if "checkpoints" in result:
        return _format_checkpoints(result)
    by = clusters_text(result["clusters"])
    lines = [f"{result['benchmark']} · {result['scorer']} scorer · {result['n']} clips · intervals by {by}"]
    for name, value in result["metrics"].items():
        low_high = result["intervals"].get(name)
        interval = "" if low_high is None else f"  [{cell(name, low_high[0])}, {cell(name, low_high[1])}]"
        others = "".join(f"  {key} {cell(name, row.get(name))}" for key, row in result["baselines"].items())
        lines.append(f"  {name:<28} {cell(name, value):>7}{interval}{others}")
    return "\n".join([*lines, *(f"  note: {note}" for note in result["notes"])])


def _format_checkpoints(result: Mapping[str, Any]) -> str:
    lines = [f"{result['benchmark']} · {result['scorer']} scorer · {len(result['checkpoints'])} checkpoints"]
    for name, row in result["metrics"].items():
        printed = result["printed"].get(name)
        beside = "" if printed is None else f"  printed {100 * printed:.2f}"
        numbers = f"best on test {cell(name, row['best'])} (epoch {row['best_epoch']})  mean {cell(name, row['mean'])}"
        lines.append(f"  {name:<28} {numbers}  sd {cell(name, row['sd'])}{beside}")
    return "\n".join([*lines, *(f"  note: {note}" for note in result["notes"])])
