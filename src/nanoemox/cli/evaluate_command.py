"""``nanoemox evaluate``: ask a model a benchmark's questions, score the answers, set baselines beside them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nanoemox.benchmarks.answerer import Answerer, Model
from nanoemox.benchmarks.baselines import (
    MAJORITY,
    OTHER_ORDER,
    SHUFFLED,
    TEXT_ONLY,
    Majority,
    Repeated,
    order_sensitivity,
    other_order,
    own_row,
    shuffled_media,
    text_only,
)
from nanoemox.benchmarks.clusters import clusters_of
from nanoemox.benchmarks.predict import Asked, Place, merge, predict, read_asked
from nanoemox.benchmarks.records import Benchmark, expand
from nanoemox.benchmarks.remote import WORDS_ALONE, RemoteAnswerer, RemoteOptions
from nanoemox.benchmarks.run_lock import sole_writer
from nanoemox.benchmarks.runs import BASELINES, METRICS, PREDICTIONS, SETTINGS, Row, rows_by_benchmark, speakers_of
from nanoemox.benchmarks.score_command import ScoreRequest, measures_of, run_score
from nanoemox.benchmarks.tables import format_report
from nanoemox.data.corpora.releases import read_json
from nanoemox.data.files import write_json, write_text
from nanoemox.judging.endpoint import PREFIX, Endpoint, parse_address, spent
from nanoemox.reporting.command import PAGE, write_html
from nanoemox.tasks import TASKS
from nanoemox.types import NanoEmoXError

REPORT: Final = "report.md"
SENSITIVITY: Final = "order_sensitivity"
"""Share of clips answered in both orders of the labels whose answer differs."""
CACHE: Final = "answer_cache"
"""Folder of a served model's answers, by hash of the whole request."""
MODEL: Final = "model"
logger = logging.getLogger(__name__)
Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""Given a number of clips, what to call for each."""
Answers = Mapping[str, Row]
"""Clip -> row, of one benchmark."""


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """The options of ``nanoemox evaluate``.

    Attributes:
        benchmarks: Ids and groups.
        data_root: Folder of released corpora and of ``manifests``.
        out: Folder of the run; one that was killed goes on.
        model: Model directory, hub id or ``openai:http://host:port/v1#NAME``; by default the one in the package.
        limit: Clips of each benchmark.
        scorer: ``corrected`` or ``legacy``.
        wheel_tables: Folder of the published tables, for ``legacy``.
        batch: Clips asked together.
        device: As of the engine.
        trust_npz: Open pickled files, which can run any code.
        again: Ask anew what the run holds without an answer.
        remote: How a served model is asked.
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


def run_evaluate(
    request: EvaluateRequest, progress: Progress | None = None, tell: Callable[[str], object] = logger.warning
) -> dict[str, Any] | None:
    """Evaluate; what is on the disk already is not asked again.

    Args:
        request: The options.
        progress: Shows how far it is.
        tell: Called with a sentence where the page of the run could not be written.

    Returns:
        What ``metrics.json`` holds; None in all processes but the first.

    Raises:
        NanoEmoXError: An option or a file that cannot be meant, before any clip is asked; another process that writes
            the same run; or a disk that is full, which keeps what was answered.
    """
    first = os.environ.get("RANK", "0") == "0"
    try:
        with sole_writer(request.out) if first else nullcontext():
            return _evaluate(request, progress, tell)
    except OSError as error:
        told = f"{error.filename or request.out}: {error.strerror or error}"
        raise NanoEmoXError(f"{told}; answers so far are kept: mend that and run again with the same --out") from error


def _evaluate(
    request: EvaluateRequest, progress: Progress | None, tell: Callable[[str], object]
) -> dict[str, Any] | None:
    measures_of(request.scorer, request.wheel_tables)
    asked = [
        read_asked(b, request.data_root, request.limit, trust_npz=request.trust_npz) for b in expand(request.benchmarks)
    ]
    with _open(request, asked) as (model, place, wait):
        first = place.rank == 0
        if first:
            _settings(request.out, model.settings)
        wait()
        _ask(model, asked, request, place, progress if first else None)
        wait()
        if not first:
            return None
    for name in dict.fromkeys(name for one in asked for name in rows_of(one.benchmark)):
        merge(_folder(request.out, name), asked)
    metrics = measure_run(request.out, model.name, asked, request)
    write_json(request.out / METRICS, metrics)
    write_text(request.out / REPORT, format_report(metrics))
    if (lacking := write_html(request.out, request.wheel_tables)) is not None:
        tell(f"no {PAGE}: {lacking}")
    return metrics


def rows_of(benchmark: Benchmark) -> tuple[str, ...]:
    """Return the rows of a benchmark's table, the model's first."""
    order = (OTHER_ORDER,) if TASKS[benchmark.question].closed else ()
    return (MODEL, MAJORITY, TEXT_ONLY, SHUFFLED, *order)


def measure_run(out: Path, model: str, asked: Sequence[Asked], request: EvaluateRequest) -> dict[str, Any]:
    """Score the rows of a run as ``nanoemox score`` does, and its baselines."""
    names = dict.fromkeys(name for one in asked for name in rows_of(one.benchmark))
    answers = {name: rows_by_benchmark(_folder(out, name)) for name in names}
    benchmarks = {}
    for one in asked:
        key = one.benchmark.id
        given = {name: answers[name].get(key, {}) for name in rows_of(one.benchmark)}
        rows = {name: _scored(_folder(out, name), one.benchmark, given[name], request) for name in given}
        _annotate(rows, one, request)
        headline = list(one.benchmark.metrics)
        if OTHER_ORDER in rows and _add_sensitivity(one.benchmark, rows[OTHER_ORDER], given[MODEL], given[OTHER_ORDER]):
            headline.append(SENSITIVITY)
        benchmarks[key] = {
            "title": one.benchmark.title,
            "headline": headline,
            "rows": {model if name == MODEL else name: row for name, row in rows.items()},
            "unanswered": {clip: str(row["error"]) for clip, row in given[MODEL].items() if row["error"] is not None},
        }
    found = {"model": model, "scorer": request.scorer, "settings": read_json(out / SETTINGS), "benchmarks": benchmarks}
    return found | ({"cost": spent(out / CACHE)} if (out / CACHE).is_dir() else {})


def _annotate(rows: Mapping[str, dict[str, Any]], asked: Asked, request: EvaluateRequest) -> None:
    """Tell the reader where rows are less than they seem."""
    source = Majority.count(asked.benchmark, asked.corpus).source
    rows[MAJORITY]["notes"] = [*rows[MAJORITY]["notes"], f"counted on the {source} part"]
    for name, row in rows.items():
        if (told := _own_row(name, asked, request)) is not None:
            row["notes"] = [*row["notes"], told]


def _add_sensitivity(benchmark: Benchmark, row: dict[str, Any], first: Answers, second: Answers) -> bool:
    """Add to the row of the other order how many answers it changed; False where no clip was answered in both."""
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
def _open(request: EvaluateRequest, asked: Sequence[Asked]) -> Iterator[tuple[Model, Place, Callable[[], None]]]:
    """Open a model: yields it, this process' place, and what waits for other processes. Served ones need no torch."""
    if (request.model or "").startswith(PREFIX):
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise NanoEmoXError("a served model is asked by one process: start without torchrun and raise --batch")
        endpoint = Endpoint(parse_address(request.model or ""), request.out / CACHE, request.remote.call)
        try:
            yield RemoteAnswerer(endpoint, request.data_root, asked, request.remote), Place(), lambda: None
        finally:
            endpoint.close()
        return
    if request.remote != RemoteOptions():
        raise NanoEmoXError(
            f"--frames, --modalities, --shots and --erg-steps go with --model {PREFIX}...; a local model is asked in "
            "the words that it was trained with"
        )
    from nanoemox.benchmarks.engine_answerer import load_local

    yield load_local(request.model, request.data_root, request.device)


def _ask(
    model: Answerer, asked: Sequence[Asked], request: EvaluateRequest, place: Place, progress: Progress | None
) -> None:
    total = sum(len(rows_of(one.benchmark)) * len(one.samples[place.rank :: place.world]) for one in asked)
    with nullcontext(None) if progress is None else progress(total) as advance:
        for one in asked:
            for name in rows_of(one.benchmark):
                predict(
                    _answerer(name, model, one, request),
                    one,
                    _folder(request.out, name),
                    batch=request.batch,
                    place=place,
                    advance=advance,
                    again=request.again,
                )


def _own_row(name: str, asked: Asked, request: EvaluateRequest) -> str | None:
    return own_row(name, asked.samples, words_alone=request.remote.modalities == WORDS_ALONE)


def _answerer(name: str, model: Answerer, asked: Asked, request: EvaluateRequest) -> Answerer:
    """Return who answers a row."""
    if _own_row(name, asked, request) is not None:
        return Repeated(_folder(request.out, MODEL), name)
    if name == MAJORITY:
        return Majority.count(asked.benchmark, asked.corpus)
    if name == TEXT_ONLY:
        return text_only(model)
    if name == SHUFFLED:
        return shuffled_media(model, asked.samples)
    return other_order(model) if name == OTHER_ORDER else model


def _folder(out: Path, row: str) -> Path:
    """Return where the predictions of a row lie."""
    return out if row == MODEL else out / BASELINES / row


def _settings(out: Path, settings: Mapping[str, Any]) -> None:
    """Write whose answers the run holds, or make sure that they are of the same model asked in the same way."""
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
    elif (out / PREDICTIONS).exists():
        raise NanoEmoXError(f"{out} holds predictions but no {SETTINGS}: give another --out")
    else:
        write_json(file, settings)


def _scored(folder: Path, benchmark: Benchmark, rows: Answers, request: EvaluateRequest) -> dict[str, Any]:
    wanted = ScoreRequest(benchmark.id, None, request.scorer, request.wheel_tables, tell_unfinished=False)
    if not any(isinstance(row["parsed"], dict) for row in rows.values()):
        told = "no clip was answered"
        return {"metrics": {}, "intervals": {}, "n": len(rows), "n_unanswered": len(rows), "notes": [told]}
    return run_score(folder, wanted)


def _labels(rows: Answers) -> dict[str, str | None]:
    """Return clip -> label of the answered clips, None where an answer names none."""
    return {name: row["parsed"].get("label") for name, row in rows.items() if isinstance(row["parsed"], dict)}
