"""Evaluate open answers of the small model on held-out text: format, diversity, repetition of training replies.

    python -m tools.small.writes --model MODEL --data-root ROOT --out card.json --limit 40

Greedy, without constraints, from the words alone. Adds ``open`` to the card that ``tools.small.evaluate`` began.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from nanoemox.data.manifest import OpenLabels, ReplyLabels, Sample, TextLabels, read_manifest
from nanoemox.inference.decoding import GenerationOptions
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions
from nanoemox.types import Answer, Clip
from tools.small.evaluate import draw

TASKS = ("ovmer", "eri", "erg")
SOURCE, ASKED_AS = "goemotions", {"ovmer": "ovmer", "eri": "eri", "erg": "mer"}
"""Replies are evaluated on any held-out comment; training has only comments that allow a good reply."""
REPLIES = ("talk", "situations", "composed")
MOST_TOKENS = 160


def answers(engine: Engine, samples: Sequence[Sample], task: str) -> Iterator[Answer]:
    """Answer one task for each sample's text."""
    clips = [Clip(s.id, subtitle=s.subtitle, history=s.history) for s in samples]
    options = GenerationOptions(max_new_tokens=MOST_TOKENS)
    return engine.answer_many(clips, (task,), options=AnswerOptions(generation=options), batch_size=8)


def is_well_formed(task: str, reading: object) -> bool:
    """Whether an open answer is complete and terminated."""
    if task == "ovmer":
        return 1 <= len(getattr(reading, "labels", None) or ()) <= 8
    if task == "eri":
        text = str(getattr(reading, "text", "") or "").strip()
        return text.endswith(".") and len(text) > 10
    return getattr(reading, "think", None) is not None and bool(str(getattr(reading, "reply", "") or "").strip())


def measure(engine: Engine, data_root: Path, limit: int) -> dict[str, dict]:
    """Return for each open task the share of valid answers, the number of distinct ones, and examples."""
    found: dict[str, dict] = {}
    manifests = data_root / "manifests"
    every = read_manifest(manifests / f"{SOURCE}.jsonl")
    for task in TASKS:
        held = draw([s for s in every if s.split == "validation" and s.task == ASKED_AS[task]], limit)
        readings = [a.tasks[task] for a in answers(engine, held, task)]
        texts = [str(r.reply if task == "erg" else r.raw).strip() for r in readings]
        row = {
            "n": len(held),
            "format": sum(is_well_formed(task, r) for r in readings) / len(held),
            "distinct": len(set(texts)) / len(held),
            "examples": [f"{s.subtitle} -> {t}" for s, t in zip(held[:6], texts, strict=False)],
        }
        if task == "erg":
            learnt = [s for name in REPLIES for s in read_manifest(manifests / f"{name}.jsonl") if s.split == "train"]
            known = {s.labels.reply.strip() for s in learnt if isinstance(s.labels, ReplyLabels)}
            row["repeats a training reply"] = sum(t in known for t in texts) / len(texts)
        if task == "eri":
            ends = [s.labels.conclusion or "" for s in held if isinstance(s.labels, TextLabels)]
            row["right conclusion"] = sum(t.endswith(e) for t, e in zip(texts, ends, strict=True)) / len(texts)
        if task == "ovmer":
            truths = [set(s.labels.labels) for s in held if isinstance(s.labels, OpenLabels)]
            named = [set(r.labels or ()) for r in readings]
            row["names a right word"] = sum(bool(a & b) for a, b in zip(named, truths, strict=True)) / len(held)
        found[task] = row
        print(task, json.dumps(row, ensure_ascii=False), flush=True)
    return found


def main() -> None:
    """Measure and add to the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("model", "data-root", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=40)
    args = parser.parse_args()
    engine = Engine.from_pretrained(args.model, dtype=torch.float32)
    card = json.loads(args.out.read_text("utf-8")) if args.out.is_file() else {"closed": {}}
    card["open"] = measure(engine, args.data_root, args.limit)
    args.out.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
