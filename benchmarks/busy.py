"""Time of a cold answer while other processes use the cores, by the wait policy of OpenMP's threads.

    python benchmarks/busy.py [--others 2] [--clip FILE] [--json]

``short_spin`` is the default of ``nanoemox``, ``default`` that of OpenMP, ``sleep`` is ``OMP_WAIT_POLICY=PASSIVE``.
Medians of three runs; the other processes run endless loops.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

SAMPLE = Path(__file__).parents[1] / "src" / "nanoemox" / "assets" / "sample.mp4"
# Not ``main``, which sets the variable.
CHILD = "import sys; from nanoemox.cli import app; app(sys.argv[1:])"


WAITS = {"short_spin": {"GOMP_SPINCOUNT": "1000"}, "default": {}, "sleep": {"OMP_WAIT_POLICY": "PASSIVE"}}
REPEATS = 3


def answer_s(clip: Path, wait: dict[str, str]) -> float:
    """Return the seconds of an answer in a fresh process, without its start."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")} | wait
    command = [sys.executable, "-c", CHILD, "answer", str(clip), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(json.loads(done.stdout)["timing_s"]["total"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--others", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--clip", type=Path, default=SAMPLE)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for others in (0, args.others):
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
        try:
            found[f"{others} others"] = {
                f"{name}_s": statistics.median(answer_s(args.clip, wait) for _ in range(REPEATS))
                for name, wait in WAITS.items()
            }
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
    if args.json:
        print(json.dumps(found))
        return
    for name, row in found.items():
        print(f"{name:<12}" + "  ".join(f"{key} {value:.2f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
