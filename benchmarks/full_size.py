"""Answer a real clip with a full-size model of 2.3 billion parameters on a CPU; time and peak memory.

    nanoemox assemble paper --random --out DIR
    python benchmarks/full_size.py --model DIR [--clip FILE] [--new-tokens 32] [--json FILE]

The weights are random, so the answers are meaningless and never terminate: open tasks get a fixed number of tokens.
Measures loading in bfloat16, encoding, one prefill and six answers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import torch

from nanoemox import AnswerOptions, Engine, GenerationOptions
from nanoemox.model.configuration import PAPER_BRANCHES
from nanoemox.tasks import ALL_TASKS


def peak_mb() -> float:
    """Return the largest resident size of this process so far, in 10^6 bytes."""
    import resource

    if sys.platform == "linux":  # not ru_maxrss, which a child inherits from the process that started it
        status = Path("/proc/self/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def marked_as_trained(model: Path, folder: Path) -> Path:
    """Return a copy of a directory by links, with all adapters marked as trained; else their branches are unused."""
    for file in model.resolve().iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text("utf-8"))
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"trained_branches": list(PAPER_BRANCHES)}), "utf-8")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--clip", type=Path, default=Path(str(files("nanoemox") / "assets" / "sample.mp4")))
    parser.add_argument("--new-tokens", type=int, default=32, help="of each open answer")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        engine = Engine.from_pretrained(marked_as_trained(args.model, Path(folder)), device="cpu", dtype=torch.bfloat16)
        options = AnswerOptions(generation=GenerationOptions(max_new_tokens=args.new_tokens))
        loaded, loaded_mb = time.perf_counter(), peak_mb()
        answer = engine.answer(args.clip, options=options)
    result = {
        "parameters": sum(p.numel() for p in engine.model.parameters()),
        "threads": torch.get_num_threads(),
        "tasks": len(answer.tasks),
        "modalities": len(answer.modalities),
        "new_tokens": args.new_tokens,
        "load_s": loaded - started,
        "card_s": time.perf_counter() - loaded,
        "peak_after_load_mb": loaded_mb,
        "peak_mb": peak_mb(),
    }
    assert list(answer.tasks) == list(ALL_TASKS)
    for key, value in result.items():
        print(f"{key:20} {value:16,.1f}" if isinstance(value, float) else f"{key:20} {value:16,}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
