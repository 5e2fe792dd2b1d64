"""Go on training the expression net on photographs of our training people, so that it knows our eight labels.

    python -m tools.small.face --data-root DATA --start expression.safetensors --out face.safetensors

Nobody whose photographs are held out (a fifth of all people, ``tools.small.data``) is seen. Faces are turned, scaled,
mirrored, recoloured, made gray and dark, blurred by enlarging, and partly blanked.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from nanoemox.data.corpora.releases import family
from nanoemox.model.expression import COLOUR, ExpressionNet
from tools.corpora.facial_expressions import LABELS
from tools.mini.face import crop
from tools.mini.pictures import Settings, centre, fit, predict, to_pixels
from tools.small.data import photographs, split_of
from tools.small.expression import LABELS as OWN_LABELS

SETTINGS = Settings(epochs=10, size=64, side=112, rate=1.5e-3, mean=COLOUR, std=(1.0, 1.0, 1.0), erase=0.4)
LARGE = 6
"""Classes with enough held-out photographs for a recall."""


class Classifier(nn.Module):
    """The net and a last layer for our labels."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.net = ExpressionNet()
        self.net.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.")})
        self.head = nn.Linear(state["head.weight"].shape[1], len(LABELS))
        theirs = [{"disgusted": "disgust"}.get(name, name) for name in OWN_LABELS]
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            for row, label in enumerate(LABELS):
                if family(label) in theirs:
                    self.head.weight[row] = state["head.weight"][theirs.index(family(label))]
                    self.head.bias[row] = state["head.bias"][theirs.index(family(label))]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return class scores."""
        scores: Tensor = self.head(functional.dropout(self.net(pixels), 0.3, self.training))
        return scores


def crops(data_root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return crops uint8[N, 120, 120, 3], classes, and whether each is held out."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    cuts, labels, held = [], [], []
    for path, label in photographs(data_root):
        picture = cv2.cvtColor(cv2.imread(str(data_root / path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        cuts.append(crop(picture, cascade)[0])
        labels.append(LABELS.index(label))
        held.append(split_of(Path(path).name) == "validation")
    return np.stack(cuts), np.array(labels), np.array(held)


@torch.no_grad()
def vectors(net: ExpressionNet, pictures: np.ndarray) -> np.ndarray:
    """Return float32[N, 256]."""
    net.eval()
    parts = [net(centre(to_pixels(pictures[i : i + 64]), SETTINGS)) for i in range(0, len(pictures), 64)]
    return torch.cat(parts).numpy()


def recalls(guess: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return recall of each class, accuracy, and the mean recall of the large classes."""
    counts = np.bincount(truth, minlength=len(LABELS))
    large = sorted(np.argsort(-counts)[:LARGE].tolist())
    by = {c: float((guess[truth == c] == c).mean()) for c in range(len(LABELS)) if counts[c]}
    found = {LABELS[c]: round(r, 3) for c, r in by.items()}
    return found | {"accuracy": float((guess == truth).mean()), "large_uar": float(np.mean([by[c] for c in large]))}


def probe(net: ExpressionNet, pictures: np.ndarray, labels: np.ndarray, held: np.ndarray) -> dict[str, float]:
    """Fit a linear model on the training people's vectors and measure it on the others."""
    x = vectors(net, pictures)
    scaler = StandardScaler().fit(x[~held])
    model = LogisticRegression(C=0.03, max_iter=500, class_weight="balanced").fit(
        scaler.transform(x[~held]), labels[~held]
    )
    return recalls(model.predict(scaler.transform(x[held])), labels[held])


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("data-root", "start", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=SETTINGS.epochs)
    args = parser.parse_args()
    torch.manual_seed(7)
    started = time.time()
    pictures, labels, held = crops(args.data_root)
    print(f"{len(labels)} photographs, {held.sum()} held out, {time.time() - started:.0f} s", flush=True)
    model = Classifier(load_file(args.start))
    found: dict[str, object] = {"before, linear probe": probe(model.net, pictures, labels, held)}
    print(json.dumps(found), flush=True)
    counts = np.bincount(labels[~held], minlength=len(LABELS))
    weights = np.minimum(1.0, (200 / counts) ** 0.6)[labels[~held]]
    settings = Settings(**{f: getattr(SETTINGS, f) for f in SETTINGS.__slots__} | {"epochs": args.epochs})
    fit(model, pictures[~held], labels[~held], weights, settings, 7)
    found["after, own head"] = recalls(predict(model, pictures[held], settings).argmax(-1), labels[held])
    found["after, linear probe"] = probe(model.net, pictures, labels, held)
    found["seconds"] = round(time.time() - started)
    print(json.dumps(found), flush=True)
    save_file({k: v.contiguous() for k, v in model.net.state_dict().items()}, args.out, metadata={"format": "pt"})
    args.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
