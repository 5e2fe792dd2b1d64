"""How long six answers take: one shared prefill against six separate ``generate`` calls, cold start, peak memory.

    python benchmarks/answer.py [--model DIR] [--clip FILE] [--repeats N] [--json]

The alternative is what one would write with transformers alone: for each task a full prompt with its media, encoded
and generated from scratch. It writes closed answers instead of scoring the candidates, so it gives no probabilities.
Cold start and peak memory are those of a fresh ``nanoemox answer CLIP --json``, interpreter and imports included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nanoemox.inference.decoding import GenerationOptions
from nanoemox.inference.engine import Engine
from nanoemox.model.processing import Ask
from nanoemox.tasks import ALL_TASKS, TASKS
from nanoemox.types import Clip

SAMPLE = Path(__file__).parents[1] / "src" / "nanoemox" / "assets" / "sample.mp4"
CLOSED_TOKENS = 8
"""Enough for the longest label."""


def median_s(action: Callable[[], Any], repeats: int) -> float:
    action()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def six_generates(engine: Engine, clip: Clip, options: GenerationOptions) -> None:
    for key in ALL_TASKS:
        batch = engine.processor([clip], [Ask(key)]).to(engine.model.device)
        tokens = CLOSED_TOKENS if TASKS[key].closed else options.max_new_tokens
        engine.model.generate(
            **batch, max_new_tokens=tokens, do_sample=False, eos_token_id=engine.processor.terminator_ids
        )


# Linux: VmHWM and not ru_maxrss, which a child inherits from the process that started it.
CHILD = """
import resource, sys
from nanoemox.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code
if sys.platform == "linux":
    peak = next(int(line.split()[1]) / 1e3 for line in open("/proc/self/status") if line.startswith("VmHWM"))
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(peak, file=sys.stderr)
"""


def cold(clip: Path, model: str | None, repeats: int) -> tuple[float, float]:
    """Median wall seconds of a fresh process, and its peak memory in MB."""
    command = [sys.executable, "-c", CHILD, "answer", str(clip), "--json", *(["--model", model] if model else [])]
    seconds, peaks = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - begin)
        peaks.append(float(done.stderr.split()[-1]))
    return statistics.median(seconds), max(peaks)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    engine = Engine.from_pretrained(args.model, device=args.device)
    options = GenerationOptions(max_new_tokens=args.max_new_tokens)
    begin = time.perf_counter()
    clip = engine.load(args.clip)
    load_s = time.perf_counter() - begin
    cold_s, peak_mb = cold(args.clip, args.model, max(1, args.repeats // 3))
    answer = engine.answer(clip, generation=options)
    many = [clip] * 8
    return {
        "model": engine.name,
        "parameters_m": round(sum(p.numel() for p in engine.model.parameters()) / 1e6, 2),
        "device": str(engine.model.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "max_new_tokens": args.max_new_tokens,
        "written_tokens": {
            k: len(engine.processor.answer_ids(r.raw)) for k, r in answer.tasks.items() if not TASKS[k].closed
        },
        "load_and_faces_s": round(load_s, 3),
        "warm_card_s": round(median_s(lambda: engine.answer(clip, generation=options), args.repeats), 3),
        "closed_tasks_s": round(median_s(lambda: engine.answer(clip, ("msa", "mer", "mir")), args.repeats), 3),
        "batch_of_8_per_clip_s": round(
            median_s(lambda: list(engine.answer_many(many, generation=options)), max(1, args.repeats // 3)) / 8, 3
        ),
        "six_generates_s": round(median_s(lambda: six_generates(engine, clip, options), args.repeats), 3),
        "cold_start_s": round(cold_s, 2),
        "peak_memory_mb": round(peak_mb),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="model directory; default: the one in the package")
    parser.add_argument("--clip", type=Path, default=SAMPLE)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args)
    if args.json:
        print(json.dumps(found))
        return
    found["speed_up"] = f"{found['six_generates_s'] / found['warm_card_s']:.1f} x over six separate generate calls"
    for name, value in found.items():
        print(f"{name:<24}{value}")


if __name__ == "__main__":
    main()
