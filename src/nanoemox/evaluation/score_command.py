"""``nanoemox score``: scores of a run, of the authors' result files, or of a folder of their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nanoemox.evaluation.benchmarks import Benchmark, expand, get_benchmark, guess
from nanoemox.evaluation.corrected_measures import CorrectedMeasures
from nanoemox.evaluation.measures import LegacyMeasures, Measures
from nanoemox.evaluation.official_files import read_predictions, read_wheel_tables
from nanoemox.evaluation.practice import checkpoint_files, practice
from nanoemox.evaluation.runs import PREDICTIONS, RunPart, read_run
from nanoemox.evaluation.score import Aligned, Score, align, score
from nanoemox.evaluation.truth import read_truth
from nanoemox.evaluation.words import extraction_notes
from nanoemox.scoring.calibration import expected_calibration_error
from nanoemox.scoring.legacy import legacy_scorer
from nanoemox.types import NanoEmoXError

SCORERS: Final = ("corrected", "legacy")


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """The options of ``nanoemox score``.

    Attributes:
        benchmark: Id, of a run also a group; by default what the run or the path says.
        truth: Label file or corpus folder; by default what the run holds.
        scorer: ``corrected`` or ``legacy``.
        wheel_tables: Folder of the published tables, for ``legacy``.
        trust_npz: Open pickled files, which can run any code.
        common: Leave out what a label file knows beyond the clips of the run or file; a run's own truth knows no more.
    """

    benchmark: str | None = None
    truth: Path | None = None
    scorer: str = "corrected"
    wheel_tables: Path | None = None
    trust_npz: bool = False
    common: bool = False


def run_score(path: Path, request: ScoreRequest) -> dict[str, Any]:
    """Score a run, a result file or a folder of checkpoints; several benchmarks come under ``benchmarks``.

    Raises:
        NanoEmoXError: A file or option that cannot be meant.
    """
    measures = measures_of(request.scorer, request.wheel_tables)
    if not path.exists():
        raise NanoEmoXError(f"{path}: no such file or folder")
    if path.suffix == ".jsonl" or (path / PREDICTIONS).is_file():
        return _score_run(path, request, measures)
    benchmark = _benchmark(path, request)
    if request.truth is None:
        raise NanoEmoXError(f"{path} does not say what is right: name a label file of {benchmark.id} with --truth")
    truth = read_truth(request.truth, benchmark, trust_npz=request.trust_npz)
    only_answered = request.common or request.scorer == "legacy"  # the published protocol scores what was answered

    def score_one(file: Path) -> Score:
        predictions = read_predictions(file, trust_npz=request.trust_npz)
        aligned = align(benchmark, truth, predictions, asked=set(predictions.names) if only_answered else None)
        notes = extraction_notes(file, predictions) if benchmark.task in ("mer", "ovmer", "msa") else ()
        return score(benchmark, replace(aligned, notes=(*aligned.notes, *notes)), measures)

    if path.is_dir():
        return practice(benchmark, {epoch: score_one(f) for epoch, f in checkpoint_files(path, benchmark).items()})
    return score_one(path).to_dict()


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


def _score_run(path: Path, request: ScoreRequest, measures: Measures) -> dict[str, Any]:
    parts = read_run(path)
    asked = list(parts) if request.benchmark is None else [b.id for b in expand([request.benchmark])]
    wanted = [key for key in asked if key in parts]
    if not wanted:
        raise NanoEmoXError(f"{path}: answers {', '.join(parts)}, not {', '.join(asked)}")
    if request.truth is not None and len(wanted) > 1:
        raise NanoEmoXError(f"--truth is of one benchmark; name it with --benchmark: {', '.join(wanted)}")
    scores = {key: _score_part(get_benchmark(key), parts[key], request, measures).to_dict() for key in wanted}
    return scores[wanted[0]] if len(wanted) == 1 else {"benchmarks": scores}


def _score_part(benchmark: Benchmark, part: RunPart, request: ScoreRequest, measures: Measures) -> Score:
    truth = part.truth
    if request.truth is not None:
        truth = read_truth(request.truth, benchmark, trust_npz=request.trust_npz)
    if not truth:
        raise NanoEmoXError(f"the run does not say what is right: name a label file of {benchmark.id} with --truth")
    aligned = align(benchmark, truth, part.predictions, asked=set(part.asked) if request.common else None)
    found = score(benchmark, aligned, measures)
    extra = _calibration(aligned, part)
    return replace(found, measured=replace(found.measured, metrics=found.measured.metrics | extra))


def _calibration(aligned: Aligned, part: RunPart) -> dict[str, float | None]:
    """Return the calibration error of closed answers that tell their probability."""
    truth = [value for value in aligned.truth if isinstance(value, str)]
    if not part.confidences or len(truth) != len(aligned.names):
        return {}
    confidence = [part.confidences.get(name, 0.0) for name in aligned.names]
    right = [part.labels.get(name) == true for name, true in zip(aligned.names, truth, strict=True)]
    return {"expected_calibration_error": expected_calibration_error(confidence, right)}


# ---------------------------------------------------------------- text


def format_result(result: Mapping[str, Any]) -> str:
    """Return scores as lines for people, in percent."""
    if "benchmarks" in result:
        return "\n\n".join(format_result(one) for one in result["benchmarks"].values())
    if "checkpoints" in result:
        return _format_practice(result)
    lines = [f"{result['benchmark']} · {result['scorer']} scorer · {result['n']} clips"]
    for name, value in result["metrics"].items():
        low_high = result["intervals"].get(name)
        interval = "" if low_high is None else f"  [{100 * low_high[0]:.2f}, {100 * low_high[1]:.2f}]"
        others = "".join(f"  {key} {_show(name, row.get(name))}" for key, row in result["baselines"].items())
        lines.append(f"  {name:<28} {_show(name, value):>7}{interval}{others}")
    return "\n".join([*lines, *(f"  note: {note}" for note in result["notes"])])


def _format_practice(result: Mapping[str, Any]) -> str:
    lines = [f"{result['benchmark']} · {result['scorer']} scorer · {len(result['checkpoints'])} checkpoints"]
    for name, row in result["metrics"].items():
        printed = result["printed"].get(name)
        beside = "" if printed is None else f"  printed {100 * printed:.2f}"
        numbers = (
            f"best on test {_show(name, row['best'])} (epoch {row['best_epoch']})  mean {_show(name, row['mean'])}"
        )
        lines.append(f"  {name:<28} {numbers}  sd {_show(name, row['sd'])}{beside}")
    return "\n".join([*lines, *(f"  note: {note}" for note in result["notes"])])


def _show(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if name == "labels_per_answer" else f"{100 * value:.2f}"
