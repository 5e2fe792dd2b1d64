"""Answer real clips, to be read by eye, and count how often one answer is given.

    python -m tools.small.clips --model MODEL --clips DATA/media/clips --asr WHISPER --out clips.json

With ``--asr`` clips are listened to where no words lie beside them; what was heard is kept in OUT for the next time.
Nothing of these clips may be committed: the file is for the eyes of whoever runs this, the shares go into the card.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from nanoemox.inference.decoding import GenerationOptions
from nanoemox.inference.engine import Engine
from nanoemox.inference.options import AnswerOptions, LoadOptions
from nanoemox.types import Answer

TASKS = ("msa", "mer", "ovmer", "mir", "eri", "erg")
MOST_TOKENS = 120


def one(engine: Engine, path: Path, heard: str | None, asr: Path | None) -> tuple[str | None, Answer]:
    """Return the words and the answer of a clip; words that were heard before are not listened for again."""
    clip = engine.load(path, subtitle=heard, options=LoadOptions(hear=asr is not None, asr_model=asr))
    options = AnswerOptions(generation=GenerationOptions(max_new_tokens=MOST_TOKENS))
    return clip.subtitle, engine.answer(clip, TASKS, options=options)


def main() -> None:
    """Answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("model", "clips", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--asr", type=Path, help="directory of a Whisper")
    args = parser.parse_args()
    engine = Engine.from_pretrained(args.model)
    before: dict[str, Any] = json.loads(args.out.read_text("utf-8")) if args.out.is_file() else {}
    answers: dict[str, dict[str, Any]] = {}
    for path in sorted(args.clips.glob("*.mp4")):
        words, found = one(engine, path, before.get(path.name, {}).get("words"), args.asr)
        told = {r.task: r.label or r.labels or r.text or r.reply for r in found.tasks.values()}
        sure = {t: round(max(r.probabilities.values()), 2) for t, r in found.tasks.items() if r.probabilities}
        answers[path.name] = {"words": words or "", **told, "sure": sure, "read": list(found.modalities)}
        print(path.name, json.dumps(answers[path.name], ensure_ascii=False), flush=True)
    args.out.write_text(json.dumps(before | answers, indent=1, ensure_ascii=False), "utf-8")
    for task in ("msa", "mer", "mir"):
        counts = Counter(a[task] for a in answers.values())
        label, count = counts.most_common(1)[0]
        print(task, label, f"{100 * count / len(answers):.0f} %", dict(counts))
    print("distinct replies", len({a["erg"] for a in answers.values()}), "of", len(answers))


if __name__ == "__main__":
    main()
