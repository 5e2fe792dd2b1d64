"""GRPO with our reward and with recall alone, on the embedded model, on a CPU.

    OMP_NUM_THREADS=1 python -m benchmarks.grpo --data-root DATA --out RUNS [--steps 200] [--seeds 7] [--json FILE]

Three models answer the same held-out samples of `tools/mini` (open vocabulary, greedy): the embedded one, the same
after the recipe `grpo-mini`, and after that recipe with recall as its only reward. F1 is that of the corrected scorer
over families of emotion words. Intervals are 95 % bootstrap intervals over clusters: the samples of an actor are one
cluster, other samples are resampled individually; differences to the start are paired. DATA is what
``python -m tools.corpora`` wrote. Run the command again to resume.
"""

from __future__ import annotations

import argparse
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from nanoemox.data.manifest import Sample
from nanoemox.scoring import Statistic, bootstrap_difference, bootstrap_interval, mean_statistic
from nanoemox.scoring.corrected.scorer import CorrectedScorer
from nanoemox.tasks import parse_labels
from nanoemox.training.command import run_train
from tools.mini.evaluate import Bench

MINI = Path(str(files("nanoemox") / "assets" / "mini"))
CORPORA = ("goemotions", "ravdess", "composed", "facial_expressions")
LIMIT = 400
SHOWN = ("vision", "speech", "face", "text")
NAIVE = {"precision": 0.0, "length_penalty": 0.0}
START, OURS, RECALL = "start", "precision and recall", "recall alone"


def held_out(bench: Bench) -> list[Sample]:
    """At most LIMIT held-out samples of each corpus, always the same ones."""
    return [s for corpus in CORPORA for s in bench.held_out(corpus, "ovmer", LIMIT)]


def measure(bench: Bench, samples: list[Sample]) -> npt.NDArray[np.float64]:
    """Return precision, recall and number of words of each greedy answer: float64[N, 3]."""
    written = bench.write(samples, [bench.media(s, SHOWN) for s in samples], SHOWN)
    answers = [parse_labels(text) for text, _ in written]
    scores = CorrectedScorer().set_scores([s.labels.labels for s in samples], answers).rows[0]
    return np.column_stack([scores, [len(a) for a in answers]])


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


def table(samples: list[Sample], found: dict[str, npt.NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Every measure of every model, on all samples and on each corpus, with the difference to the start."""
    out = []
    clusters = np.array([s.speaker or f"{s.corpus}/{s.id}" for s in samples])
    corpora = np.array([s.corpus for s in samples])
    for corpus in ("all", *CORPORA):
        chosen = np.flatnonzero((corpora == corpus) | (corpus == "all"))
        units = clusters[chosen].tolist()
        for model, rows in found.items():
            for name, statistic in STATISTICS.items():
                mine, first = statistic(rows[chosen]), statistic(found[START][chosen])
                span = bootstrap_interval(mine, len(chosen), clusters=units)
                change = bootstrap_difference(mine, first, len(chosen), clusters=units).interval
                cells = {"samples": corpus, "n": len(chosen), "clusters": span.num_clusters, "model": model}
                cells |= {"measure": name, "value": span.estimate, "low": span.low, "high": span.high}
                out.append(cells | {"minus_start": [change.estimate, change.low, change.high]})
    return out


def train(args: argparse.Namespace, name: str, settings: dict[str, float], seed: int) -> Path:
    """Run the recipe with other settings of its reward, or go on with it."""
    phase = {"steps": args.steps, "objective_settings": settings}
    recipe = {"extends": "grpo-mini", "name": name, "phases": {"words": phase}}
    file, run = args.out / f"{name}.yaml", args.out / f"{name}-{seed}"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
    features = args.out / "features"
    run_train(file, args.data_root, run, MINI, seed=seed, features=features, resume=run.is_dir())
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[npt.NDArray[np.float64]]] = {START: [], OURS: [], RECALL: []}
    samples: list[Sample] = []
    for seed in args.seeds:
        runs = {OURS: train(args, "grpo", {}, seed), RECALL: train(args, "naive", NAIVE, seed)}
        models = {START: MINI} | {name: run / "model" for name, run in runs.items()}
        for name, model in models.items():
            bench = Bench(model, runs[OURS], args.data_root, args.out / "features")
            chosen = held_out(bench)
            found[name].append(measure(bench, chosen))
        samples += chosen
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    counted = np.flatnonzero(~np.isnan(joined[START]).any(1))  # a truth without a family cannot be right or wrong
    rows = table([samples[i] for i in counted], {name: part[counted] for name, part in joined.items()})
    print(f"{'samples':20} {'n':>5} {'clusters':>8} {'measure':10} {'model':22} value [95 %]           minus start")
    for r in rows:
        span, change = (r["value"], r["low"], r["high"]), r["minus_start"]
        told = "" if r["model"] == START else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*change)
        print(f"{r['samples']:20} {r['n']:5} {r['clusters']:8} {r['measure']:10} {r['model']:22} "
              f"{span[0]:.3f} [{span[1]:.3f}, {span[2]:.3f}]  {told}")  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps({"steps": args.steps, "seeds": args.seeds, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
