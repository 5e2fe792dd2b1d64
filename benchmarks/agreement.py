"""Share of labels that stay the same in another floating-point format.

    python benchmarks/agreement.py CLIP... [--words FILE] [--model DIR] [--json FILE]

Answers the three closed tasks for every clip (files or folders) and every line of FILE, in bfloat16 and in float32 (or
``--dtype``). Reports the share of equal labels and the largest change of a probability.
"""

from __future__ import annotations

from argparse import Namespace
from itertools import chain
from pathlib import Path

from measure import engine, machine, options, report
from nanoemox.inference.engine import Engine
from nanoemox.types import Answer, Clip

CLOSED = ("msa", "mer", "mir")


def answers(loaded: Engine, clips: list[Clip]) -> list[Answer]:
    return list(loaded.answer_many(clips, CLOSED, batch_size=8))


def label_agreement(first: list[Answer], second: list[Answer]) -> list[float | None]:
    """Return the share of equal labels and the largest change of a probability."""
    pairs = [(a.tasks[t], b.tasks[t]) for a, b in zip(first, second, strict=True) for t in CLOSED]
    same = sum(a.label == b.label for a, b in pairs) / len(pairs)
    changes = (abs(p - (b.probabilities or {})[k]) for a, b in pairs for k, p in (a.probabilities or {}).items())
    return [same, max(changes), float(len(pairs))]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("clips", type=Path, nargs="*")
    parser.add_argument("--words", type=Path, help="one utterance a line")
    parser.set_defaults(dtype="float32")
    args = parser.parse_args()
    loaded = engine(args)
    paths = chain.from_iterable(sorted(p.iterdir()) if p.is_dir() else [p] for p in args.clips)
    lines = args.words.read_text("utf-8").splitlines() if args.words else []
    clips = [loaded.load(p) for p in paths] + [Clip(line[:40], subtitle=line) for line in lines if line.strip()]
    default = answers(loaded, clips)
    about = machine(loaded)
    del loaded
    other = engine(Namespace(**vars(args) | {"dtype": "bfloat16"}))
    rows = {"bfloat16": label_agreement(default, answers(other, clips))}
    report(about, ["labels kept", "largest change", "labels"], rows, args.json)


if __name__ == "__main__":
    main()
