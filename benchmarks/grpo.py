"""GRPO with precision and recall, and with recall alone, on the embedded model, on a CPU.

    OMP_NUM_THREADS=1 python -m benchmarks.grpo --data-root DATA --out RUNS [--steps 200] [--seeds 7] [--json FILE]

Four models answer the same held-out comments of GoEmotions (open vocabulary, greedy): the embedded one, the start of
the reinforcement phase of the recipe `grpo-mini`, its end, and its end with recall as the only reward. Truth are the
labels as released, so DATA is the folder of the corpora and not what ``python -m tools.corpora`` wrote. F1 is that of
the corrected scorer over families of emotion words. Intervals are 95 % bootstrap intervals over comments; differences
to the start are paired. The two trainings run side by side. Run the command again to resume.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from nanoemox.data.corpora.goemotions import EKMAN
from nanoemox.data.manifest import Sample
from nanoemox.inference.checkpoints import find_checkpoint
from nanoemox.model.lora import load_adapters
from nanoemox.scoring import Statistic, bootstrap_difference, bootstrap_interval, mean_statistic
from nanoemox.scoring.corrected.scorer import CorrectedScorer
from nanoemox.tasks import parse_labels
from nanoemox.training.command import run_train
from nanoemox.training.loop import ADAPTERS
from tools.mini.evaluate import Bench

MINI = Path(find_checkpoint("mini")[0])
CORPUS = "goemotions"
SHOWN = ("text",)
NAIVE = {"precision": 0.0, "length_penalty": 0.0}
EMBEDDED, START, OURS, RECALL = "embedded", "start", "precision and recall", "recall alone"
SETTINGS: dict[str, dict[str, float]] = {OURS: {}, RECALL: NAIVE}
Answers = list[tuple[str, ...]]


def name_of(model: str, seed: int) -> str:
    """Return the folder of a run."""
    return f"{'grpo' if model == OURS else 'naive'}-{seed}"


def train(data_root: Path, out: Path, model: str, seed: int, steps: int) -> None:
    """Run or resume the recipe with other reward settings."""
    name = name_of(model, seed)
    recipe = {
        "extends": "grpo-mini",
        "name": name,
        "phases": {"words": {"steps": steps, "objective_settings": SETTINGS[model]}},
    }
    file, run = out / f"{name}.yaml", out / name
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
    run_train(file, data_root, run, MINI, seed=seed, resume=run.is_dir(), show=False)


def answer(data_root: Path, run: Path, phase: str | None, limit: int) -> tuple[list[Sample], Answers]:
    """Return a fixed set of held-out samples, and the greedy answers of the embedded model after a phase."""
    bench = Bench(MINI, run, data_root)
    if phase is not None:
        load_adapters(bench.model, run / phase / ADAPTERS)
    samples = bench.held_out(CORPUS, "ovmer", limit)
    if strange := {w for s in samples for w in s.labels.labels} - set(EKMAN):
        raise SystemExit(f"{data_root}: {min(strange)} is no label of the release: give the corpora as released")
    written = bench.write(samples, [{} for _ in samples], SHOWN)
    return samples, [parse_labels(text) for text, _ in written]


def scores(samples: Sequence[Sample], answers: Answers) -> npt.NDArray[np.float64]:
    """Return precision, recall and number of words of each answer: float64[N, 3]."""
    rows = CorrectedScorer().set_scores([s.labels.labels for s in samples], answers).rows[0]
    return np.column_stack([rows, [len(a) for a in answers]])


def f1(rows: npt.NDArray[np.float64]) -> Statistic:
    """The harmonic mean of mean precision and mean recall, as a function of indices."""

    def statistic(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        precision, recall = (rows[indices, k].mean(1) for k in (0, 1))
        return 2 * precision * recall / np.maximum(precision + recall, 1e-12)

    return statistic


STATISTICS = {
    "f1": f1,
    "precision": lambda rows: mean_statistic(rows[:, 0]),
    "recall": lambda rows: mean_statistic(rows[:, 1]),
    "words": lambda rows: mean_statistic(rows[:, 2]),
}


def table(found: dict[str, npt.NDArray[np.float64]], comments: Sequence[str]) -> list[dict[str, Any]]:
    """Return all metrics of all models, with the difference to the start; a comment is one cluster over all seeds."""
    out = []
    for model, rows in found.items():
        for name, statistic in STATISTICS.items():
            mine, first = statistic(rows), statistic(found[START])
            span = bootstrap_interval(mine, len(rows), clusters=comments)
            change = bootstrap_difference(mine, first, len(rows), clusters=comments).interval
            cells = {"model": model, "measure": name, "n": len(rows), "value": span.estimate}
            cells |= {"low": span.low, "high": span.high}
            out.append(cells | {"minus_start": [change.estimate, change.low, change.high]})
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--limit", type=int, default=2000, help="held-out comments")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    arms = [(model, seed) for seed in args.seeds for model in SETTINGS]
    first = args.out / name_of(OURS, args.seeds[0])
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(train, args.data_root, args.out, model, seed, args.steps) for model, seed in arms]
        for job in jobs:
            job.result()
        models = [(EMBEDDED, first, None)]
        models += [(START, args.out / name_of(OURS, s), "examples") for s in args.seeds]
        models += [(m, args.out / name_of(m, s), "words") for m, s in arms]
        answered = [(m, pool.submit(answer, args.data_root, run, phase, args.limit)) for m, run, phase in models]
        given = [(model, *job.result()) for model, job in answered]
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    for model, samples, answers in given:
        # The embedded model is one, compared with every seed.
        times = len(args.seeds) if model == EMBEDDED else 1
        found.setdefault(model, []).extend([scores(samples, answers)] * times)
        common = Counter(", ".join(a) for a in answers).most_common(6)
        print(f"{model}: " + "; ".join(f"{text} ({count})" for text, count in common))
    comments = [s.id for s in given[0][1]] * len(args.seeds)
    rows = table({model: np.concatenate(parts) for model, parts in found.items()}, comments)
    print(f"{'model':22} {'measure':10} {'n':>6} value [95 %]           minus start")
    for r in rows:
        change = "" if r["model"] == START else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*r["minus_start"])
        print(
            f"{r['model']:22} {r['measure']:10} {r['n']:6} {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]  {change}"
        )
    if args.json:
        args.json.write_text(json.dumps({"steps": args.steps, "seeds": args.seeds, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
