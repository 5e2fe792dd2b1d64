"""Answer real clips, to be read by eye, and count how often one answer is given.

    python -m tools.small.clips --model MODEL --clips DATA/media/clips --out clips.json

Nothing of these clips may be committed: the file is for the eyes of whoever runs this, the shares go into the card.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from nanoemox.inference.engine import Engine

TASKS = ("msa", "mer", "eri", "erg")


def main() -> None:
    """Answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("model", "clips", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    engine = Engine.from_pretrained(args.model)
    answers = {}
    for path in sorted(args.clips.glob("*.mp4")):
        found = engine.answer(path, tasks=TASKS)
        answers[path.name] = {r.task: r.label or r.text or r.reply for r in found.tasks.values()}
        print(path.name, answers[path.name], flush=True)
        args.out.write_text(json.dumps(answers, indent=1, ensure_ascii=False), "utf-8")
    for task in ("msa", "mer"):
        label, count = Counter(a[task] for a in answers.values()).most_common(1)[0]
        print(task, label, f"{100 * count / len(answers):.0f} %")
    print("distinct replies", len({a["erg"] for a in answers.values()}), "of", len(answers))


if __name__ == "__main__":
    main()
