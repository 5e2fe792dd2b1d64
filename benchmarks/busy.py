"""How long a cold answer takes while other processes want the cores, with OpenMP threads that spin and that sleep.

    python benchmarks/busy.py [--others 2] [--clip FILE] [--json]

``nanoemox`` lets the threads sleep (``OMP_WAIT_POLICY=PASSIVE``) unless the user says otherwise; the other row is what
OpenMP does by itself. The others are endless loops, one process each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

SAMPLE = Path(__file__).parents[1] / "src" / "nanoemox" / "assets" / "sample.mp4"
# Not ``main``, which sets the variable.
CHILD = "import sys; from nanoemox.cli import app; app(sys.argv[1:])"


def answer_s(clip: Path, policy: str | None) -> float:
    """Seconds that a fresh process says its answer took, without its start."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {} if policy is None else {"OMP_WAIT_POLICY": policy}
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
                "sleep_s": answer_s(args.clip, "PASSIVE"),
                "spin_s": answer_s(args.clip, None),
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
