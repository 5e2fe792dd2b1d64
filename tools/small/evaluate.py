"""Measure and calibrate the small model on held-out samples.

    python -m tools.small.evaluate --model MODEL --data-root ROOT --features FEATURES --out card.json

Every closed row is measured twice: with the raw scores, and calibrated as the engine does it. Calibration takes the
score of each candidate without any clip (a content-free prior) off, as far as helps, and divides by a temperature: one
pair of numbers a task, fitted on one half of the held-out samples of all its rows (by a hash of speaker or dialogue;
rows that were never seen take no part) and measured on the other. Intervals resample speakers. Scores are kept beside
OUT, so that several processes can share the rows; ``--rows none`` only puts them together.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.data.manifest import ClosedLabels, Sample, read_manifest
from nanoemox.inference.decoding import Choice, prefill, score
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.packing import pack
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.tasks import LABEL_SETS, format_label
from nanoemox.types import Clip
from tools.corpora.targets import family
from tools.mini.evaluate import PREFIXES, as_sentiment, rotated
from tools.small.data import person_of
from tools.small.scores import Scores, calibrated, clustered, fit, metrics, softmax

CONTENT_FREE = ("N/A", "...", "Something was said.")
BATCH = 16
ROWS = {
    "ravdess: voice": ("ravdess", "mer", ("speech",)),
    "photographs: face": ("facial_expressions", "mer", ("face",)),
    "photographs: face and scene": ("facial_expressions", "mer", ("face", "vision")),
    "composed: voice, face, scene": ("composed", "mer", ("speech", "face", "vision")),
    "goemotions: words": ("goemotions", "mer", ("text",)),
    "goemotions sentiment, never trained: words": ("goemotions", "msa", ("text",)),
    "mintrec dev: words": ("mintrec", "mir", ("text",)),
    "mintrec2 dev: words": ("mintrec2", "mir", ("text",)),
    "meld test, never seen: words": ("meld", "mer", ("text",)),
    "meld test sentiment, never seen: words": ("meld", "msa", ("text",)),
}
NEVER_TRAINED = ("msa",)
"""Tasks biased towards one label; the others learned the label frequencies, and a prior costs time."""
STRENGTHS = tuple(np.linspace(0, 1, 11))
UNSEEN = "never seen"
"""Marks the name of a row that is excluded from fitting the calibration."""
MELD = Path("annotations/meld/MELD/test_sent_emo.csv")


def meld(data_root: Path, task: str) -> list[Sample]:
    """Read the utterances of MELD's test part, unused in training, grouped by dialogue."""
    column, labels = ("Emotion", LABEL_SETS["meld"]) if task == "mer" else ("Sentiment", LABEL_SETS["sentiment"])
    with (data_root / MELD).open(encoding="utf-8", newline="") as file:
        return [
            Sample(
                id=f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}", corpus="meld", split="test", task=task,
                labels=ClosedLabels(label=row[column], candidates=labels), subtitle=row["Utterance"],
                speaker=f"dialogue {row['Dialogue_ID']}",
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def held_out(data_root: Path, corpus: str, task: str) -> tuple[list[Sample], list[Sample]]:
    """Return the evaluation samples of a row, and the training part of its corpus."""
    if corpus == "meld":
        return meld(data_root, task), []
    every = read_manifest(data_root / "manifests" / f"{corpus}.jsonl")
    asked = "mer" if task == "msa" else task
    held = [s for s in every if s.split == "validation" and s.task == asked]
    if corpus == "composed":
        # Words are not shown, so clips whose words alone carry the feeling ask for the impossible. Clips without their
        # voice or words ("~") are there whole too.
        held = [s for s in held if s.id.count("+") == 1 and "~" not in s.id]
    return as_sentiment(held) if task == "msa" else held, [s for s in every if s.split == "train" and s.task == task]


class Scorer:
    """A model and its cached features."""

    def __init__(self, model: Path, data_root: Path, features: Path) -> None:
        self.processor = NanoEmoXProcessor.from_pretrained(model)
        self.model = NanoEmoXForConditionalGeneration.from_pretrained(str(model), dtype=torch.float32).eval()
        pack(self.model.language_model)
        self.data_root, self.features = data_root, features
        self.cache: FeatureCache | None = None

    def cache_features(self, samples: Sequence[Sample]) -> None:
        """Encode the samples' media that are not cached."""
        options = CacheOptions(root=self.data_root, dtype=torch.float16, workers=1)
        self.cache = FeatureCache.open_or_build(samples, self.model, self.processor, self.features, options)

    def media(self, sample: Sample, shown: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the features of the given modalities."""
        prefixes = tuple(PREFIXES[m] for m in shown if m in PREFIXES)
        if not prefixes or self.cache is None:
            return {}
        return {k: v.float() for k, v in self.cache.media(sample).items() if k.startswith(prefixes)}

    def scores(
        self, samples: Sequence[Sample], media: Sequence[dict[str, torch.Tensor]], shown: Sequence[str]
    ) -> np.ndarray:
        """Return float64[N, candidates], log-probabilities of the candidates' texts."""
        labels = samples[0].labels.candidates  # type: ignore[union-attr]
        ask, of = Ask(samples[0].task, labels), self.processor
        answers = [of.answer_ids(of.answer_text(ask, format_label(c))) for c in labels]
        choice = Choice(of.question_ids(ask), answers)
        lengths = [len(s.subtitle or "") for s in samples]
        order = np.argsort(lengths, kind="stable")
        out = np.zeros((len(samples), len(labels)))
        for start in range(0, len(samples), BATCH):
            index = order[start : start + BATCH]
            rows, keys = [], dict.fromkeys(k for i in index for k in media[i])
            for i in index:
                clip = Clip(samples[i].id, subtitle=samples[i].subtitle if "text" in shown else None)
                rows.append(self.processor.prefix_ids(clip, self.processor.branches_of(media[i])))
            stacked = {k: torch.stack([media[i][k] for i in index if k in media[i]]) for k in keys}
            prefix = prefill(self.model, **self.processor.pad(rows, "right"), media=stacked)
            out[index] = score(self.model, prefix, [choice])[0].double().numpy()
        return out

    def prior(self, task: str, labels: Sequence[str]) -> np.ndarray:
        """Return the mean log-probability of each candidate for content-free input."""
        empty = ClosedLabels(label=labels[0], candidates=tuple(labels))
        samples = [
            Sample(id=t, corpus="none", split="validation", task=task, labels=empty, subtitle=t) for t in CONTENT_FREE
        ]
        found = self.scores(samples, [{}] * len(samples), ("text",))
        return (found - np.logaddexp.reduce(found, axis=1, keepdims=True)).mean(0)


def group_of(sample: Sample) -> str:
    """Return the cluster of a sample: speaker, person of a photograph, dialogue, or itself."""
    if sample.corpus == "facial_expressions":
        return person_of(f"{sample.id}.jpg")
    if sample.corpus == "composed":
        return str(sample.speaker)
    return sample.speaker or sample.id


def in_fitting_half(sample: Sample) -> bool:
    """Whether a sample is in the half used to fit the calibration."""
    return int(hashlib.sha1(group_of(sample).encode(), usedforsecurity=False).hexdigest(), 16) % 2 == 0


def tfidf(train: Sequence[Sample], samples: Sequence[Sample]) -> dict[str, float]:
    """Return the scores of a linear TF-IDF model trained on the same part."""
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(max_iter=300)
    )
    # Two of five training comments are asked with other names of the same labels.
    own = {family(c): c for c in samples[0].labels.candidates}  # type: ignore[union-attr]
    known = [own.get(family(s.labels.label), s.labels.label) for s in train]  # type: ignore[union-attr]
    model.fit([s.subtitle or "" for s in train], known)
    guess = model.predict([s.subtitle or "" for s in samples])
    truth = [s.labels.label for s in samples]  # type: ignore[union-attr]
    return {
        "accuracy": float(np.mean([g == t for g, t in zip(guess, truth, strict=True)])),
        "macro_f1": float(f1_score(truth, guess, average="macro", zero_division=0)),
    }


def scored(scorer: Scorer, samples: list[Sample], shown: Sequence[str]) -> Scores:
    """Score one closed row and its control with swapped media."""
    if set(shown) - {"text"}:
        scorer.cache_features(samples)
        samples = [s for s in samples if scorer.cache is not None and scorer.cache.usable(s)]
    media = [scorer.media(s, shown) for s in samples]
    if set(shown) - {"text"}:
        kept = [i for i, m in enumerate(media) if m]
        samples, media = [samples[i] for i in kept], [media[i] for i in kept]
    candidates = samples[0].labels.candidates  # type: ignore[union-attr]
    return Scores(
        task=samples[0].task,
        candidates=list(candidates),
        scores=scorer.scores(samples, media, shown),
        swapped=scorer.scores(samples, rotated(media), shown) if set(shown) - {"text"} else None,
        prior=scorer.prior(samples[0].task, candidates),
        truth=np.array([candidates.index(s.labels.label) for s in samples]),  # type: ignore[union-attr]
        groups=[group_of(s) for s in samples],
        first=np.array([in_fitting_half(s) for s in samples]),
    )


def calibrations(rows: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    """Fit one correction a task on the first halves of its rows, each row with the same weight."""
    found = {}
    for task in sorted({r.task for r in rows.values()}):
        halves = [r.half(True) for n, r in rows.items() if r.task == task and UNSEEN not in n]
        strengths = STRENGTHS if task in NEVER_TRAINED else (0.0,)
        found[task] = fit(halves, strengths) if halves else {"strength": 0.0, "temperature": 1.0}
    return found


def summary(name: str, row: Scores, correction: Mapping[str, float]) -> dict:
    """Measure one row, raw and as the engine calibrates it, with its controls."""
    rest = row if UNSEEN in name else row.half(False)
    out = {
        "candidates": row.candidates, "chance": 1 / len(row.candidates),
        "majority": float(np.bincount(row.truth).max() / len(row.truth)),
        "guesses": dict(Counter(row.candidates[i] for i in row.scores.argmax(1))),
        "raw": metrics(softmax(row.scores), row.truth, row.groups),
        "calibrated": metrics(calibrated(row, correction), row.truth, row.groups),
        "calibrated, other half": metrics(calibrated(rest, correction), rest.truth, rest.groups),
    }  # fmt: skip
    if row.swapped is not None:
        hits = (row.swapped.argmax(1) == row.truth).astype(float)
        out["shuffled_media"] = clustered(hits, row.groups)
    return out


def draw(samples: list[Sample], limit: int) -> list[Sample]:
    """Return a fixed random subset of at most ``limit``."""
    if len(samples) <= limit:
        return samples
    return [samples[i] for i in sorted(np.random.default_rng(0).permutation(len(samples))[:limit])]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data-root", "features", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=10_000, help="at most so many samples of a row")
    parser.add_argument("--rows", default=",".join(ROWS), help="starts of the rows' names, joined by commas")
    args = parser.parse_args()
    kept = args.out.with_suffix("")
    kept.mkdir(parents=True, exist_ok=True)
    wanted = {n: of for n, of in ROWS.items() if n.startswith(tuple(args.rows.split(",")))}
    scorer = Scorer(args.model, args.data_root, args.features) if wanted else None
    for name, (corpus, task, shown) in wanted.items():
        started = time.time()
        held = draw(held_out(args.data_root, corpus, task)[0], args.limit)
        scored(scorer, held, shown).save(kept / f"{slug(name)}.json")  # type: ignore[arg-type]
        print(f"{name}: {time.time() - started:.0f} s", flush=True)
    rows = {n: Scores.load(kept / f"{slug(n)}.json") for n in ROWS if (kept / f"{slug(n)}.json").is_file()}
    card: dict = json.loads(args.out.read_text("utf-8")) if args.out.is_file() else {}
    card |= {"command": " ".join(["python -m tools.small.evaluate", *sys.argv[1:]]), "calibration": calibrations(rows)}
    card["closed"] = {n: summary(n, row, card["calibration"][row.task]) for n, row in rows.items()}
    for name, (corpus, task, shown) in ROWS.items():
        if name in rows and shown == ("text",) and task != "msa":
            held, train = held_out(args.data_root, corpus, task)
            if train:
                card["closed"][name]["tfidf"] = tfidf(train, draw(held, args.limit))
    args.out.write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    for name, found in card["closed"].items():
        raw, other = found["raw"], found["calibrated, other half"]
        told = {k: round(found[w][k], 3) for w in ("raw",) for k in ("uar", "macro_f1", "weighted_f1")}
        print(
            f"{name}: raw {raw['accuracy']['value']:.3f} {told} ECE {raw['calibration_error']:.1f}, calibrated "
            f"{other['accuracy']['value']:.3f} uar {other['uar']:.3f} macro {other['macro_f1']:.3f} weighted "
            f"{other['weighted_f1']:.3f} ECE {other['calibration_error']:.1f}, guesses {found['guesses']}"
        )


def slug(name: str) -> str:
    """Convert a row's name to a file name."""
    return re.sub(r"\W+", "-", name).strip("-")


if __name__ == "__main__":
    main()
