"""Stage 0, vision: a tiny CLIP-like vision tower trained on whole photographs of expressions."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from tools.mini.data import EXPRESSIONS, actor_faces, arguments, is_validation, photographs, say, score, write_metrics
from tools.mini.pictures import Settings, fit, predict

STORED = 80
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
FRAMES_EACH = (2, 6, 10, 14, 18)
"""Which of the twenty frames of an audiovisual clip are shown."""


def squash(picture: np.ndarray) -> np.ndarray:
    """Bring a whole picture to uint8[80, 80, 3], its edge repeated over an eighth: 64 px are the picture."""
    small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(small, 8, 8, 8, 8, cv2.BORDER_REPLICATE)


def pictures_of(data_root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return photographs uint8[N, 80, 80, 3], classes, and whether each is held out."""
    items = photographs(data_root)
    read = (cv2.cvtColor(cv2.imread(str(p), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB) for p, _ in items)
    held = np.array([is_validation(p.name) for p, _ in items])
    return np.stack([squash(p) for p in read]), np.array([y for _, y in items]), held


def actor_pictures(data_root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return frames of the audiovisual clips in the same form."""
    frames, labels = actor_faces(data_root)
    frames = frames[:, FRAMES_EACH]
    out = [squash(cv2.cvtColor(f, cv2.COLOR_GRAY2RGB)) for f in frames.reshape(-1, 112, 112)]
    return np.stack(out), labels.repeat(len(FRAMES_EACH))


class Classifier(nn.Module):
    """The tower and the heads that train it: on its last class state and on the one before."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        """Build everything from ``config``."""
        super().__init__()
        self.tower = CLIPVisionModel(config)
        width = config.hidden_size
        self.norms = nn.ModuleList(nn.LayerNorm(2 * width) for _ in range(2))
        self.heads = nn.ModuleList(nn.Linear(2 * width, len(EXPRESSIONS)) for _ in range(2))
        self.dropout = nn.Dropout(0.2)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float32[B, classes] logits, the mean of both heads: class token beside the mean of the patches."""
        states = self.tower(pixels, output_hidden_states=True).hidden_states[-2:]
        rows = []
        for state, norm, head in zip(states, self.norms, self.heads, strict=True):
            both = torch.cat([state[:, 0], state[:, 1:].mean(1)], -1)
            rows.append(head(self.dropout(norm(both))))
        return torch.stack(rows).mean(0)


def main() -> None:
    """Train, measure and save."""
    args = arguments(__doc__ or "").parse_args()
    torch.manual_seed(args.seed)
    started = time.time()
    photos, labels, held = pictures_of(args.data_root)
    frames, frame_labels = actor_pictures(args.data_root)
    say(f"{(~held).sum()} + {held.sum()} photos, {len(frames)} frames, {time.time() - started:.0f} s")
    settings = Settings(args.epochs or 120, 64, 64, 1e-3, *CLIP, erase=0.3)
    config = CLIPVisionConfig(
        hidden_size=96, intermediate_size=256, num_hidden_layers=5, num_attention_heads=4, image_size=64,
        patch_size=8, projection_dim=96, attention_dropout=0.0,
    )  # fmt: skip
    model = Classifier(config)
    pictures, y = np.concatenate([photos[~held], frames]), np.concatenate([labels[~held], frame_labels])
    weights = np.concatenate([np.ones((~held).sum()), np.full(len(frames), 0.4)])
    fit(model, pictures, y, weights, settings, args.seed, (photos[held], labels[held]))
    metrics = {
        "seed": args.seed,
        "train_photos": int((~held).sum()),
        "train_actor_frames": len(frames),
        "validation": score(predict(model, photos[held], settings).argmax(-1), labels[held]),
        "train": score(predict(model, photos[~held], settings).argmax(-1), labels[~held]),
        "parameters": sum(p.numel() for p in model.tower.parameters()),
        "seconds": round(time.time() - started),
        "classes": list(EXPRESSIONS),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    model.tower.save_pretrained(args.out)
    write_metrics(args.out, metrics)
    say(str(metrics))


if __name__ == "__main__":
    main()
