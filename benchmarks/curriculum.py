"""P2E against joint training and the reversed curriculum: same data, same steps, same start.

    python -m benchmarks.curriculum --data-root DATA --model BASE --out RUNS [--steps 600] [--seeds 7] [--json FILE]
    python -m benchmarks.curriculum --recipe tools/small/curriculum.yaml --steps 300 --seeds 7 8 ...

BASE is the model before P2E: for ``p2e-mini`` from ``python -m tools.mini.assemble``, with DATA from ``python -m
tools.corpora``; for ``small`` from ``tools.small.base`` and ``tools.small.data``. All runs share one feature cache and
resume if interrupted. Every run is evaluated on the same held-out samples, so differences to P2E are paired: 95 %
bootstrap intervals over the speakers, persons or comments of all seeds. With one seed they do not cover the variance
between seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nanoemox.data.files import write_json
from nanoemox.scoring import bootstrap_interval, mean_statistic
from nanoemox.training.command import run_train
from nanoemox.training.phases import load_curriculum
from tools.mini.evaluate import Bench
from tools.small.evaluate import group_of

ROWS = {
    "voice": ("ravdess", "mer", ("speech",)),
    "face": ("facial_expressions", "mer", ("face",)),
    "voice, face, scene": ("composed", "mer", ("speech", "face", "vision")),
    "words": ("goemotions", "mer", ("text",)),
    "intent, words": ("mintrec2", "mir", ("text",)),
}


@dataclass(frozen=True, slots=True)
class Hits:
    """Correct samples, float64[N] of 0 and 1, and the cluster of each."""

    right: np.ndarray
    groups: list[str]


def overlays(recipe: str, steps: int) -> dict[str, dict[str, Any]]:
    """Return the three curricula as recipes based on ``recipe``, with ``steps`` steps each."""
    phases = load_curriculum(recipe).phases
    scale = steps / sum(phase.steps for phase in phases.values())
    short = {name: {"steps": max(1, round(phase.steps * scale))} for name, phase in phases.items()}
    order = list(reversed(phases))
    chained: dict[str, dict[str, Any]] = {order[0]: {"from": []}}
    chained |= {name: {"from": [before]} for before, name in pairwise(order)}
    gone = dict.fromkeys(list(phases)[:-1])
    joint = gone | {order[0]: {"from": [], "steps": sum(p["steps"] for p in short.values())}}
    base = {"extends": str(Path(recipe).resolve()) if recipe.endswith(".yaml") else recipe, "validation_samples": 1}
    return {
        "p2e": base | {"phases": short},
        "joint": base | {"phases": joint},
        "reverse": base | {"order": order, "phases": {name: short[name] | chained[name] for name in order}},
    }


def hits(bench: Bench, limit: int) -> dict[str, Hits]:
    """Return the correct held-out samples of a model, row by row."""
    out = {}
    for row, (corpus, task, shown) in ROWS.items():
        samples = bench.held_out(corpus, task, limit)
        guess = bench.classify(samples, [bench.media(s, shown) for s in samples], shown)
        right = np.array([g == s.labels.label for g, s in zip(guess, samples, strict=True)], np.float64)
        out[row] = Hits(right, [group_of(s) for s in samples])
    return out


def cached_hits(file: Path, bench: Callable[[], Bench], limit: int) -> dict[str, Hits]:
    """Evaluate a model once; the result is stored beside its run, so that an interrupted study can resume."""
    if file.is_file():
        return {row: Hits(np.array(right), groups) for row, (right, groups) in json.loads(file.read_text()).items()}
    found = hits(bench(), limit)
    write_json(file, {row: (h.right.tolist(), h.groups) for row, h in found.items()})
    return found


def pooled(parts: Sequence[Mapping[str, Hits]]) -> dict[str, Hits]:
    """Concatenate the rows of several seeds; a speaker is one cluster over all of them."""
    return {
        row: Hits(np.concatenate([p[row].right for p in parts]), [g for p in parts for g in p[row].groups])
        for row in ROWS
    }


def table(found: Mapping[str, Mapping[str, Hits]]) -> list[dict[str, Any]]:
    """Return the accuracy of each curriculum, and its paired difference to P2E with an interval."""
    rows = []
    for row in ROWS:
        for name, measured in found.items():
            mine, reference = measured[row], found["p2e"][row]
            paired = mean_statistic(mine.right - reference.right)
            span = bootstrap_interval(paired, len(mine.right), clusters=mine.groups)
            cells = {"row": row, "curriculum": name, "n": len(mine.right), "accuracy": float(mine.right.mean())}
            rows.append(cells | {"minus_p2e": span.estimate, "low": span.low, "high": span.high})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="p2e-mini", help="phases in the order of P2E")
    parser.add_argument("--features", type=Path, help="an existing feature cache")
    parser.add_argument("--steps", type=int, default=600, help="of all phases together")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--precision", choices=("auto", "float32", "bf16"), help="in place of the recipe's")
    parser.add_argument("--limit", type=int, default=400, help="held-out samples of a row")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    features = args.features or args.out / "features"
    parts: dict[str, list[dict[str, Hits]]] = {}
    for seed in args.seeds:
        for name, recipe in overlays(args.recipe, args.steps).items():
            file = args.out / f"{name}.yaml"
            file.write_text(yaml.safe_dump({"name": name, **recipe}, sort_keys=False), "utf-8")
            run = args.out / f"{name}-{seed}"
            run_train(
                file, args.data_root, run, args.model, seed=seed, precision=args.precision, features=features,
                resume=run.is_dir(),
            )  # fmt: skip
            bench = partial(Bench, run / "model", run, args.data_root, features)
            parts.setdefault(name, []).append(cached_hits(run / f"hits-{args.limit}.json", bench, args.limit))
    rows = table({name: pooled(of) for name, of in parts.items()})
    print(f"{'shown':20} {'curriculum':10} {'n':>5} {'accuracy':>9}  minus P2E")
    for r in rows:
        span = "" if r["curriculum"] == "p2e" else f"{r['minus_p2e']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}]"
        print(f"{r['row']:20} {r['curriculum']:10} {r['n']:5} {r['accuracy']:9.3f}  {span}")
    if args.json:
        args.json.write_text(json.dumps({"steps": args.steps, "seeds": args.seeds, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
