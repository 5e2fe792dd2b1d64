"""P2E against joint training and the reversed curriculum, on the mini model: same data, same steps, same stage 0.

    python -m benchmarks.curriculum --data-root DATA --model BASE --out RUNS [--steps 600] [--seeds 7] [--json FILE]

BASE is the model before P2E (``python -m tools.mini.assemble``); DATA is what ``python -m tools.corpora`` wrote. All
runs share one feature cache. Every run is measured on the same held-out samples, so the differences to P2E are paired:
95 % bootstrap intervals over the samples of all seeds. With one seed they say nothing about how much a curriculum
varies from seed to seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nanoemox.scoring import bootstrap_interval, mean_statistic
from nanoemox.training.command import run_train
from nanoemox.training.phases import load_curriculum
from tools.mini.evaluate import Bench

ROWS = {
    "voice": ("ravdess", "mer", ("speech",)),
    "face": ("facial_expressions", "mer", ("face",)),
    "voice, face, scene": ("composed", "mer", ("speech", "face", "vision")),
    "words": ("goemotions", "mer", ("text",)),
    "intent, words": ("mintrec2", "mir", ("text",)),
}
LIMIT = 400


def overlays(steps: int) -> dict[str, dict[str, Any]]:
    """Return the three curricula as recipes over ``p2e-mini`` that take ``steps`` steps each."""
    phases = load_curriculum("p2e-mini").phases
    scale = steps / sum(phase.steps for phase in phases.values())
    short = {name: {"steps": max(1, round(phase.steps * scale))} for name, phase in phases.items()}
    order = list(reversed(phases))
    chained: dict[str, dict[str, Any]] = {order[0]: {"from": []}}
    chained |= {name: {"from": [before]} for before, name in pairwise(order)}
    gone = dict.fromkeys(list(phases)[:-1])
    joint = gone | {order[0]: {"from": [], "steps": sum(p["steps"] for p in short.values())}}
    base = {"extends": "p2e-mini", "validation_samples": 1}
    return {
        "p2e": base | {"phases": short},
        "joint": base | {"phases": joint},
        "reverse": base | {"order": order, "phases": {name: short[name] | chained[name] for name in order}},
    }


def hits(model: Path, run: Path, data_root: Path) -> dict[str, np.ndarray]:
    """Measure which held-out samples a model gets right, row by row."""
    bench = Bench(model, run, data_root)
    out = {}
    for row, (corpus, task, shown) in ROWS.items():
        samples = bench.held_out(corpus, task, LIMIT)
        guess = bench.classify(samples, [bench.media(s, shown) for s in samples], shown)
        out[row] = np.array([g == s.labels.label for g, s in zip(guess, samples, strict=True)], np.float64)
    return out


def table(found: Mapping[str, Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
    """Accuracy of each curriculum, and its difference to P2E with the interval of the pairs."""
    rows = []
    for row in ROWS:
        for name, measured in found.items():
            mine, reference = measured[row], found["p2e"][row]
            span = bootstrap_interval(mean_statistic(mine - reference), len(mine))
            cells = {"row": row, "curriculum": name, "n": len(mine), "accuracy": float(mine.mean())}
            rows.append(cells | {"minus_p2e": span.estimate, "low": span.low, "high": span.high})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600, help="of all phases together")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[dict[str, np.ndarray]]] = {}
    for name, recipe in overlays(args.steps).items():
        file = args.out / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"name": name, **recipe}, sort_keys=False), "utf-8")
        for seed in args.seeds:
            run = args.out / f"{name}-{seed}"
            run_train(
                file, args.data_root, run, args.model, seed=seed, features=args.out / "features", resume=run.is_dir()
            )
            parts.setdefault(name, []).append(hits(run / "model", run, args.data_root))
    found = {name: {row: np.concatenate([h[row] for h in of]) for row in ROWS} for name, of in parts.items()}
    rows = table(found)
    print(f"{'shown':20} {'curriculum':10} {'n':>5} {'accuracy':>9}  minus P2E")
    for r in rows:
        span = "" if r["curriculum"] == "p2e" else f"{r['minus_p2e']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}]"
        print(f"{r['row']:20} {r['curriculum']:10} {r['n']:5} {r['accuracy']:9.3f}  {span}")
    if args.json:
        args.json.write_text(json.dumps({"steps": args.steps, "seeds": args.seeds, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
