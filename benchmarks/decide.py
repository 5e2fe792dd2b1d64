"""Cost of many questions relative to one: the clip is encoded once, so twenty should take at most 1.5 times as long.

    python benchmarks/decide.py [--model DIR] [--clip FILE] [--repeats N] [--json]

Times are medians of :meth:`Engine.decide` on a decoded clip, and of the whole process from a file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from nanoemox.inference.engine import Engine
from nanoemox.inference.questions import Question

SAMPLE = Path(__file__).parents[1] / "src" / "nanoemox" / "assets" / "sample.mp4"
ASPECTS = ["sincere", "tired", "tense", "amused", "proud", "bored", "afraid", "lonely", "hopeful", "sure of it"]


def twenty() -> list[Question]:
    first = [Question.choice(f"Is the speaker {a}?", ["yes", "no", "unclear"]) for a in ASPECTS]
    scales = [Question.score(f"How {a} is the speaker?", ["not at all", "a bit", "very"]) for a in ASPECTS[:5]]
    return first + scales + [Question.predicate(f"The speaker was {a} before.") for a in ASPECTS[:5]]


def median_s(actions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median seconds of each action; they are interleaved, so that load affects all of them."""
    seconds: list[list[float]] = [[] for _ in actions]
    for i in range(repeats + 1):
        for action, found in zip(actions, seconds, strict=True):
            begin = time.perf_counter()
            action()
            if i:
                found.append(time.perf_counter() - begin)
    return [statistics.median(s) for s in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clip", type=Path, default=SAMPLE)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    engine = Engine.from_pretrained(args.model, device=args.device)
    clip, asked = engine.load(args.clip), twenty()
    one, all_, file_one, file_all, each = median_s(
        [
            lambda: engine.decide(clip, asked[:1]),
            lambda: engine.decide(clip, asked),
            lambda: engine.decide(args.clip, asked[:1]),
            lambda: engine.decide(args.clip, asked),
            lambda: [engine.decide(clip, [q]) for q in asked],
        ],
        args.repeats,
    )
    found = {
        "model": engine.name,
        "device": str(engine.model.device),
        "one_question_s": round(one, 4),
        "twenty_questions_s": round(all_, 4),
        "twenty_over_one": round(all_ / one, 2),
        "one_question_from_file_s": round(file_one, 4),
        "twenty_questions_from_file_s": round(file_all, 4),
        "twenty_over_one_from_file": round(file_all / file_one, 2),
        "twenty_asked_one_by_one_s": round(each, 4),
    }
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<30}{value}")


if __name__ == "__main__":
    main()
