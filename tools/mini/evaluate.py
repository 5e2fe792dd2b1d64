"""Measure a model trained by ``nanoemox train`` on held-out data, with baselines beside every score.

    python -m tools.mini.evaluate --model runs/mini/model --data-root DATA --run runs/mini --out runs/mini/card.json

Closed tasks: accuracy of candidate scoring with 95 % bootstrap intervals, beside chance, majority, the words alone or
TF-IDF + logistic regression, and the same clips with their media shuffled. Open tasks: greedy generation, how often
the format holds, how often a reply repeats a training reply, and what shuffling media does to it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.data.manifest import ClosedLabels, ReplyLabels, Sample, TextLabels, read_manifest, target_text
from nanoemox.inference.decoding import Choice, Decoder, GenerationOptions, Prefix, prefill, score
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.scoring import bootstrap_interval, classification_scores, mean_statistic
from nanoemox.tasks import LABEL_SETS, TASKS, format_label, parse
from nanoemox.types import Clip

BATCH = 24
MAX_NEW_TOKENS = 160
PREFIXES = {"vision": "vision_", "speech": "speech_", "face": "face_"}


class Bench:
    """A model, its cache, and the two ways of asking it."""

    def __init__(self, model: Path, run: Path, data_root: Path, features: Path | None = None) -> None:
        self.processor = NanoEmoXProcessor.from_pretrained(model)
        self.model = NanoEmoXForConditionalGeneration.from_pretrained(str(model), dtype=torch.float32).eval()
        self.samples = {f.stem: read_manifest(f) for f in sorted((run / "data").glob("*.jsonl"))}
        held_out = [s for of in self.samples.values() for s in of if s.split != "train"]
        options = CacheOptions(root=data_root)
        self.cache = FeatureCache.open_or_build(
            held_out, self.model, self.processor, features or run / "features", options
        )

    def held_out(self, corpus: str, task: str, limit: int | None = None, split: str = "validation") -> list[Sample]:
        """Samples of a held-out part, a fixed random draw where there are more than ``limit``."""
        found = [s for s in self.samples[corpus] if s.task == task and s.split == split and self.cache.usable(s)]
        if limit is not None and len(found) > limit:
            order = np.random.default_rng(0).permutation(len(found))[:limit]
            found = [found[i] for i in sorted(order)]
        return found

    def media(self, sample: Sample, shown: Sequence[str]) -> dict[str, torch.Tensor]:
        """Features of the modalities that are shown."""
        prefixes = tuple(PREFIXES[m] for m in shown if m in PREFIXES)
        return {k: v.float() for k, v in self.cache.media(sample).items() if k.startswith(prefixes)} if prefixes else {}

    def prefix(
        self, samples: Sequence[Sample], media: Sequence[dict[str, torch.Tensor]], shown: Sequence[str]
    ) -> Prefix:
        """Prefill the shared start of a batch of prompts."""
        rows = []
        for sample, features in zip(samples, media, strict=True):
            words = "text" in shown
            clip = Clip(sample.id, subtitle=sample.subtitle if words else None, history=sample.history if words else ())
            rows.append(self.processor.prefix_ids(clip, self.processor.branches_of(features)))
        inputs = self.processor.pad(rows, "right")
        keys = dict.fromkeys(k for m in media for k in m)
        stacked = {k: torch.stack([m[k] for m in media if k in m]) for k in keys}
        return prefill(self.model, **inputs, media=stacked)

    def classify(
        self, samples: Sequence[Sample], media: Sequence[dict[str, torch.Tensor]], shown: Sequence[str]
    ) -> list[str | None]:
        """Most probable candidate of each sample; None where nothing at all could be shown."""
        out: list[str | None] = []
        for start in range(0, len(samples), BATCH):
            part, seen = samples[start : start + BATCH], media[start : start + BATCH]
            labels = part[0].labels.candidates
            choice = Choice(
                self.processor.question_ids(Ask(part[0].task, labels)),
                [self.processor.answer_ids(format_label(c)) for c in labels],
            )
            scores = score(self.model, self.prefix(part, seen, shown), [choice])[0]
            blank = [not m and "text" not in shown for m in seen]
            best = scores.argmax(1).tolist()
            out += [None if empty else labels[i] for i, empty in zip(best, blank, strict=True)]
        return out

    def write(
        self, samples: Sequence[Sample], media: Sequence[dict[str, torch.Tensor]], shown: Sequence[str]
    ) -> list[tuple[str, bool]]:
        """Greedy answer of each sample, and whether the model ended it itself."""
        out = []
        for start in range(0, len(samples), BATCH):
            part, seen = samples[start : start + BATCH], media[start : start + BATCH]
            candidates = getattr(part[0].labels, "candidates", None)
            question = self.processor.question_ids(Ask(part[0].task, candidates))
            decoder = Decoder(
                self.model, self.prefix(part, seen, shown), [question], self.processor.terminator_ids,
                GenerationOptions(max_new_tokens=MAX_NEW_TOKENS),
            )  # fmt: skip
            for _ in decoder:
                pass
            texts = [self.processor.tokenizer.decode(ids) for ids in decoder.answers]
            out += list(zip(texts, decoder.ended, strict=True))
        return out


def interval(hits: Sequence[float]) -> dict[str, float]:
    """Mean with its 95 % interval."""
    values = np.asarray(hits, dtype=np.float64)
    found = bootstrap_interval(mean_statistic(values), len(values))
    return {"value": float(values.mean()), "low": float(found.low), "high": float(found.high), "n": len(values)}


def rotated(items: list) -> list:
    """Give everyone the next one's: a shuffle in which nobody keeps their own."""
    order = np.random.default_rng(1).permutation(len(items))
    out = list(items)
    for i, j in zip(order, np.roll(order, 1), strict=True):
        out[i] = items[j]
    return out


def closed_row(bench: Bench, samples: list[Sample], shown: Sequence[str]) -> dict:
    """Score one closed row with its controls."""
    truth = [s.labels.label for s in samples]
    media = [bench.media(s, shown) for s in samples]
    guess = bench.classify(samples, media, shown)
    candidates = samples[0].labels.candidates
    scores = classification_scores(truth, guess, candidates)
    row = {
        "shown": list(shown),
        "accuracy": interval([g == t for g, t in zip(guess, truth, strict=True)]),
        "uar": float(scores.unweighted_average_recall),
        "unanswered": sum(g is None for g in guess),
        "chance": 1 / len(candidates),
        "majority": max(Counter(truth).values()) / len(truth),
    }
    if any(media):
        swapped = bench.classify(samples, rotated(media), shown)
        row["shuffled_media"] = interval([g == t for g, t in zip(swapped, truth, strict=True)])
        answered = [i for i, m in enumerate(media) if m]
        if len(answered) < len(samples):
            row["accuracy_where_seen"] = interval([guess[i] == truth[i] for i in answered])
    return row


def tfidf(bench: Bench, corpus: str, task: str, samples: list[Sample]) -> dict[str, float]:
    """Words alone by TF-IDF and logistic regression, trained on the same training part."""
    train = [s for s in bench.samples[corpus] if s.task == task and s.split == "train"]
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(max_iter=400)
    )
    model.fit([s.subtitle or "" for s in train], [s.labels.label for s in train])
    guess = model.predict([s.subtitle or "" for s in samples])
    return interval([g == s.labels.label for g, s in zip(guess, samples, strict=True)])


def well_formed(sample: Sample, text: str, ended: bool) -> bool:
    """Whether an answer has its task's format: ended by the model itself, and readable as what was asked for."""
    reading = parse(sample.task, text, getattr(sample.labels, "candidates", None))
    if not ended:
        return False
    if TASKS[sample.task].closed:
        return text.strip() in sample.labels.candidates
    if sample.task == "ovmer":
        return 1 <= len(reading.labels) <= 8 and all(len(w.split()) <= 3 for w in reading.labels)
    if sample.task == "eri":
        return bool(re.search(r"This points to [a-z ]+\.$", text.strip()))
    think = reading.think
    return think is not None and all(astuple(think)) and bool(reading.reply)


def normalised(text: str) -> str:
    """Letters and digits only."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


POLARITY = {
    "joy": "positive", "anger": "negative", "disgust": "negative", "fear": "negative", "sadness": "negative",
    "neutral": "neutral",
}  # fmt: skip


def as_sentiment(samples: Sequence[Sample]) -> list[Sample]:
    """Ask the sentiment of comments whose emotion is known; surprise has no polarity and is left out."""
    found = [s for s in samples if s.labels.label in POLARITY]
    labels = [ClosedLabels(label=POLARITY[s.labels.label], candidates=LABEL_SETS["sentiment"]) for s in found]
    return [s.model_copy(update={"task": "msa", "labels": x}) for s, x in zip(found, labels, strict=True)]


def open_rows(bench: Bench, plan: dict[str, list[tuple[str, int]]]) -> dict:
    """Generate for each task on its corpora; measure format and what the clip changes."""
    shown = ("vision", "speech", "face", "text")
    out: dict = {}
    for task, sources in plan.items():
        good, same, right, right_swapped, repeats, overlap, overlap_swapped, examples = [], [], [], [], [], [], [], []
        quotes: list[bool] = []
        for corpus, limit in sources:
            samples = bench.held_out(corpus, "mer" if task == "msa" else task, limit)
            samples = as_sentiment(samples) if task == "msa" else samples
            media = [bench.media(s, shown) for s in samples]
            answers = bench.write(samples, media, shown)
            good += [well_formed(s, t, e) for s, (t, e) in zip(samples, answers, strict=True)]
            examples += [
                {"corpus": corpus, "id": s.id, "answer": t, "target": target_text(s)}
                for s, (t, _) in list(zip(samples, answers, strict=True))[:3]
            ]
            if task in ("eri", "erg"):
                # The whole clip moves: words, history and media of another sample under this one's question.
                swapped = bench.write(rotated(samples), rotated(media), shown)
                same += [a == b for (a, _), (b, _) in zip(answers, swapped, strict=True)]
                for sample, (a, _), (b, _) in zip(samples, answers, swapped, strict=True):
                    said = normalised(sample.subtitle or "")
                    quotes += [normalised(quote) in said for quote in re.findall(r'"([^"]+)"', a)]
                    if isinstance(sample.labels, TextLabels):
                        right.append(sample.labels.conclusion in a)
                        right_swapped.append(sample.labels.conclusion in b)
                    if isinstance(sample.labels, ReplyLabels):
                        overlap.append(word_f1(a, target_text(sample)))
                        overlap_swapped.append(word_f1(b, target_text(sample)))
            if task == "erg":
                seen = {
                    normalised(s.labels.reply)
                    for of in bench.samples.values()
                    for s in of
                    if s.split == "train" and isinstance(s.labels, ReplyLabels)
                }
                repeats += [normalised(parse("erg", t).reply or "") in seen for t, _ in answers]
        row: dict = {"format": interval(good), "examples": examples}
        if same:
            row["unchanged_by_another_clip"] = interval(same)
        if right:
            row["conclusion_accuracy"], row["conclusion_accuracy_shuffled"] = interval(right), interval(right_swapped)
        if quotes and task == "eri":
            row["quotes_were_said"] = interval(quotes)
        if overlap:
            row["word_f1"], row["word_f1_shuffled"] = interval(overlap), interval(overlap_swapped)
        if repeats:
            row["repeats_training_reply"] = interval(repeats)
        out[task] = row
    return out


def word_f1(answer: str, target: str) -> float:
    """Overlap of words as an F score in 0..1."""
    a, b = Counter(normalised(answer).split()), Counter(normalised(target).split())
    common = sum((a & b).values())
    return 0.0 if not common else 2 * common / (sum(a.values()) + sum(b.values()))


def main() -> None:
    """Measure everything and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, to try the script")
    args = parser.parse_args()
    bench = Bench(args.model, args.run, args.data_root)
    few = 40 if args.quick else None
    speech, face = bench.held_out("ravdess", "mer", few), bench.held_out("facial_expressions", "mer", few)
    words, intents = bench.held_out("goemotions", "mer", few), bench.held_out("mintrec", "mir", few)
    intents2, both = bench.held_out("mintrec2", "mir", few), bench.held_out("composed", "mer", few)
    card = {
        "closed": {
            "ravdess: voice": closed_row(bench, speech, ["speech"]),
            "ravdess: words": closed_row(bench, speech, ["text"]),
            "photographs: face": closed_row(bench, face, ["face"]),
            "photographs: face and scene": closed_row(bench, face, ["face", "vision"]),
            "composed: voice, face, scene": closed_row(bench, both, ["speech", "face", "vision"]),
            "goemotions: words": closed_row(bench, words, ["text"])
            | {"tfidf": tfidf(bench, "goemotions", "mer", words)},
            "goemotions sentiment, never trained: words": closed_row(bench, as_sentiment(words), ["text"]),
            "mintrec dev: words": closed_row(bench, intents, ["text"])
            | {"tfidf": tfidf(bench, "mintrec", "mir", intents)},
            "mintrec2 dev: words": closed_row(bench, intents2, ["text"])
            | {"tfidf": tfidf(bench, "mintrec2", "mir", intents2)},
        },
        "open": open_rows(
            bench,
            {
                "msa": [("goemotions", few or 150)],
                "mer": [("ravdess", few or 100), ("goemotions", few or 100)],
                "ovmer": [("ravdess", few or 60), ("goemotions", few or 60), ("composed", few or 60)],
                "mir": [("mintrec2", few or 150)],
                "eri": [("ravdess", few or 60), ("goemotions", few or 60), ("composed", few or 60)],
                "erg": [("esconv", few or 150), ("composed", few or 60)],
            },
        ),
    }
    args.out.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for name, row in card["closed"].items():
        got = row["accuracy"]
        span = f"{got['value']:.3f} [{got['low']:.3f}, {got['high']:.3f}]"
        print(f"{name:32} {span}  majority {row['majority']:.3f}  n {got['n']}")
    for name, row in card["open"].items():
        print(f"{name:8} " + "  ".join(f"{k} {v['value']:.3f}" for k, v in row.items() if isinstance(v, dict)))


if __name__ == "__main__":
    main()
