"""How near rules come to a language model at taking emotion words out of answers.

    python -m benchmarks.extraction FOLDER

FOLDER holds pairs of files of MER-UniBench's evaluator: ``X.npz`` with the sentences (``name2reason``) and
``X-openset.npz`` with the lists that a language model took from them. They are pickles: run it on files you trust.
Prints the F1 of each file (see ``nanoemox.scoring.corrected.extraction.Agreement``), with and without the published
shortening of lists, and the mean and median over files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import numpy as np

from nanoemox.scoring.corrected.extraction import RELIABLE, Agreement, agreement, as_published, extract_words

Pair = tuple[list[str], list[tuple[str, ...]]]


def read_pair(path: Path) -> Pair:
    """Sentences and published lists of the clips that both files name."""
    with np.load(path, allow_pickle=True) as file:
        sentences = file["name2reason"].item()
    with np.load(path.with_name(f"{path.stem}-openset.npz"), allow_pickle=True) as file:
        lists = dict(zip(map(str, file["filenames"]), map(str, file["fileitems"]), strict=True))
    names = [name for name in sentences if name in lists]
    return [str(sentences[n]) for n in names], [split_list(lists[n]) for n in names]


def split_list(text: str) -> tuple[str, ...]:
    """``[a, 'b']`` as the evaluator reads it."""
    items = (item.strip().strip("'\"").strip() for item in text.strip().strip("[]").split(","))
    return tuple(item for item in items if item)


def measure(path: Path) -> tuple[Agreement, Agreement]:
    """Agreement of a file: with the published shortening, and of all words that we find."""
    sentences, lists = read_pair(path)
    ours = [extract_words(text) for text in sentences]
    return agreement([as_published(words) for words in ours], lists), agreement(ours, lists)


def table(paths: Sequence[Path], root: Path) -> str:
    """Markdown, one row a file."""
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
