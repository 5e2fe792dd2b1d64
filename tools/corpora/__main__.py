"""Write the corpora of a recipe as manifests under a data root of its own.

    python -m tools.corpora --data-root DATA --out ROOT [--recipe p2e-mini]

ROOT holds links to the folders of DATA and ``manifests/*.jsonl``, which ``nanoemox train`` reads before any corpus.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nanoemox.data.manifest import write_manifest
from nanoemox.training.phases import load_curriculum
from tools.corpora import read_corpora


def main() -> None:
    """Write the manifests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="p2e-mini")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for folder in sorted(args.data_root.iterdir()):
        link = args.out / folder.name
        if folder.is_dir() and folder.name != "manifests" and not link.exists():
            link.symlink_to(folder.resolve())
    for name, samples in read_corpora(args.data_root, load_curriculum(args.recipe).corpus_names).items():
        write_manifest(samples, args.out / "manifests" / f"{name}.jsonl")
        print(f"{name}: {len(samples)} samples", flush=True)


if __name__ == "__main__":
    main()
