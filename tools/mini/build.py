"""Make the embedded model from the data, all steps in order; finished steps are not repeated.

    python -m tools.mini.build --data-root DATA --out runs/mini

About an hour on two cores: manifests, stage 0 (tokenizer, voice, scene, face, language model), assembly, P2E,
evaluation, card.
The result lies in OUT/mini; copy it to src/nanoemox/assets/mini to ship it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch

from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor


def run(*command: str | Path) -> None:
    """Run one step; a failure ends the build."""
    print("+", *command, flush=True)
    subprocess.run([sys.executable, *map(str, command)], check=True)


def ship(trained: Path, out: Path) -> None:
    """Write the trained model in half precision."""
    model = NanoEmoXForConditionalGeneration.from_pretrained(str(trained), dtype=torch.float16)
    model.save_pretrained(out)
    NanoEmoXProcessor.from_pretrained(trained).save_pretrained(out)


def main() -> None:
    """Build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data, stage0, base, trained = args.out / "data", args.out / "stage0", args.out / "base", args.out / "p2e"
    if not (data / "manifests").is_dir():
        run("-m", "tools.corpora", "--data-root", args.data_root, "--out", data)
    for part in ("tokenizer", "speech", "vision", "face", "lm"):
        if not (stage0 / part / "metrics.json").is_file():
            more = ["--tokenizer", stage0 / "tokenizer"] if part == "lm" else []
            run("-m", f"tools.mini.{part}", "--data-root", data, "--out", stage0 / part, *more)
    run("-m", "tools.mini.assemble", "--stage0", stage0, "--out", base)
    train = ["train", "p2e-mini", "--data-root", data, "--out", trained, "--model", base]
    run("-m", "nanoemox", *train, *(["--resume"] if trained.is_dir() else []))
    ship(trained / "model", args.out / "mini")
    card = args.out / "card.json"
    run("-m", "tools.mini.evaluate", "--model", args.out / "mini", "--data-root", data, "--run", trained, "--out", card)
    run("-m", "tools.mini.card", "--run", trained, "--stage0", stage0, "--card", card, "--out", args.out / "mini")


if __name__ == "__main__":
    main()
