"""Agreement of rules with a language model in extracting emotion words from answers.

    python -m benchmarks.extraction FOLDER

FOLDER contains pairs of files of MER-UniBench's evaluator: ``X.npz`` with the sentences (``name2reason``) and
``X-openset.npz`` with the lists that a language model extracted. They are pickles: use only files that you trust.
Prints the F1 of each file (see ``nanoemox.scoring.corrected.extraction.Agreement``), with and without the published
shortening of lists, and the mean and median over files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Final

import numpy as np

from nanoemox.scoring.corrected.extraction import RELIABLE, Agreement, agreement, extract_words
from nanoemox.scoring.corrected.lexicon import look_up

# How far down a list the published extraction still takes a word, by group of synonyms: its language model drops what
# names no feeling, and shortens lists of more than four words to the plainest ones. Read off its outputs.
_LONG_LIST: Final = 5
_PLACES: Final = {
    "telling": 0, "asking": 2, "admiration": 3, "contempt": 3, "shame": 3, "casualness": 3, "disgust": 3,
    "desire": 3, "hostility": 3, "reason": 3, "professionalism": 3, "cooperation": 3, "calm": 5, "friendliness": 5,
    "optimism": 5, "hurt": 5, "shock": 5, "jealousy": 5, "annoyance": 6, "disappointment": 6, "confidence": 6,
    "gratitude": 6, "loneliness": 6, "anger": 99, "happiness": 99, "sadness": 99, "fear": 99, "anxiety": 99,
    "despair": 99, "pride": 99, "contentment": 99, "excitement": 99, "relief": 99, "hate": 99,
}  # fmt: skip
_WORD_PLACES: Final = {
    "affirmation": 2, "apathetic": 3, "challenged": 3, "complain": 2, "concern": 4, "contemplative": 3,
    "encouraging": 3, "energetic": 4, "frustrated": 99, "important": 3, "joke": 3, "passionate": 4,
    "questioning": 2, "serious": 6, "stressed": 99, "uneasy": 5, "uninterested": 3,
}  # fmt: skip
_USUAL_PLACES: Final = 4

Pair = tuple[list[str], list[tuple[str, ...]]]


def read_pair(path: Path) -> Pair:
    """Return sentences and published lists of the clips in both files."""
    with np.load(path, allow_pickle=True) as file:
        sentences = file["name2reason"].item()
    with np.load(path.with_name(f"{path.stem}-openset.npz"), allow_pickle=True) as file:
        lists = dict(zip(map(str, file["filenames"]), map(str, file["fileitems"]), strict=True))
    names = [name for name in sentences if name in lists]
    return [str(sentences[n]) for n in names], [split_list(lists[n]) for n in names]


def split_list(text: str) -> tuple[str, ...]:
    """Parse ``[a, 'b']`` like the evaluator."""
    items = (item.strip().strip("'\"").strip() for item in text.strip().strip("[]").split(","))
    return tuple(item for item in items if item)


def shortened_as_published(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a list that the published extraction keeps, as in AffectGPT's evaluator.

    For comparison only: scores should see the whole list, or long lists would cost nothing.
    """
    kept = []
    for place, label in enumerate(labels):
        known = look_up(label)
        if known is None:
            continue
        places = _WORD_PLACES.get(known.base, _PLACES.get(known.group, _USUAL_PLACES))
        if place < places or (places and len(labels) < _LONG_LIST):
            kept.append(label)
    return tuple(kept)


def measure(path: Path) -> tuple[Agreement, Agreement]:
    """Return the agreement on a file, with the published shortening and with all our words."""
    sentences, lists = read_pair(path)
    ours = [extract_words(text) for text in sentences]
    return agreement([shortened_as_published(words) for words in ours], lists), agreement(ours, lists)


def table(paths: Sequence[Path], root: Path) -> str:
    """Return a Markdown table, one row per file."""
    rows, figures = ["| file | clips | synonyms | words | all words | |", "|---|---|---|---|---|---|"], []
    for path in paths:
        short, whole = measure(path)
        figures.append(short)
        note = "" if short.reliable else f"below {RELIABLE}: use a language model"
        name = path.relative_to(root)
        rows.append(
            f"| {name} | {short.num_clips} | {short.synonyms:.4f} | {short.words:.4f} | {whole.words:.4f} | {note} |"
        )
    for name, average in (("mean", fmean), ("median", median)):
        rows.append(
            f"| {name} of {len(figures)} files | {sum(f.num_clips for f in figures)} | "
            f"{average([f.synonyms for f in figures]):.4f} | {average([f.words for f in figures]):.4f} | | |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = sorted(p for p in folder.rglob("*.npz") if p.with_name(f"{p.stem}-openset.npz").exists())
    print(table(found, folder))
