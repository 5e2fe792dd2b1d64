"""Average the LoRA of checkpoints that came from one another: what a late phase learnt, with less of what it forgot.

python -m tools.small.soup --out soup.safetensors RUN/closing/adapters.safetensors RUN/faces/adapters.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def main() -> None:
    """Average."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    states = [load_file(f) for f in args.files]
    if any(s.keys() != states[0].keys() for s in states):
        raise SystemExit("the files hold other tensors than one another")
    with safe_open(args.files[0], "pt") as handle:
        metadata = handle.metadata()
    save_file({k: torch.stack([s[k].float() for s in states]).mean(0) for k in states[0]}, args.out, metadata=metadata)


if __name__ == "__main__":
    main()
