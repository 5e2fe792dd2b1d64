"""Scores of closed rows: storage, calibration by a content-free prior and a temperature, metrics with clusters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one row.

    Attributes:
        task: Task key.
        candidates: Of every sample.
        scores: float64[N, candidates].
        swapped: The same with another sample's media; None without media.
        prior: float64[candidates].
        truth: int[N].
        groups: Speaker, person or dialogue of each sample.
        first: bool[N], the half that calibration is fitted on.
    """

    task: str
    candidates: list[str]
    scores: np.ndarray
    swapped: np.ndarray | None
    prior: np.ndarray
    truth: np.ndarray
    groups: list[str]
    first: np.ndarray

    def half(self, first: bool) -> Scores:
        """Return one of the two halves."""
        kept = np.flatnonzero(self.first == first)
        swapped = None if self.swapped is None else self.swapped[kept]
        groups = [self.groups[i] for i in kept]
        return replace(
            self,
            scores=self.scores[kept],
            swapped=swapped,
            truth=self.truth[kept],
            groups=groups,
            first=self.first[kept],
        )

    def save(self, path: Path) -> None:
        """Write to a JSON file."""
        fields = {f: getattr(self, f) for f in self.__slots__}
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fields.items()}
        path.write_text(json.dumps(plain), "utf-8")

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read what :meth:`save` wrote."""
        fields = json.loads(path.read_text("utf-8"))
        arrays = {k: np.array(fields[k]) for k in ("scores", "prior", "truth", "first")}
        swapped = None if fields["swapped"] is None else np.array(fields["swapped"])
        return cls(**fields | arrays | {"swapped": swapped})


def softmax(x: np.ndarray) -> np.ndarray:
    """Return probabilities by row."""
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def calibrated(row: Scores, correction: Mapping[str, float]) -> np.ndarray:
    """Return calibrated probabilities."""
    return softmax((row.scores - correction["strength"] * row.prior) / correction["temperature"])


def fit(rows: Sequence[Scores], strengths: Sequence[float]) -> dict[str, float]:
    """Fit strength of the prior and temperature by maximum likelihood, with equally weighted rows."""
    best = (np.inf, 0.0, 1.0)
    for strength in strengths:
        for temperature in np.geomspace(0.4, 6, 28):
            chosen = {"strength": float(strength), "temperature": float(temperature)}
            costs = [-np.log(calibrated(r, chosen)[np.arange(len(r.truth)), r.truth] + 1e-12).mean() for r in rows]
            best = min(best, (float(np.mean(costs)), float(strength), float(temperature)))
    return {"strength": round(best[1], 3), "temperature": round(best[2], 3)}


def calibration_error(p: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error of the best candidate, in points."""
    sure, right = p.max(1), p.argmax(1) == truth
    which = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(sure[which == b].mean() - right[which == b].mean()) * (which == b).mean() for b in set(which)]
    return 100 * float(sum(gaps))


def clustered(hits: np.ndarray, groups: Sequence[str], draws: int = 1000) -> dict[str, float]:
    """Return the mean with its 95 % cluster-bootstrap interval."""
    names, index = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(index, hits), np.bincount(index)
    pick = np.random.default_rng(0).integers(len(names), size=(draws, len(names)))
    means = sums[pick].sum(1) / sizes[pick].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"value": float(hits.mean()), "low": float(low), "high": float(high), "n": len(hits)}


def metrics(p: np.ndarray, truth: np.ndarray, groups: Sequence[str]) -> dict:
    """Return accuracy, recall, F1 and calibration error of one set of probabilities."""
    guess = p.argmax(1)
    hits = (guess == truth).astype(float)
    recalls = {int(c): float(hits[truth == c].mean()) for c in np.unique(truth)}
    return {
        "accuracy": clustered(hits, groups),
        "uar": float(np.mean(list(recalls.values()))),
        "recall": recalls,
        "macro_f1": float(f1_score(truth, guess, average="macro", zero_division=0)),
        "weighted_f1": float(f1_score(truth, guess, average="weighted", zero_division=0)),
        "calibration_error": calibration_error(p, truth),
    }
