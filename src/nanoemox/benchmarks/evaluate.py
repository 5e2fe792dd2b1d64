"""Evaluate a model on benchmarks, together with baselines.

``evaluate`` works in memory; ``evaluate_run`` keeps every answer in a folder, so that a killed run can be resumed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nanoemox.benchmarks.answerer import Answerer, Model
from nanoemox.benchmarks.baselines import (
    MAJORITY,
    OTHER_ORDER,
    SHUFFLED,
    TEXT_ONLY,
    CopiedRow,
    Majority,
    order_sensitivity,
    other_order,
    own_row,
    shuffled_media,
    text_only,
)
from nanoemox.benchmarks.clusters import clusters_of
from nanoemox.benchmarks.predict import EvalSet, ProcessRank, answer_row, merge, predict, read_eval_set
from nanoemox.benchmarks.records import BENCHMARKS, GROUPS, Benchmark, expand, get_benchmark
from nanoemox.benchmarks.remote import WORDS_ALONE, RemoteAnswerer, RemoteOptions
from nanoemox.benchmarks.runs import (
    BASELINES,
    METRICS,
    PAGE,
    PREDICTIONS,
    REPORT,
    SETTINGS,
    BenchmarkAnswers,
    Row,
    read_parts,
    rows_by_benchmark,
    speakers_of,
)
from nanoemox.benchmarks.score import measures_of, score
from nanoemox.benchmarks.tables import format_report
from nanoemox.data.corpora.releases import read_json
from nanoemox.data.files import sole_writer, write_json, write_text
from nanoemox.data.manifest import Sample
from nanoemox.judging.endpoint import PREFIX, Endpoint, cached_usage, parse_address
from nanoemox.tasks import TASKS
from nanoemox.types import NanoEmoXError

if TYPE_CHECKING:
    from nanoemox.inference.engine import Engine

SENSITIVITY: Final = "order_sensitivity"
"""Share of the clips answered in both label orders whose answers differ."""
CACHE: Final = "answer_cache"
"""Folder of the cached answers of a served model."""
MODEL: Final = "model"
ProgressBar = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""Takes the number of clips; yields what is called once per clip."""
RowsByClip = Mapping[str, Row]
"""Clip -> row, of one benchmark."""


def evaluate(
    model: Answerer | Engine,
    benchmark: Benchmark | str,
    samples: Sequence[Sample],
    *,
    data_root: Path | None = None,
    batch_size: int = 8,
) -> BenchmarkAnswers:
    """Run a model on samples of a benchmark, in memory.

    Args:
        model: An engine, or anything with ``answer(benchmark, samples)``.
        benchmark: The benchmark, or its id.
        samples: The samples; their labels become the truth.
        data_root: What media paths of the samples are relative to, for an engine; by default the working directory.
        batch_size: Clips per call.

    Returns:
        Truth and predictions, which ``score`` takes. A clip that cannot be answered has no prediction.

    Raises:
        NanoEmoXError: An unknown benchmark, or no samples.
    """
    benchmark = get_benchmark(benchmark) if isinstance(benchmark, str) else benchmark
    answerer = _as_answerer(model, data_root or Path())
    rows: dict[str, Row] = {}
    for start in range(0, len(samples), batch_size):
        group = samples[start : start + batch_size]
        replies = answerer.answer(benchmark, group)
        rows |= {s.id: answer_row(benchmark, s, reply) for s, reply in zip(group, replies, strict=True)}
    if not rows:
        raise NanoEmoXError(f"{benchmark.id}: there are no samples to evaluate on")
    return read_parts({benchmark.id: rows}, answerer.name)[benchmark.id]


def _as_answerer(model: Any, data_root: Path) -> Answerer:
    if hasattr(model, "answer_many"):  # an engine, whose import would bring torch
        from nanoemox.benchmarks.engine_answerer import EngineAnswerer

        return EngineAnswerer(model, data_root)
    answerer: Answerer = model
    return answerer


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """The options of ``nanoemox evaluate``.

    Attributes:
        benchmarks: Benchmark ids and groups.
        data_root: Folder of released corpora and of ``manifests``.
        out: Folder of the run; a killed run is resumed.
        model: Model directory, hub id or ``openai:http://host:port/v1#NAME``; by default the model in the package.
        limit: Clips per benchmark.
        scorer: ``corrected`` or ``legacy``.
        wheel_tables: Folder of the published wheel tables, for ``legacy``.
        batch: Clips per batch.
        device: Device of the engine.
        trust_npz: Open pickled files, which can run any code.
        again: Ask again about clips that the run holds without an answer.
        remote: Settings for a served model.
    """

    benchmarks: tuple[str, ...]
    data_root: Path
    out: Path
    model: str | None = None
    limit: int | None = None
    scorer: str = "corrected"
    wheel_tables: Path | None = None
    batch: int = 8
    device: str = "auto"
    trust_npz: bool = False
    again: bool = False
    remote: RemoteOptions = field(default_factory=RemoteOptions)


def evaluate_run(options: EvaluateOptions, progress: ProgressBar | None = None) -> dict[str, Any] | None:
    """Evaluate into a folder; answers that it already holds are reused.

    Args:
        options: The options.
        progress: Opens a progress bar.

    Returns:
        The contents of ``metrics.json``; None in all processes but the first.

    Raises:
        NanoEmoXError: An unusable option or file, before any clip is processed; another process writing the run; or
            a full disk, which keeps the answers so far.
    """
    benchmarks = expand(options.benchmarks)
    if not benchmarks:
        raise NanoEmoXError(f"--benchmarks is empty: name some of {', '.join([*GROUPS, *BENCHMARKS])}")
    if os.path.isfile(options.out):
        raise NanoEmoXError(f"--out {options.out}: a file: give a folder")
    first = os.environ.get("RANK", "0") == "0"
    try:
        with sole_writer(options.out, wanted=first):
            return _evaluate(options, benchmarks, progress)
    except OSError as error:
        reason = f"{error.filename or options.out}: {error.strerror or error}"
        raise NanoEmoXError(f"{reason}; answers so far are kept: fix this and run again with the same --out") from error


def _evaluate(
    options: EvaluateOptions, benchmarks: Sequence[Benchmark], progress: ProgressBar | None
) -> dict[str, Any] | None:
    measures_of(options.scorer, options.wheel_tables)
    eval_sets = [read_eval_set(b, options.data_root, options.limit, trust_npz=options.trust_npz) for b in benchmarks]
    with open_answerer(options, eval_sets) as (model, process, wait):
        first = process.rank == 0
        if first:
            _settings(options.out, model.settings)
        wait()
        _ask(model, eval_sets, options, process, progress if first else None)
        wait()
        if not first:
            return None
    for name in dict.fromkeys(name for one in eval_sets for name in rows_of(one.benchmark)):
        merge(_folder(options.out, name), eval_sets)
    metrics = run_metrics(options.out, model.name, eval_sets, options)
    write_json(options.out / METRICS, metrics)
    write_text(options.out / REPORT, format_report(metrics))
    return metrics


def rows_of(benchmark: Benchmark) -> tuple[str, ...]:
    """Return the rows of a benchmark's table, the model first."""
    order = (OTHER_ORDER,) if TASKS[benchmark.question].closed else ()
    return (MODEL, MAJORITY, TEXT_ONLY, SHUFFLED, *order)


def run_metrics(out: Path, model: str, eval_sets: Sequence[EvalSet], options: EvaluateOptions) -> dict[str, Any]:
    """Score the rows of a run: the model and its baselines."""
    names = dict.fromkeys(name for one in eval_sets for name in rows_of(one.benchmark))
    answers = {name: rows_by_benchmark(_folder(out, name)) for name in names}
    benchmarks = {}
    for one in eval_sets:
        key = one.benchmark.id
        given = {name: answers[name].get(key, {}) for name in rows_of(one.benchmark)}
        rows = {name: _scored(one.benchmark, given[name], options) for name in given}
        _annotate(rows, one, options)
        headline = list(one.benchmark.metrics)
        if OTHER_ORDER in rows and _add_sensitivity(one.benchmark, rows[OTHER_ORDER], given[MODEL], given[OTHER_ORDER]):
            headline.append(SENSITIVITY)
        benchmarks[key] = {
            "title": one.benchmark.title,
            "headline": headline,
            "rows": {model if name == MODEL else name: row for name, row in rows.items()},
            "unanswered": {clip: str(row["error"]) for clip, row in given[MODEL].items() if row["error"] is not None},
        }
    found = {"model": model, "scorer": options.scorer, "settings": read_json(out / SETTINGS), "benchmarks": benchmarks}
    return found | ({"cost": cached_usage(out / CACHE)} if (out / CACHE).is_dir() else {})


def silent_benchmarks(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the benchmarks of which the model answered no clip, each with the first clip's reason."""
    parts = metrics["benchmarks"].items()
    num_clips = {key: next(iter(part["rows"].values()))["n"] for key, part in parts}  # the model's row is the first
    silent = {key: p["unanswered"] for key, p in parts if p["unanswered"] and len(p["unanswered"]) == num_clips[key]}
    return {key: next(iter(reasons.values())) for key, reasons in silent.items()}


def _annotate(rows: Mapping[str, dict[str, Any]], eval_set: EvalSet, options: EvaluateOptions) -> None:
    """Add caveats as notes to the rows."""
    source = Majority.count(eval_set.benchmark, eval_set.corpus).source
    rows[MAJORITY]["notes"] = [*rows[MAJORITY]["notes"], f"counted on the {source} part"]
    for name, row in rows.items():
        if (reason := _own_row(name, eval_set, options)) is not None:
            row["notes"] = [*row["notes"], reason]


def _add_sensitivity(benchmark: Benchmark, row: dict[str, Any], first: RowsByClip, second: RowsByClip) -> bool:
    """Add the share of changed answers to the row of the other label order; False if no clip was answered in both."""
    speakers = speakers_of(first)
    found = order_sensitivity(
        _labels(first), _labels(second), lambda names: clusters_of(benchmark, names, speakers).keys
    )
    if found is None:
        return False
    row["metrics"] |= {SENSITIVITY: found.estimate}
    row["intervals"] |= {SENSITIVITY: [found.low, found.high]}
    return True


@contextmanager
def open_answerer(
    options: EvaluateOptions, eval_sets: Sequence[EvalSet]
) -> Iterator[tuple[Model, ProcessRank, Callable[[], None]]]:
    """Open a model: yields it, this process' rank, and a barrier. A served model needs no torch."""
    if (options.model or "").startswith(PREFIX):
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise NanoEmoXError("a served model is queried by one process: start without torchrun and raise --batch")
        endpoint = Endpoint(parse_address(options.model or ""), options.out / CACHE, options.remote.call)
        try:
            yield RemoteAnswerer(endpoint, options.data_root, eval_sets, options.remote), ProcessRank(), lambda: None
        finally:
            endpoint.close()
        return
    if options.remote != RemoteOptions():
        raise NanoEmoXError(
            f"--frames, --modalities, --shots and --erg-steps go with --model {PREFIX}...; a local model uses "
            "the prompts that it was trained on"
        )
    from nanoemox.benchmarks.engine_answerer import load_local

    yield load_local(options.model, options.data_root, options.device)


def _ask(
    model: Answerer,
    eval_sets: Sequence[EvalSet],
    options: EvaluateOptions,
    process: ProcessRank,
    progress: ProgressBar | None,
) -> None:
    total = sum(len(rows_of(one.benchmark)) * len(one.samples[process.rank :: process.world]) for one in eval_sets)
    with nullcontext(None) if progress is None else progress(total) as advance:
        for one in eval_sets:
            for name in rows_of(one.benchmark):
                predict(
                    _answerer(name, model, one, options),
                    one,
                    _folder(options.out, name),
                    batch=options.batch,
                    process=process,
                    advance=advance,
                    again=options.again,
                )


def _own_row(name: str, eval_set: EvalSet, options: EvaluateOptions) -> str | None:
    return own_row(name, eval_set.samples, words_alone=options.remote.modalities == WORDS_ALONE)


def _answerer(name: str, model: Answerer, eval_set: EvalSet, options: EvaluateOptions) -> Answerer:
    """Return the answerer of a row."""
    if _own_row(name, eval_set, options) is not None:
        return CopiedRow(_folder(options.out, MODEL), name)
    if name == MAJORITY:
        return Majority.count(eval_set.benchmark, eval_set.corpus)
    if name == TEXT_ONLY:
        return text_only(model)
    if name == SHUFFLED:
        return shuffled_media(model, eval_set.samples)
    return other_order(model) if name == OTHER_ORDER else model


def _folder(out: Path, row: str) -> Path:
    """Return the folder of a row's predictions."""
    return out if row == MODEL else out / BASELINES / row


def _settings(out: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of the run, or check that they are the same as before."""
    file = out / SETTINGS
    if file.is_file():
        before = read_json(file)
        if not isinstance(before, dict):
            raise NanoEmoXError(f"{file}: not written by this package: give another --out")
        if before != settings:
            other = ", ".join(
                f"{name} {str(before.get(name))[:60]} (now {str(settings.get(name))[:60]})"
                for name in dict.fromkeys([*before, *settings])
                if before.get(name) != settings.get(name)
            )
            raise NanoEmoXError(f"{out} holds answers of {other}: give another --out")
        return
    for name in (PREDICTIONS, METRICS, REPORT, PAGE):
        if (out / name).exists():
            raise NanoEmoXError(f"{out} holds a {name} but no {SETTINGS}: give another --out")
    write_json(file, settings)


def _scored(benchmark: Benchmark, rows: RowsByClip, options: EvaluateOptions) -> dict[str, Any]:
    if not any(isinstance(row["parsed"], dict) for row in rows.values()):
        notes = ["no clip was answered"]
        return {"metrics": {}, "intervals": {}, "n": len(rows), "n_unanswered": len(rows), "notes": notes}
    answers = read_parts({benchmark.id: rows}, options.out)[benchmark.id]
    measures = measures_of(options.scorer, options.wheel_tables)
    return score(answers.truth, answers, benchmark, scorer=measures).to_dict()


def _labels(rows: RowsByClip) -> dict[str, str | None]:
    """Return clip -> label of the answered clips, None where an answer names none."""
    return {name: row["parsed"].get("label") for name, row in rows.items() if isinstance(row["parsed"], dict)}
