"""Write the card of `small` from measured numbers, with the marks that are missed.

python -m tools.small.card --card card.json --out src/nanoemox/assets/small --note "how this checkpoint was trained"
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from textwrap import fill

HEAD = """---
license: cc-by-nc-sa-4.0
language: en
library_name: transformers
tags: [nanoemox, emotion-recognition, empathy, multimodal]
---

# nanoemox small

160 million parameters: SmolLM2-135M-Instruct (Apache-2.0), the encoder of Whisper base (MIT), both fetched by
`nanoemox pull small`; with them our own vision and face encoders, adapters, fusion and LoRA ({megabytes:.1f} MB, float16),
which lie here.

**Do not use it to judge people.** Read `docs/usage-policy.md`. Our weights: **CC BY-NC-SA 4.0**, because RAVDESS is.

{note}

Trained on: RAVDESS speech, actors 01-16; facial expression photographs of two draws less a fifth of the people; GoEmotions
train (CC BY 4.0); MIntRec and MIntRec2.0 train. The encoders of picture and face are those of `mini` and learnt from what
its card lists. Sentiment is never trained; explanations name the polarity of a feeling.

## Scores on held-out data

Made by `{command}`. Scored candidates; intervals (95 %) resample speakers or people. `calibrated` is fitted on one half
of the speakers and measured on the other. Rows that are not here were not measured.

| what is shown | n | accuracy | UAR | macro F1 | weighted F1 | chance | majority | TF-IDF | shuffled media | calibration error, raw | calibrated |
|---|---|---|---|---|---|---|---|---|---|---|---|
{rows}

## Marks

{marks}
"""  # noqa: E501 (lines of Markdown)
MARKS = (
    ("ravdess: voice", "accuracy", 0.68),
    ("photographs: face", "uar", 0.55),
    ("goemotions: words", "accuracy", 0.66),
    ("goemotions: words", "macro_f1", 0.56),
    ("goemotions sentiment, never trained: words", "weighted_f1", 0.62),
    ("mintrec dev: words", "accuracy", 0.60),
    ("mintrec2 dev: words", "accuracy", 0.47),
)


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


def marks(closed: dict) -> str:
    """Say of each mark of the plan what was reached."""
    out = []
    for name, measure, least in MARKS:
        if name not in closed:
            out.append(f"- {name}, {measure}: not measured (mark {percent(least)})")
            continue
        raw = closed[name]["raw"]
        value = raw["accuracy"]["value"] if measure == "accuracy" else raw[measure]
        verdict = "reached" if value >= least else "**missed**"
        out.append(f"- {name}, {measure}: {percent(value)} (mark {percent(least)}), {verdict}")
    return "\n".join(out)


def calibration(closed: dict) -> dict:
    """Average what was fitted over the rows of a task: one correction each."""
    by_task: dict[str, list[dict]] = {}
    for name, row in closed.items():
        task = "msa" if "sentiment" in name else "mir" if "mintrec" in name else "mer"
        by_task.setdefault(task, []).append(row["calibration"])
    return {
        t: {k: round(sum(r[k] for r in of) / len(of), 3) for k in ("strength", "temperature")}
        for t, of in by_task.items()
    }


def main() -> None:
    """Write README.md, card.json and calibration.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note", required=True)
    args = parser.parse_args()
    card = json.loads(args.card.read_text("utf-8"))
    text = HEAD.format(
        megabytes=sum(f.stat().st_size for f in args.out.glob("*.safetensors")) / 1e6,
        note=fill(args.note, 120),
        command=card["command"].replace(str(Path.home()), "~"),
        rows=table(card["closed"]),
        marks=marks(card["closed"]),
    )
    (args.out / "README.md").write_text(text, "utf-8")
    (args.out / "card.json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    content_free = ["N/A", "...", "Something was said."]
    fields = {"content_free": content_free, "tasks": calibration(card["closed"])}
    (args.out / "calibration.json").write_text(json.dumps(fields, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
