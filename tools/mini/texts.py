"""The words that stage 0 may read: the corpora of P2E after the overlap filter, so that both split alike."""

from __future__ import annotations

from pathlib import Path

from nanoemox.data.manifest import ReplyLabels, Sample, target_text
from nanoemox.data.overlap import HeldOutIndex, drop_overlap, evaluation_overlap, normalise
from tools.corpora import read_corpora

CORPORA = ("goemotions", "word_choice", "esconv", "mustard", "mintrec", "mintrec2")


def samples_of(data_root: Path) -> tuple[list[Sample], dict[str, int], HeldOutIndex]:
    """Return all samples that remain, how many were dropped and why, and what is held out of training."""
    held = evaluation_overlap(data_root)
    every = [s for of in read_corpora(data_root, CORPORA).values() for s in of]
    kept, dropped = drop_overlap(every, held)
    for sample in kept:
        if sample.split != "train":
            held.add_text(sample.subtitle or "", f"{sample.corpus} {sample.split}")
    return kept, dropped, held


def documents(samples: list[Sample], held: HeldOutIndex) -> dict[str, list[str]]:
    """Return every training text once, by corpus: comments, scenes, what a person says with the reply."""
    out: dict[str, dict[str, None]] = {}
    for sample in samples:
        if sample.split != "train" or sample.corpus == "word_choice":  # comments that are there already
            continue
        turns = [*((t.role, t.text) for t in sample.history), ("speaker", sample.subtitle or "")]
        turns = [t for t in turns if normalise(t[1]) not in held.texts]
        if isinstance(sample.labels, ReplyLabels):
            turns = [*turns[-1:], ("listener", sample.labels.reply)]
        text = "\n".join(f"{role}: {text}" for role, text in turns) if len(turns) > 1 else sample.subtitle or ""
        out.setdefault(sample.corpus, {})[text] = None
    return {corpus: list(texts) for corpus, texts in out.items()}


def answers(samples: list[Sample]) -> list[str]:
    """Return the distinct training answers, but for words that were merely said."""
    return list(dict.fromkeys(target_text(s) for s in samples if s.split == "train" and s.corpus != "word_choice"))
