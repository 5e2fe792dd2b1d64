"""Start-up time of a fresh process.

    python benchmarks/startup.py [--model DIR] [--clip FILE] [--json FILE]

Each row is a separate process, interpreter included. The floor is the interpreter alone, or with the libraries that
every model needs; peak memory is that of the process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from measure import SAMPLE, interleaved, machine, options, report

LIBRARIES = "import torch; from transformers import PreTrainedModel, GenerationMixin, AutoTokenizer"
COMMAND = "import sys; from nanoemox.cli import main; main(sys.argv[1:])"
PEAK = """
import atexit, sys
def peak():
    line = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
    print("peak_kb", line.split()[1], file=sys.stderr)
if sys.platform == "linux":
    atexit.register(peak)
"""


class Process:
    """A program that is started anew each time; records its peak memory."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.command = [sys.executable, "-c", PEAK + code, *arguments]
        self.peak_mb = 0.0

    def __call__(self) -> None:
        done = subprocess.run(self.command, capture_output=True, text=True, check=True)
        told = [line.split()[1] for line in done.stderr.splitlines() if line.startswith("peak_kb")]
        if told:
            self.peak_mb = max(self.peak_mb, int(told[-1]) * 1024 / 1e6)


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--clip", type=Path, default=SAMPLE)
    args = parser.parse_args()
    ready = f"from nanoemox import Engine; Engine.from_pretrained({args.model!r}, device={args.device!r})"
    floors = {"interpreter": Process("pass"), "libraries": Process(LIBRARIES)}
    ours = {
        "import nanoemox": (Process("import nanoemox"), "interpreter"),
        "nanoemox --help": (Process(COMMAND, "--help"), "interpreter"),
        "Engine.from_pretrained": (Process(ready), "libraries"),
        "nanoemox answer CLIP": (
            Process(COMMAND, "answer", str(args.clip), "--json", "--model", args.model, "--device", args.device),
            "libraries",
        ),
    }
    found = interleaved({**floors, **{name: process for name, (process, _) in ours.items()}}, args.repeats)
    table: dict[str, list[float | None]] = {
        name: [found[name], found[floor], process.peak_mb] for name, (process, floor) in ours.items()
    }
    report(machine() | {"model": args.model}, ["seconds", "floor", "peak MB"], table, args.json)


if __name__ == "__main__":
    main()
