"""Continual learning on the embedded model: emotion, then intent, with and without replay or separate adapters.

    OMP_NUM_THREADS=1 python -m benchmarks.continual --data-root DATA --out RUNS [--steps 150] [--seed 7] [--limit 1500]

Starting from the embedded model, a phase on emotions is followed by a phase on intents, without and with replay (text
only). All adapter sets are loaded onto one base by name and evaluated on the same held-out samples; differences are
paired, with 95 % bootstrap intervals over samples. DATA is the output of ``python -m tools.corpora``. Run the command
again to resume.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from nanoemox.inference.checkpoints import find_checkpoint
from nanoemox.model.named_adapters import NamedAdapters
from nanoemox.scoring import bootstrap_difference, bootstrap_interval, mean_statistic
from nanoemox.training.command import run_train
from nanoemox.training.loop import ADAPTERS
from tools.mini.evaluate import Bench

MINI = Path(find_checkpoint("mini")[0])
COLUMNS = (("goemotions", "mer"), ("mintrec2", "mir"), ("mintrec", "mir"))
SHOWN = ("text",)
REPLAY = (0.0, 0.2)
Hits = dict[str, npt.NDArray[np.float64]]


def recipe(steps: int, replay: float) -> dict[str, Any]:
    """Return a recipe of two equally long phases; ``replay`` applies to the second."""
    shared = {
        "trainable": ["lora"], "lora": {"r": 16, "alpha": 32, "dropout": 0.0}, "lr": 1.0e-3, "steps": steps,
        "micro_batch": 8, "accumulation": 2, "weight_decay": 0.0, "save_every": 50,
    }  # fmt: skip
    emotion = shared | {"mixture": {"goemotions/mer": 1}}
    intent = shared | {"mixture": {"mintrec2/mir": 3, "mintrec/mir": 1}, "from": ["emotion"], "replay": replay}
    fields = {"name": f"replay-{replay:g}", "forgetting": True, "validation_samples": 300}
    return fields | {"phases": {"emotion": emotion, "intent": intent}}


def hits(bench: Bench, limit: int) -> Hits:
    """Return whether each held-out sample is answered correctly."""
    out = {}
    for corpus, task in COLUMNS:
        samples = bench.held_out(corpus, task, limit)
        guess = bench.classify(samples, [{} for _ in samples], SHOWN)
        right = [g == s.labels.label for g, s in zip(guess, samples, strict=True)]
        out[f"{corpus}/{task}"] = np.array(right, np.float64)
    return out


def intent_name(replay: float) -> str:
    """Name the adapters of the second phase; a name has no dots."""
    return f"intent-replay-{100 * replay:.0f}"


def row(name: str, found: Hits, reference: Hits) -> dict[str, Any]:
    """Return the accuracy of each column, and its difference to the model after the first phase."""
    cells = {}
    for column, mine in found.items():
        span = bootstrap_interval(mean_statistic(mine), len(mine))
        change = bootstrap_difference(mean_statistic(mine), mean_statistic(reference[column]), len(mine)).interval
        cells[column] = {
            "n": len(mine), "accuracy": [span.estimate, span.low, span.high],
            "minus_emotion": [change.estimate, change.low, change.high],
        }  # fmt: skip
    return {"model": name, "columns": cells}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150, help="of each phase")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--limit", type=int, default=1500, help="held-out samples of each corpus")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    runs: dict[float, Path] = {}
    for replay in REPLAY:
        fields = recipe(args.steps, replay)
        file, runs[replay] = args.out / f"{fields['name']}.yaml", args.out / f"{fields['name']}-{args.seed}"
        file.write_text(yaml.safe_dump(fields, sort_keys=False), "utf-8")
        features = args.out / "features"
        run_train(
            file, args.data_root, runs[replay], MINI, seed=args.seed, features=features, resume=runs[replay].is_dir()
        )
    bench = Bench(MINI, runs[REPLAY[0]], args.data_root, args.out / "features")
    named = NamedAdapters(bench.model)
    sets = {"emotion": runs[REPLAY[0]] / "emotion"} | {intent_name(r): run / "intent" for r, run in runs.items()}
    for name, folder in sets.items():
        named.add(name, folder / ADAPTERS)
    found: dict[str, Hits] = {}
    for name in (None, *sets):
        named.use(name)
        found[name or "start"] = hits(bench, args.limit)
    began = time.perf_counter()
    for name in sets:
        named.use(name)
    switch_ms = 1000 * (time.perf_counter() - began) / len(sets)
    intents = [c for c in found["start"] if c.endswith("/mir")]
    # With a set for each task nothing is forgotten: emotions by the first phase's, intents by the second's alone.
    own = found["emotion"] | {c: found[intent_name(REPLAY[0])][c] for c in intents}
    rows = [row(name, h, found["emotion"]) for name, h in (found | {"a set each": own}).items()]
    print(f"{'model':16} " + "  ".join(f"{c:>42}" for c in found["start"]))
    for r in rows:
        told = ["{:.3f} {:+.3f} [{:+.3f}, {:+.3f}] n {}".format(c["accuracy"][0], *c["minus_emotion"], c["n"])
                for c in r["columns"].values()]  # fmt: skip
        print(f"{r['model']:16} " + "  ".join(f"{t:>42}" for t in told))
    for replay, run in runs.items():
        matrix = json.loads((run / "forgetting.json").read_text("utf-8"))
        print(f"replay {replay:g}: backward transfer {matrix['backward_transfer']['accuracy']:+.3f}")
    print(f"switching to a set takes {switch_ms:.2f} ms")
    if args.json:
        args.json.write_text(json.dumps({"steps": args.steps, "seed": args.seed, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
