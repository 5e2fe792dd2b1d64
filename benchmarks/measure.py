"""Helpers of these scripts: options, interleaved timing, rates of the machine, a table, JSON.

A time is the minimum of several, as in ``timeit``; the columns are interleaved, so that load affects all of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from nanoemox.inference.checkpoints import find_checkpoint
from nanoemox.inference.decoding import Decoder, GenerationOptions, Prefix
from nanoemox.inference.engine import Engine
from nanoemox.model.configuration import PAPER_BRANCHES
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration

SAMPLE = Path(str(files("nanoemox") / "assets" / "sample.mp4"))
NEVER = [-1]
"""A terminator that is no token, so that answers reach the maximum length."""
READ_BYTES = (256_000_000, 2_000_000_000)
"""Least and most bytes of a plain read: more than a processor's caches, no more than the memory beside a model."""
DTYPES = ("float32", "bfloat16", "float16")

Action = Callable[[], Any]


def options(doc: str | None, *, repeats: int = 5, model: str | None = "mini") -> argparse.ArgumentParser:
    """Return a parser with the common options."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=model, help="mini, small or a model directory")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=DTYPES, help="default: what the engine chooses")
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser


def engine(args: argparse.Namespace) -> Engine:
    """Load the model with all branches: random adapters count as trained here."""
    dtype = getattr(torch, args.dtype) if args.dtype else None
    loaded = Engine.from_pretrained(args.model, device=args.device, dtype=dtype)
    config = loaded.processor.config
    config.trained_branches = [b for b in PAPER_BRANCHES if b in config.branches]
    return loaded


def load_plain(args: argparse.Namespace, loaded: Engine) -> NanoEmoXForConditionalGeneration:
    """Load the model as transformers does: weights as saved, frozen."""
    path = find_checkpoint(args.model)[0]
    plain = NanoEmoXForConditionalGeneration.from_pretrained(path, dtype=loaded.model.dtype).eval()
    plain.requires_grad_(False)  # what counts operations asks for a gradient where a weight does
    plain.config.trained_branches = loaded.processor.config.trained_branches
    return plain.to(loaded.model.device)


def seconds_of(action: Action) -> float:
    """Return the seconds of one run, including the device's work."""
    begin = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def interleaved(actions: Mapping[str, Action], repeats: int) -> dict[str, float]:
    """Return the minimum seconds of each action; they are interleaved, after one warm-up."""
    for action in actions.values():
        seconds_of(action)
    turns = [{name: seconds_of(action) for name, action in actions.items()} for _ in range(repeats)]
    return {name: min(turn[name] for turn in turns) for name in actions}


def memory_read(size_bytes: int, device: torch.device) -> tuple[Action, int]:
    """Return an action that reads a buffer of about this size once (see ``READ_BYTES``), and its size in bytes."""
    least, most = READ_BYTES
    buffer = torch.ones(min(max(size_bytes, least), most) // 4, dtype=torch.float32, device=device)
    return lambda: buffer.sum(), buffer.nbytes


def matrix_product(dtype: torch.dtype, device: torch.device) -> tuple[Action, int]:
    """Return an action that multiplies two square matrices, and its number of operations."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device).to(dtype)
    return lambda: a @ a, 2 * side**3


def write_answers(loaded: Engine, prefix: Prefix, asks: list[list[int]], tokens: int) -> None:
    """Generate this many tokens for each question, without stopping early."""
    Decoder(loaded.model, prefix, asks, NEVER, GenerationOptions(max_new_tokens=tokens)).finish()


def machine(loaded: Engine | None = None) -> dict[str, Any]:
    """Describe the machine."""
    told: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        told["gpu"] = torch.cuda.get_device_name()
    if loaded is not None:
        model = loaded.model
        told |= {"model": loaded.name, "device": str(model.device), "dtype": str(model.dtype).removeprefix("torch.")}
    return told


def report(about: Mapping[str, Any], columns: list[str], rows: Mapping[str, list[float | None]], path: Path | None,
           **more: Any) -> None:  # fmt: skip
    """Print a table with one row per quantity, and write everything as JSON on request."""
    print(", ".join(f"{k} {v}" for k, v in about.items()))
    width = max(map(len, rows)) + 2
    print(" " * width + "".join(f"{c:>16}" for c in columns))
    for name, values in rows.items():
        print(f"{name:{width}}" + "".join(f"{'' if v is None else f'{v:.3g}':>16}" for v in values))
    for name, value in more.items():
        print(f"{name.replace('_', ' ')}: {f'{value:.3g}' if isinstance(value, float) else value}")
    if path:
        table = {name: dict(zip(columns, values, strict=True)) for name, values in rows.items()}
        path.write_text(json.dumps({"about": dict(about), "table": table, **more}, indent=1) + "\n", "utf-8")
