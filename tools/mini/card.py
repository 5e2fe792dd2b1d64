# ruff: noqa: E501 (lines of Markdown)
"""Write the embedded model's card from measured numbers: nothing in it is typed by hand but the words.

python -m tools.mini.card --run runs/mini --stage0 runs/stage0 --card runs/mini/card.json --out src/nanoemox/assets/mini
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from textwrap import fill

import yaml
from safetensors import safe_open

HEAD = """---
license: cc-by-nc-sa-4.0
language: en
library_name: transformers
tags: [nanoemox, emotion-recognition, empathy, multimodal]
---

# nanoemox mini

The demonstration model inside the `nanoemox` package: {parameters:.1f}M parameters, every part of Nano-EmoX (vision, voice,
face, fusion, language model), trained with the P2E curriculum by this repository on openly available data. Stored in
float16 ({megabytes:.1f} MB), computed in float32 on a CPU.

**Do not use it to judge people.** It knows sixteen acted voices saying two sentences, under a thousand photographs and some
English text. Its explanations are sentences of our own templates filled with what it believes, its replies are those of
a very small language model. Read `docs/usage-policy.md`.

Weights: **CC BY-NC-SA 4.0**, because RAVDESS is. Code: Apache-2.0.

## Made by

```text
{commands}
```

Seeds: {seed} everywhere. Two CPU cores. Stage 0 trains small stand-ins for public backbones (they cannot be downloaded
where this was made); then P2E runs exactly as for a large model, phases and mixture from `recipes/train/p2e-mini.yaml`.
{note}
| stage | what trains | steps of 32 samples | learning rate | minutes |
|---|---|---|---|---|
{phases}

| part of stage 0 | parameters | held-out score | chance | majority |
|---|---|---|---|---|
{stage0}

## Data

Trained on: RAVDESS speech, actors 01-16 (CC BY-NC-SA 4.0); RAVDESS audiovisual, 52 clips of actor 01; 990 facial
expression photographs less a fifth held out by a hash of the name; GoEmotions train (CC BY 4.0); ESConv development file
and FailedESConv (CC BY-NC 4.0); MUStARD; MIntRec and MIntRec2.0 train less every clip in the MMLA development lists.
`composed` samples put a training voice, a training photograph and training words of one emotion together; nobody in them
exists. `word_choice` asks which of some words a GoEmotions comment holds, so that answers keep to the list offered.
Validated on: RAVDESS actors 17-20, the held-out photographs, GoEmotions dev, ESConv test file, MIntRec dev lists.
Explanations (ERI) are built by our own templates from the label and from what is measured of that very clip: pitch, energy,
tempo, the face's label, the words. MSA is never trained.

Before training, samples whose normalised text (four words or more) or clip name stands in any validation or evaluation
file were dropped: {overlap}.

## Scores on held-out data

Accuracy of candidate scoring, with 95 % bootstrap intervals. `shuffled` gives every clip another clip's media.

| what is shown | n | accuracy | UAR | chance | majority | words only (TF-IDF + LR) | shuffled media |
|---|---|---|---|---|---|---|---|
{closed}
{notes}
## Open answers

Greedy generation without constraints on held-out samples. A closed answer counts only if it is one of the candidates to
the letter, an ERG answer only with its four fields and a reply; all must end by themselves. `another clip` asks the same
question with another sample's words and media.

| task | n | format holds | same answer for another clip | right conclusion | with another clip | quoted words were said | word F1 with the reference | with another clip | repeats a training reply |
|---|---|---|---|---|---|---|---|---|---|
{open}

{marks}

The reference of ERI and of the chain in ERG is built by rule, so these rows measure whether the model has learnt to read
the clip, not whether the explanation would convince a person.

## Examples

{examples}
"""


def span(row: dict | None) -> str:
    """Format a value with its interval, in percent."""
    return "" if row is None else f"{100 * row['value']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def percent(value: float) -> str:
    """Format a fraction."""
    return f"{100 * value:.1f}"


def closed_table(card: dict) -> tuple[str, str]:
    """Rows of the closed tasks, and notes about clips that showed nothing."""
    rows, notes = [], []
    for name, row in card["closed"].items():
        cells = (name, row["accuracy"]["n"], span(row["accuracy"]), percent(row["uar"]), percent(row["chance"]))
        controls = (percent(row["majority"]), span(row.get("tfidf")), span(row.get("shuffled_media")))
        rows.append("| " + " | ".join(map(str, (*cells, *controls))) + " |")
        if row["unanswered"]:
            seen = span(row["accuracy_where_seen"])
            notes.append(
                f"\n{name}: {row['unanswered']} clips show no face and count as wrong; where one is found {seen}.\n"
            )
    return "\n".join(rows), "".join(notes)


def open_table(card: dict) -> str:
    """Rows of the open tasks."""
    keys = (
        "unchanged_by_another_clip", "conclusion_accuracy", "conclusion_accuracy_shuffled", "quotes_were_said",
        "word_f1", "word_f1_shuffled", "repeats_training_reply",
    )  # fmt: skip
    rows = []
    for task, row in card["open"].items():
        cells = (task, row["format"]["n"], span(row["format"]), *(span(row.get(k)) for k in keys))
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


MARKS = (("ravdess: voice", 0.50), ("photographs: face", 0.45), ("goemotions: words", 0.55))
"""What a first checkpoint is asked to reach, as accuracy of a closed row."""
FORMAT_MARK, REPEAT_MARK = 0.95, 0.20


def marks(card: dict) -> str:
    """Say which marks of a first checkpoint are missed; computed, so that it cannot be forgotten."""
    closed, free = card["closed"], card["open"]
    missed = [
        f"{name} reaches {percent(closed[name]['accuracy']['value'])} % of {percent(least)} % wanted"
        for name, least in MARKS
        if closed[name]["accuracy"]["value"] < least
    ]
    missed += [
        f"the format of {task} holds in {percent(row['format']['value'])} % of {percent(FORMAT_MARK)} % wanted"
        for task, row in free.items()
        if row["format"]["value"] < FORMAT_MARK
    ]
    repeats = free["erg"]["repeats_training_reply"]["value"]
    if repeats > REPEAT_MARK:
        missed.append(f"{percent(repeats)} % of replies repeat a training reply, {percent(REPEAT_MARK)} % allowed")
    return "**Marks missed by this checkpoint:** " + ("; ".join(missed) or "none") + "."


def stage0_table(folder: Path) -> str:
    """Rows of stage 0."""
    rows = []
    for part in ("speech", "vision", "face", "lm"):
        metrics = json.loads((folder / part / "metrics.json").read_text())
        found = metrics.get("validation", metrics)
        found = found if "accuracy" in found else metrics["goemotions/mer"]
        got = f"{percent(found['accuracy'])} (n {found['n']})"
        cells = (
            part,
            f"{metrics['parameters'] / 1e6:.2f}M",
            got,
            percent(found.get("chance", 0)),
            percent(found.get("majority", 0)),
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def totals(overlap: dict[str, int]) -> str:
    """Add the dropped samples up by corpus and by how they were recognised."""
    counts: dict[str, int] = {}
    for key, dropped in overlap.items():
        how, corpus = key.split("/")[:2]
        counts[f"{corpus} by {how}"] = counts.get(f"{corpus} by {how}", 0) + dropped
    return ", ".join(f"{k} {v}" for k, v in counts.items()) or "none"


def main() -> None:
    """Write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "stage0", "card", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--note", default="", help="what the command above would do otherwise than was done")
    args = parser.parse_args()
    card = json.loads(args.card.read_text())
    resolved = yaml.safe_load(next(args.run.glob("*/resolved.yaml")).read_text())
    phases, seed = [], resolved["seed"]
    for name in resolved["phases"]:
        phase = yaml.safe_load((args.run / name / "resolved.yaml").read_text())["phases"][name]
        last = json.loads((args.run / name / "metrics.jsonl").read_text().splitlines()[-1])
        trains, minutes = ", ".join(phase["trainable"]), last["train_runtime"] / 60
        phases.append(f"| P2E {name} | {trains} | {phase['steps']} | {phase['lr']} | {minutes:.1f} |")
    overlap = json.loads((args.run / "data" / "overlap.json").read_text())
    with safe_open(args.out / "model.safetensors", "pt") as handle:
        count = sum(handle.get_tensor(k).numel() for k in handle.keys())  # noqa: SIM118
    closed, notes = closed_table(card)
    examples = [
        f"- {task}, {e['corpus']}: `{' / '.join(e['answer'].split(chr(10)))}`"
        for task, row in card["open"].items()
        for e in row["examples"][:2]
    ]
    text = HEAD.format(
        parameters=count / 1e6,
        megabytes=(args.out / "model.safetensors").stat().st_size / 1e6,
        commands="python -m tools.mini.build --data-root DATA --out runs/mini",
        seed=seed,
        note=f"\n{fill(args.note, 120)}\n" if args.note else "",
        phases="\n".join(phases),
        stage0=stage0_table(args.stage0),
        overlap=totals(overlap),
        closed=closed,
        notes=notes,
        open=open_table(card),
        marks=marks(card),
        examples="\n".join(examples),
    )
    (args.out / "README.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
