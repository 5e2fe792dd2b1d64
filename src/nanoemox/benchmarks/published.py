"""Published numbers of Nano-EmoX (the paper's tables) and of AffectGPT (its authors' tables).

All follow the published protocol (the ``legacy`` scorer): every checkpoint is scored on the test split, and the best is
reported, separately for each set. They are copied from the tables; if our notes give a topic but no table number, so
does ``table``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from nanoemox.benchmarks.records import GROUPS, get_benchmark

PROTOCOL: Final = "legacy"
"""The scorer of all numbers here."""


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """One row of a published table.

    Attributes:
        benchmark: Id.
        system: Name of the model in the table.
        table: The table.
        metrics: Metric -> value: fractions of one, except judge scores, which are 1 to 10.
        num_samples: Number of clips, if it differs from the benchmark's.
    """

    benchmark: str
    system: str
    table: str
    metrics: Mapping[str, float]
    num_samples: int | None = None


_PAPER: Final = "Nano-EmoX"
_UNIBENCH: Final = {
    "Nano-EmoX (P2E)": (79.09, 77.94, 56.55, 60.12, 76.82, 79.81, 86.25, 84.76, 64.75),
    "Nano-EmoX (joint)": (74.26, 78.61, 54.27, 61.54, 80.71, 79.52, 84.64, 83.31, 62.68),
    "AffectGPT(s) (P2E)": (72.43, 77.83, 50.19, 57.64, 80.40, 79.97, 83.28, 83.23, 63.75),
}
"""In the order of ``GROUPS["mer-unibench"]``, percent."""
_INTENT: Final = {"mintrec": (58.20, 58.17, 60.12), "mintrec2_paper": (47.32, 47.27, 51.10)}
"""Accuracy, weighted F1, weighted precision, percent."""
_REPLIES: Final = {
    "Nano-EmoX (P2E)": {"accuracy": 54.82, "hit_rate": 91.13, "distinct_1": 95.47, "distinct_2": 99.83},
    "Nano-EmoX (joint)": {"accuracy": 34.91, "hit_rate": 74.79},
}
PRINTED: Final[Mapping[str, float]] = {
    "mer2023": 0.7854, "mer2024": 0.7880, "meld": 0.5565, "iemocap": 0.6054, "cmu_mosi": 0.8130, "cmu_mosei": 0.8090,
    "ch_sims": 0.8849, "ch_sims_v2": 0.8618, "ov_merd": 0.6252,
}  # fmt: skip
"""Benchmark -> the row of AffectGPT as published by its authors (arXiv 2501.16566): hit rate, weighted F1 or F."""
OTHER_CLIPS: Final[Mapping[str, int]] = {"ov_merd": 532}
"""Number of clips of the published numbers, if they use another list than the released one."""


def _rows() -> Iterator[PublishedResult]:
    nine = GROUPS["mer-unibench"]
    for system, numbers in _UNIBENCH.items():
        for key, number in zip(nine, numbers, strict=True):
            yield PublishedResult(key, system, f"{_PAPER}, Table 2", _headline(key, number / 100), OTHER_CLIPS.get(key))
    for key in nine:
        printed = _headline(key, PRINTED[key])
        yield PublishedResult(key, "AffectGPT", "AffectGPT, MER-UniBench", printed, OTHER_CLIPS.get(key))
    for key, three in _INTENT.items():
        names = ("accuracy", "weighted_f1", "weighted_precision")
        shares = {name: number / 100 for name, number in zip(names, three, strict=True)}
        yield PublishedResult(key, "Nano-EmoX (P2E)", f"{_PAPER}, intents", shares)
    reasons = {"clue_overlap": 7.83, "label_overlap": 5.78}
    yield PublishedResult("emer", "Nano-EmoX (P2E)", f"{_PAPER}, explanations", reasons)
    for system, scores in _REPLIES.items():
        yield PublishedResult("avamerg", system, f"{_PAPER}, Table 5", {k: v / 100 for k, v in scores.items()})


def _headline(key: str, number: float) -> dict[str, float]:
    return {get_benchmark(key).metrics[0]: number}


PUBLISHED: Final[tuple[PublishedResult, ...]] = tuple(_rows())


def published_results(benchmark: str) -> tuple[PublishedResult, ...]:
    """Return the published rows of a benchmark, the paper's own first; possibly none."""
    return tuple(row for row in PUBLISHED if row.benchmark == benchmark)
