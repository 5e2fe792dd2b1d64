"""``nanoemox evaluate``: ask a model a benchmark's questions, score the answers, set baselines beside them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers.utils.logging import disable_progress_bar

from nanoemox.data.corpora.releases import read_json, read_json_lines
from nanoemox.engine import Engine
from nanoemox.evaluation.answerer import Answerer, EngineAnswerer
from nanoemox.evaluation.baselines import Majority, media_of, shuffled_media, text_only
from nanoemox.evaluation.benchmarks import Benchmark, expand
from nanoemox.evaluation.predict import Asked, Place, merge, predict, read_asked
from nanoemox.evaluation.report import format_report
from nanoemox.evaluation.runs import PREDICTIONS
from nanoemox.evaluation.score_command import ScoreRequest, measures_of, run_score
from nanoemox.ranks import processes
from nanoemox.types import NanoEmoXError

METRICS: Final = "metrics.json"
REPORT: Final = "report.md"
SETTINGS: Final = "run.json"
_PIECE: Final = 64
BASELINES: Final = ("majority", "text-only", "shuffled-media")
Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""Given a number of clips, what to call for each."""


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """The options of ``nanoemox evaluate``.

    Attributes:
        benchmarks: Ids and groups.
        data_root: Folder of released corpora and of ``manifests``.
        out: Folder of the run; one that was killed goes on.
        model: Model directory or hub id; by default the one in the package.
        limit: Clips of each benchmark.
        scorer: ``corrected`` or ``legacy``.
        wheel_tables: Folder of the published tables, for ``legacy``.
        batch: Clips asked together.
        device: As of the engine.
        trust_npz: Open pickled files, which can run any code.
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


def run_evaluate(request: EvaluateRequest, progress: Progress | None = None) -> dict[str, Any] | None:
    """Evaluate; what is on the disk already is not asked again.

    Returns:
        What ``metrics.json`` holds; None in all processes but the first.

    Raises:
        NanoEmoXError: An option or a file that cannot be meant, before any clip is asked.
    """
    measures_of(request.scorer, request.wheel_tables)
    asked = [
        read_asked(b, request.data_root, request.limit, trust_npz=request.trust_npz) for b in expand(request.benchmarks)
    ]
    disable_progress_bar()
    state = processes()
    alone = state.num_processes == 1
    device = str(state.device) if request.device == "auto" and not alone else request.device
    engine = Engine.from_pretrained(request.model, device=device)
    if state.is_main_process:
        _settings(request.out, {"model": engine.name, "weights": _fingerprint(engine)})
    state.wait_for_everyone()
    place = Place(state.process_index, state.num_processes)
    _ask(engine, asked, request, place, progress if state.is_main_process else None)
    state.wait_for_everyone()
    if not state.is_main_process:
        return None
    for folder in _folders(request.out).values():
        merge(folder, asked)
    metrics = measure_run(request.out, engine.name, asked, request)
    _write(request.out / METRICS, json.dumps(metrics, indent=1, ensure_ascii=False) + "\n")
    _write(request.out / REPORT, format_report(metrics))
    return metrics


def measure_run(out: Path, model: str, asked: Sequence[Asked], request: EvaluateRequest) -> dict[str, Any]:
    """Score the rows of a run as ``nanoemox score`` does, and its baselines."""
    benchmarks = {}
    for one in asked:
        key = one.benchmark.id
        rows = {name: _scored(folder, one.benchmark, request) for name, folder in _folders(out, model).items()}
        source = Majority.count(one.benchmark, one.corpus).source
        rows["majority"]["notes"] = [*rows["majority"]["notes"], f"counted on the {source} part"]
        if len(media_of(one.samples)) < 2:
            told = "no other clip has picture or sound, so this is the model's own row"
            rows["shuffled-media"]["notes"] = [*rows["shuffled-media"]["notes"], told]
        benchmarks[key] = {
            "title": one.benchmark.title,
            "headline": list(one.benchmark.metrics),
            "rows": rows,
            "unanswered": _unanswered(out, key),
        }
    return {"model": model, "scorer": request.scorer, "benchmarks": benchmarks}


def _ask(
    engine: Engine, asked: Sequence[Asked], request: EvaluateRequest, place: Place, progress: Progress | None
) -> None:
    total = (1 + len(BASELINES)) * sum(len(one.samples[place.rank :: place.world]) for one in asked)
    folders = _folders(request.out)
    with nullcontext(None) if progress is None else progress(total) as advance:
        for one in asked:
            root = request.data_root
            who: dict[str, Answerer] = {
                "model": EngineAnswerer(engine, root),
                "majority": Majority.count(one.benchmark, one.corpus),
                "text-only": text_only(engine, root),
                "shuffled-media": shuffled_media(engine, root, one.samples),
            }
            for name, answerer in who.items():
                predict(answerer, one, folders[name], batch=request.batch, place=place, advance=advance)


def _folders(out: Path, model: str = "model") -> dict[str, Path]:
    """Return row -> folder of its predictions, the model's first."""
    return {model: out} | {name: out / "baselines" / name for name in BASELINES}


def _settings(out: Path, model: Mapping[str, str]) -> None:
    """Write whose answers the run holds, or make sure that they are of the same model."""
    file = out / SETTINGS
    if file.is_file():
        before = read_json(file)
        if before != model:
            raise NanoEmoXError(
                f"{out} holds answers of {before.get('model')} with weights {str(before.get('weights'))[:8]}, not of "
                f"{model['model']} with {model['weights'][:8]}: give another --out"
            )
    elif (out / PREDICTIONS).exists():
        raise NanoEmoXError(f"{out} holds predictions but no {SETTINGS}: give another --out")
    else:
        _write(file, json.dumps(model) + "\n")


def _fingerprint(engine: Engine) -> str:
    """Return a SHA-256 of a piece of every weight: folders of different checkpoints often have the same name."""
    digest = hashlib.sha256()
    for name, weight in engine.model.named_parameters():
        digest.update(name.encode())
        digest.update(weight.detach().flatten()[:_PIECE].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _scored(folder: Path, benchmark: Benchmark, request: EvaluateRequest) -> dict[str, Any]:
    wanted = ScoreRequest(benchmark.id, None, request.scorer, request.wheel_tables)
    rows = [row for row in read_json_lines(folder / PREDICTIONS) if row["benchmark"] == benchmark.id]
    if not any(row["parsed"] for row in rows):
        told = "no clip was answered"
        return {"metrics": {}, "intervals": {}, "n": len(rows), "n_unanswered": len(rows), "notes": [told]}
    return run_score(folder, wanted)


def _unanswered(out: Path, key: str) -> Mapping[str, str]:
    rows = [row for row in read_json_lines(out / PREDICTIONS) if row["benchmark"] == key]
    return {row["id"]: row["error"] for row in rows if row["error"] is not None}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, "utf-8")
    os.replace(fresh, path)
