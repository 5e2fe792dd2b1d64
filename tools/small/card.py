"""Write the card of `small` from measured numbers, with the marks that are missed.

python -m tools.small.card --card card.json --out src/nanoemox/assets/small --note "how this checkpoint was trained"
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from textwrap import fill

from tools.small.evaluate import CONTENT_FREE

HEAD = """---
license: cc-by-nc-sa-4.0
language: en
library_name: transformers
tags: [nanoemox, emotion-recognition, empathy, multimodal]
---

# nanoemox small

160 million parameters: SmolLM2-135M-Instruct (Apache-2.0), the encoder of Whisper base (MIT), both fetched by
`nanoemox pull small`; with them the expression net of `@vladmandic/face-api` (MIT) as face encoder, our own vision encoder,
adapters, fusion and LoRA ({megabytes:.1f} MB, float16), which lie here.

**Do not use it to judge people.** Read `docs/usage-policy.md`. Our weights: **CC BY-NC-SA 4.0**, because RAVDESS is.

{note}

Trained on: RAVDESS speech, actors 01-16; facial expression photographs of two draws less a fifth of the people; GoEmotions
train (CC BY 4.0); MIntRec and MIntRec2.0 train; ESConv development file (CC BY-NC 4.0); situations and replies written by us. The scene
encoder is that of `mini`, which saw some of the people held out here: rows with a scene are too kind by that much. The face
encoder saw none of our photographs. Sentiment is never trained; explanations name the polarity of a feeling.

## Scores on held-out data

Made by `{command}`. Scored candidates; intervals (95 %) resample speakers or people. `calibrated` is fitted on one half
of the speakers and measured on the other. Rows that are not here were not measured.

| what is shown | n | accuracy | UAR | macro F1 | weighted F1 | chance | majority | TF-IDF | shuffled media | calibration error, raw | calibrated |
|---|---|---|---|---|---|---|---|---|---|---|---|
{rows}

## What it writes

Greedy, from held-out words alone.

| task | n | format holds | answers that differ | |
|---|---|---|---|---|
{written}

## Real clips

{clips}

## Marks

Calibrated, as the engine answers, on all n samples; half of them gave the two numbers of their task's calibration.

{marks}
"""  # noqa: E501 (lines of Markdown)
MARKS = (
    ("ravdess: voice", "accuracy", 0.68),
    ("photographs: face", "large_uar", 0.55),
    ("photographs: face", "worst_large", 0.30),
    ("goemotions: words", "accuracy", 0.66),
    ("goemotions: words", "macro_f1", 0.56),
    ("goemotions sentiment, never trained: words", "weighted_f1", 0.62),
    ("mintrec dev: words", "accuracy", 0.60),
    ("mintrec2 dev: words", "accuracy", 0.47),
    ("meld test, never seen: words", "accuracy", 0.50),
    ("meld test sentiment, never seen: words", "weighted_f1", 0.58),
)
SMALL_CLASSES = ("fear", "contempt")
"""Of the photographs: a few held-out ones each."""


def percent(value: float) -> str:
    """Format a fraction."""
    return f"{100 * value:.1f}"


def span(row: dict | None) -> str:
    """Format a value with its interval, in percent."""
    return "" if row is None else f"{percent(row['value'])} [{percent(row['low'])}, {percent(row['high'])}]"


def table(closed: dict) -> str:
    """Rows of the closed tasks."""
    out = []
    for name, row in closed.items():
        raw, other = row["raw"], row["calibrated, other half"]
        tfidf = percent(row["tfidf"]["accuracy"]) if "tfidf" in row else ""
        cells = (
            name, raw["accuracy"]["n"], span(raw["accuracy"]), percent(raw["uar"]), percent(raw["macro_f1"]),
            percent(raw["weighted_f1"]), percent(row["chance"]), percent(row["majority"]), tfidf,
            span(row.get("shuffled_media")), f"{raw['calibration_error']:.1f}", f"{other['calibration_error']:.1f}",
        )  # fmt: skip
        out.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(out)


def measured(row: dict, measure: str) -> float:
    """Return what the engine's answers score: calibrated, by two numbers a task that half of these samples gave."""
    found = row["calibrated"]
    if measure == "accuracy":
        return float(found["accuracy"]["value"])
    if measure in ("large_uar", "worst_large"):
        large = [r for c, r in found["recall"].items() if row["candidates"][int(c)] not in SMALL_CLASSES]
        return float(sum(large) / len(large) if measure == "large_uar" else min(large))
    return float(found[measure])


def written(card: dict) -> str:
    """Rows of the open tasks."""
    out = []
    for task, row in card.get("open", {}).items():
        rest = [f"{k} {percent(v)}" for k, v in row.items() if k not in ("n", "format", "distinct", "examples")]
        cells = (task, row["n"], percent(row["format"]), percent(row["distinct"]), "; ".join(rest))
        out.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(out)


def marks(closed: dict) -> str:
    """Say of each mark of the plan what was reached."""
    out = []
    for name, measure, least in MARKS:
        if name not in closed:
            out.append(f"- {name}, {measure}: not measured (mark {percent(least)})")
            continue
        value = measured(closed[name], measure)
        verdict = "reached" if value >= least else "**missed**"
        out.append(f"- {name}, {measure}: {percent(value)} (mark {percent(least)}), {verdict}")
    return "\n".join(out)


def main() -> None:
    """Write README.md, card.json and calibration.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note", required=True)
    parser.add_argument("--clips", required=True, help="what was seen on real clips")
    args = parser.parse_args()
    card = json.loads(args.card.read_text("utf-8"))
    text = HEAD.format(
        megabytes=sum(f.stat().st_size for f in args.out.glob("*.safetensors")) / 1e6,
        note=fill(args.note, 120),
        command=card["command"].replace(str(Path.home()), "~"),
        rows=table(card["closed"]),
        written=written(card),
        clips=fill(args.clips, 120),
        marks=marks(card["closed"]),
    )
    (args.out / "README.md").write_text(text, "utf-8")
    (args.out / "card.json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    fields = {"content_free": CONTENT_FREE, "tasks": card["calibration"]}
    (args.out / "calibration.json").write_text(json.dumps(fields, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
