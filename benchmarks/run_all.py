"""Run all speed benchmarks one after the other, and write everything to one JSON file.

    python benchmarks/run_all.py [--device cuda] [--models mini,DIR] [--full DIR] [--out bench.json]

``make bench-gpu`` calls it. The file is written after every script. A script that fails, or runs for longer
than ``--limit`` seconds, is named, the others still run, and the exit code is 1. ``--full`` is a
full-size model directory (``nanoemox assemble paper --random --out DIR``).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPTS = ("startup", "decoding", "card", "latency", "features", "training_step")
SHORTER = {"startup": ["--repeats", "1"], "features": ["--clips", "12"]}
"""Options of scripts that mostly start processes or decode, which takes as long beside a GPU as without."""


def run(script: str, model: str, device: str, limit_s: float, folder: Path) -> dict[str, Any]:
    """Run one script on one model; return its figures, or why there are none."""
    out = folder / "one.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / f"{script}.py"), "--model", model, "--device", device, "--json", str(out)]
    command += SHORTER.get(script, [])
    print(f"\n{script}, {model}", flush=True)
    begin = time.perf_counter()
    try:
        failed = f"exit code {subprocess.run(command, check=False, timeout=limit_s).returncode}"
    except subprocess.TimeoutExpired:
        failed = f"more than {limit_s:g} s"
    found = json.loads(out.read_text("utf-8")) if out.is_file() else {"failed": failed}
    return {"script": script, "asked_model": model, "seconds": round(time.perf_counter() - begin, 1), **found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", default="mini")
    parser.add_argument("--full", type=Path)
    parser.add_argument("--scripts", default=",".join(SCRIPTS))
    parser.add_argument("--limit", type=float, default=3600, help="seconds for one script")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    args = parser.parse_args()
    models = [*args.models.split(","), *([str(args.full)] if args.full else [])]
    about = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
    found: list[dict[str, Any]] = []
    for model in models:
        for script in args.scripts.split(","):
            with tempfile.TemporaryDirectory() as folder:
                found.append(run(script, model, args.device, args.limit, Path(folder)))
            args.out.write_text(json.dumps(about | {"runs": found}, indent=1) + "\n", "utf-8")
    failed = [f"{r['script']} ({r['asked_model']})" for r in found if "failed" in r]
    print(f"\nwritten: {args.out}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
