"""The tables of docs/benchmarks.md: the authors' prediction files under both scorers, as Markdown.

    python tools/score_tables.py practice RESULTS --wheel-tables DIR --truth meld=FILE --truth iemocap=FILE ...
    python tools/score_tables.py why RESULTS --wheel-tables DIR --truth meld=FILE ...
    python tools/score_tables.py move RESULTS --wheel-tables DIR --truth ov_merd=FILE ...

``practice`` tells of every set the best checkpoint on test, as printed, beside mean and standard deviation. ``move``
tells of every result file how it moves from the legacy to the corrected scorer, ``why`` which step moves a set.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from nanoemox.benchmarks.checkpoint_scores import checkpoint_files
from nanoemox.benchmarks.corrected_measures import CorrectedMeasures
from nanoemox.benchmarks.official_files import read_predictions
from nanoemox.benchmarks.records import Benchmark, get_benchmark
from nanoemox.benchmarks.score import align, measure
from nanoemox.benchmarks.score_files import ScoreOptions, score_files
from nanoemox.benchmarks.truth import read_truth
from nanoemox.types import NanoEmoXError

COLUMNS = {"mer": "hit_rate", "ovmer": "f1", "msa": "weighted_f1"}


def both(path: Path, options: argparse.Namespace, benchmark: Benchmark) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what ``nanoemox score`` tells of a file or folder by the legacy scorer, and by the corrected one."""
    truth = Path(options.truths[benchmark.id])
    asked = ScoreOptions(benchmark.id, truth, wheel_tables=options.wheel_tables, trust_npz=True, common=True)
    old, new = (score_files(path, replace(asked, scorer=scorer)) for scorer in ("legacy", "corrected"))
    return old, new


def practice_rows(options: argparse.Namespace) -> Iterator[str]:
    """Yield a row a set: printed, best on test, mean and deviation, and the same files under our scorer."""
    yield from head("set", "clips", "printed", "best on test (epoch)", "mean ± sd of all", "corrected, mean ± sd")
    for benchmark in map(get_benchmark, options.truths):
        old, new = both(options.results / f"results-{benchmark.published_name}", options, benchmark)
        name = COLUMNS[benchmark.task]
        found = old["metrics"][name]
        best = f"{percent(found['best'])} ({found['best_epoch']})"
        spreads = (spread(side["metrics"][name]) for side in (old, new))
        yield row(benchmark.title, old["n"], percent(old["printed"].get(name)), best, *spreads)


def move_rows(options: argparse.Namespace) -> Iterator[str]:
    """Yield a row a result file: headline and precision under both scorers."""
    yield from head(
        "file", "set", "clips", "words an answer", "legacy", "corrected", "precision, legacy", "precision, corrected"
    )
    for benchmark in map(get_benchmark, options.truths):
        for path in files(options.results, benchmark):
            sides = both(path, options, benchmark)
            length = sides[0]["metrics"].get("labels_per_answer")
            words = "–" if length is None else f"{length:.1f}"
            names = (COLUMNS[benchmark.task], "precision")
            scores = (percent(side["metrics"].get(name)) for name in names for side in sides)
            yield row(label(path), benchmark.title, sides[1]["n"], words, *scores)


def why_rows(options: argparse.Namespace) -> Iterator[str]:
    """Yield a row a set: from the legacy to the corrected score, one step at a time, means over its checkpoints."""
    yield from head("set", "legacy", "our words for its wheels", "neutral clips count", "one answer a clip")
    for benchmark in map(get_benchmark, options.truths):
        steps = [steps_of(path, options, benchmark) for path in files(options.results, benchmark)]
        cells = [percent(sum(column) / len(column)) for column in zip(*steps, strict=True)]
        yield row(benchmark.title, *cells, *["–"] * (4 - len(cells)))


def steps_of(path: Path, options: argparse.Namespace, benchmark: Benchmark) -> list[float]:
    """Return the score of a result file after each step."""
    old, new = (side["metrics"] for side in both(path, options, benchmark))
    if benchmark.task == "ovmer":
        return [old["f1"], new["f1"]]
    if benchmark.task == "msa":  # no words to map: a neutral answer stops being negative, then neutral clips count
        return [old["weighted_f1"], new["weighted_f1_nonzero"], new["weighted_f1"]]
    truth = read_truth(Path(options.truths[benchmark.id]), benchmark, trust_npz=True)
    felt = {name: value for name, value in truth.items() if value != "neutral"}
    predictions = read_predictions(path)
    aligned = align(benchmark, felt, predictions, clips=frozenset(predictions.names))
    words = measure(benchmark, aligned, CorrectedMeasures()).metrics["recall"]
    assert words is not None
    return [old["hit_rate"], words, new["recall"], new["hit_rate"]]


def files(results: Path, benchmark: Benchmark) -> list[Path]:
    """Return the checkpoints of a set under a folder of sets, or whatever result files of words the folder holds."""
    folder = results / f"results-{benchmark.published_name}"
    if folder.is_dir():
        return list(checkpoint_files(folder, benchmark).values())
    return sorted(results.rglob("*-openset.npz"))


def label(path: Path) -> str:
    """Return a short name of a result file."""
    stem = path.stem.removesuffix("-sentiment").removesuffix("-openset")
    if checkpoint := re.match(r"checkpoint_0*(\d+)_loss_(.+)", stem):
        return f"epoch {checkpoint[1]}, loss {checkpoint[2]}"
    return f"{path.parent.name}, {stem.removeprefix('output-reason-7b-')}" if "output" in stem else stem


def head(*names: str) -> Iterator[str]:
    """Yield the two lines above a table."""
    yield row(*names)
    yield "|---" * len(names) + "|"


def row(*cells: object) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def percent(value: float | None) -> str:
    """Return a share in percent."""
    return "–" if value is None else f"{100 * value:.2f}"


def spread(row: dict[str, Any]) -> str:
    """Return mean and standard deviation in percent."""
    return f"{percent(row['mean'])} ± {percent(row['sd'])}"


TABLES = {"practice": practice_rows, "why": why_rows, "move": move_rows}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tuple(TABLES))
    parser.add_argument("results", type=Path, help="folder of results-SET folders, or of result files")
    parser.add_argument("--wheel-tables", type=Path, required=True)
    parser.add_argument("--truth", action="append", default=[], metavar="BENCHMARK=FILE", required=True)
    options = parser.parse_args()
    options.truths = dict(pair.split("=", 1) for pair in options.truth)
    try:
        for line in TABLES[options.table](options):
            print(line, flush=True)
    except NanoEmoXError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
