"""Read and validate the folders that ``nanoemox evaluate`` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nanoemox.benchmarks.align import AlignedAnswers, align
from nanoemox.benchmarks.judge import RESULT as JUDGED
from nanoemox.benchmarks.records import BENCHMARKS, Benchmark
from nanoemox.benchmarks.runs import (
    BASELINES,
    METRICS,
    PREDICTIONS,
    BenchmarkAnswers,
    read_parts,
    read_run,
    rows_by_benchmark,
)
from nanoemox.data.corpora.releases import read_json
from nanoemox.types import NanoEmoXError

Kind = TypeVar("Kind", bound=BaseModel)
Number = Annotated[float, Field(allow_inf_nan=False)]


class _FileModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ScoreClusters(_FileModel):
    """The unit that intervals resample, and the number of clusters."""

    unit: str
    n: int


class ScoreRow(_FileModel):
    """The scores of one row of a run: its model, or a baseline."""

    metrics: dict[str, Number | None]
    intervals: dict[str, tuple[Number, Number]] = {}
    clusters: ScoreClusters | None = None
    per_wheel: tuple[dict[str, int | Number | str | None], ...] = ()
    n: int
    n_unanswered: int
    notes: tuple[str, ...] = ()


class BenchmarkScores(_FileModel):
    """The scores of one benchmark in ``metrics.json``; the model's row comes first."""

    title: str
    headline: tuple[str, ...] = Field(min_length=1)
    rows: dict[str, ScoreRow] = Field(min_length=1)
    unanswered: dict[str, str] = {}


class RunScores(_FileModel):
    """What ``metrics.json`` holds."""

    model: str
    scorer: str
    settings: dict[str, str | bool | int | Number | list[str] | None] = {}
    cost: dict[str, int] = {}
    benchmarks: dict[str, BenchmarkScores] = Field(min_length=1)


class JudgeScore(_FileModel):
    """The judges' scores on one dimension, in points of their scale."""

    mean: Number | None
    interval: tuple[Number, Number] | None
    n: int
    failed: int
    alpha: Number | None


class JudgeScores(_FileModel):
    """The scores of one benchmark in ``judge.json``."""

    scale: tuple[int, int]
    metrics: dict[str, JudgeScore]


class _JudgeFile(_FileModel):
    benchmarks: dict[str, JudgeScores]


@dataclass(frozen=True, slots=True)
class EvaluatedRun:
    """One evaluated model.

    Attributes:
        name: What tables call it; no two runs have the same.
        path: Its folder.
        scores: Its ``metrics.json``.
        parts: Row (the run's name, or a baseline) -> benchmark -> truths and answers.
        rows: Benchmark -> clip -> row of ``predictions.jsonl``.
        judged: Benchmark -> its part of ``judge.json``.
    """

    name: str
    path: Path
    scores: RunScores
    parts: Mapping[str, Mapping[str, BenchmarkAnswers]]
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]]
    judged: Mapping[str, JudgeScores]

    def score_rows(self, key: str) -> dict[str, ScoreRow]:
        """Return the rows of a benchmark by name, the model's first under the name of the run."""
        rows = self.scores.benchmarks[key].rows
        first = next(iter(rows))
        return {self.name if name == first else name: row for name, row in rows.items()}


def read_runs(paths: Sequence[Path]) -> list[EvaluatedRun]:
    """Read the folders of runs.

    Raises:
        NanoEmoXError: One of them is none, is not finished, or was scored by another scorer than the first.
    """
    runs = [_read(path) for path in paths]
    for run in runs[1:]:
        if run.scores.scorer != runs[0].scores.scorer:
            raise NanoEmoXError(
                f"{run.path} was scored by the {run.scores.scorer} scorer, {runs[0].path} by the "
                f"{runs[0].scores.scorer} one: evaluate again with one --scorer; stored answers are reused"
            )
    return _named(runs)


def align_answers(benchmark: Benchmark, part: BenchmarkAnswers) -> AlignedAnswers:
    """Pair a run's truths with its answers; a clip without one stays, even where no clip has any."""
    if not part.predictions.names:
        unanswered = (None,) * len(part.truth)
        return AlignedAnswers(tuple(part.truth), tuple(part.truth.values()), unanswered, speakers=part.speakers)
    return align(benchmark, part.truth, part.predictions, speakers=part.speakers)


def _read(path: Path) -> EvaluatedRun:
    if not path.is_dir():
        raise NanoEmoXError(f"{path}: no such folder; give the --out of nanoemox evaluate")
    if not (path / METRICS).is_file():
        raise NanoEmoXError(
            f"{path}: holds no {METRICS}: no run of nanoemox evaluate, or one that did not end; "
            "run it again with the same --out to resume it"
        )
    scores = _checked(RunScores, path / METRICS)
    unknown = [key for key in scores.benchmarks if key not in BENCHMARKS]
    if unknown:
        raise NanoEmoXError(f"{path / METRICS}: unknown benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    folders = {scores.model: path}
    if (path / BASELINES).is_dir():
        shown = list(dict.fromkeys(name for found in scores.benchmarks.values() for name in found.rows))
        places = {name: place for place, name in enumerate(shown)}
        there = [f for f in (path / BASELINES).iterdir() if f.name in places and (f / PREDICTIONS).is_file()]
        folders |= {f.name: f for f in sorted(there, key=lambda f: places[f.name])}
    rows = rows_by_benchmark(path)
    parts = {name: read_run(folder) for name, folder in folders.items() if name != scores.model}
    parts = {scores.model: read_parts(rows, path / PREDICTIONS)} | parts
    own = parts[scores.model]
    missing = [key for key in scores.benchmarks if key not in own or not own[key].truth]
    if missing:
        raise NanoEmoXError(
            f"{path}: {METRICS} has scores of {', '.join(missing)}, {PREDICTIONS} holds no answers with truths to "
            "it: run nanoemox evaluate again with the same --out"
        )
    judged = _checked(_JudgeFile, path / JUDGED).benchmarks if (path / JUDGED).is_file() else {}
    return EvaluatedRun(scores.model, path, scores, parts, rows, judged)


def _checked(kind: type[Kind], file: Path) -> Kind:
    try:
        return kind.model_validate(read_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise NanoEmoXError(f"{file}: {where}: {first['msg']}: not written by this package") from error


def _named(runs: Sequence[EvaluatedRun]) -> list[EvaluatedRun]:
    """Give runs of models of the same name the names of their folders too."""
    names = [run.name for run in runs]
    wanted = [n if names.count(n) == 1 else f"{n} ({run.path.name})" for n, run in zip(names, runs, strict=True)]
    wanted = [n if wanted.count(n) == 1 else f"{n} {place}" for place, n in enumerate(wanted, 1)]
    return [
        replace(run, name=name, parts={name if key == run.name else key: part for key, part in run.parts.items()})
        for run, name in zip(runs, wanted, strict=True)
    ]
