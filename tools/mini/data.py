"""What stage 0 may see of the corpora, and the small tools that its trainings share.

Only sources whose licence lets us publish weights are opened here (see README.md); every split is a rule, not a
stored list, so that anyone who has the same files gets the same split.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nanoemox.data.corpora.facial_expressions import photographs as legend
from nanoemox.data.corpora.facial_expressions import split_of
from nanoemox.data.corpora.ravdess import LABELS as EMOTIONS
from nanoemox.data.corpora.ravdess import split_of as speaker_split
from nanoemox.data.corpora.releases import family
from nanoemox.data.manifest import Split
from nanoemox.media.load import load_clip
from nanoemox.scoring import bootstrap_interval, mean_statistic
from tools.corpora import facial_expressions, ravdess

EXPRESSIONS = facial_expressions.LABELS
"""Classes of the two picture encoders."""
_FAMILIES = [family(label) for label in EXPRESSIONS]


def is_validation(name: str) -> bool:
    """Say whether a photograph is held out: a fifth of all names, by a hash that never changes."""
    return split_of(name) == "validation"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One RAVDESS utterance."""

    path: Path
    label: int


def utterances(data_root: Path, split: Split) -> list[Utterance]:
    """List the utterances of a part, in the order of ``labels.csv``."""
    folder = data_root / ravdess.SPEECH
    rows = [r for r in ravdess.rows(data_root, ravdess.SPEECH) if speaker_split(int(r["actor"])) == split]
    return [Utterance(folder / r["file"], EMOTIONS.index(r["emotion"])) for r in rows]


def read_waveform(path: Path) -> np.ndarray:
    """Decode a file to float32[S], mono, 16 kHz, in -1..1."""
    waveform = load_clip(path).waveform
    if waveform is None:
        raise SystemExit(f"{path}: no sound")
    return waveform


def photographs(data_root: Path) -> list[tuple[Path, int]]:
    """List ``(path, class)`` of the facial expression photographs."""
    folder = data_root / facial_expressions.FOLDER
    return [(folder / "images" / image, EXPRESSIONS.index(label)) for image, label in legend(folder)]


def actor_faces(data_root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the face crops of the audiovisual corpus: uint8[N, 20, 112, 112] gray and the class of each clip."""
    arrays = np.load(data_root / ravdess.AUDIOVISUAL / "faces_112.npz", allow_pickle=True)  # a known file of names
    rows = ravdess.rows(data_root, ravdess.AUDIOVISUAL)
    emotions = {Path(row["clip"]).stem: family(row["emotion"]) for row in rows}
    return arrays["frames"], np.array([_FAMILIES.index(emotions[str(name)]) for name in arrays["names"]])


class Averaged:
    """Exponential moving average of a module's weights, which is what gets saved."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the module's present weights."""
        self.module, self.decay, self.steps = module, decay, 0
        self.mean = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the mean towards the module; early steps move it further."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.mean[key].lerp_(value, 1 - decay)
            else:
                self.mean[key].copy_(value)

    def install(self) -> None:
        """Write the mean into the module."""
        self.module.load_state_dict(self.mean)


def score(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float | list[float] | int]:
    """Accuracy with its interval, unweighted average recall, and what guessing gives."""
    classes, counts = np.unique(truth, return_counts=True)
    correct = (predicted == truth).astype(np.float64)
    interval = bootstrap_interval(mean_statistic(correct), len(correct))
    return {
        "n": len(truth),
        "accuracy": interval.estimate,
        "accuracy_95": [interval.low, interval.high],
        "uar": float(np.mean([correct[truth == c].mean() for c in classes])),
        "majority": float(counts.max() / counts.sum()),
        "chance": 1 / len(classes),
    }


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split parameters so that biases, norms and other vectors are not decayed."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def batches(n: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield shuffled index batches of one epoch, the short last one left out."""
    order = rng.permutation(n)
    for start in range(0, n - size + 1, size):
        yield order[start : start + size]


def arguments(description: str) -> argparse.ArgumentParser:
    """Return the parser that every script of this folder starts from."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, help="the folder described in data/README.md")
    parser.add_argument("--out", type=Path, required=True, help="where the trained part is saved")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=None)
    return parser


def write_metrics(out: Path, metrics: dict[str, object]) -> None:
    """Save ``metrics.json`` beside the weights, with the command that made them."""
    command = " ".join([f"python -m tools.mini.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    metrics = {"command": command, **metrics}
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(text, flush=True)
