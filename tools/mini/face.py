"""Stage 0, face: a four-stage convolutional backbone with its multi-scale fuse, trained on face photographs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoBackbone, BitConfig

from nanoemox.faces.tracks import ENLARGE, crop_faces
from nanoemox.types import FaceTrack
from tools.mini.data import EXPRESSIONS, actor_faces, arguments, is_validation, photographs, say, score, write_metrics
from tools.mini.pictures import Settings, fit, predict

MARGIN = 1.25
"""Crops are kept with this margin, so that augmentation can shift and shrink without leaving the picture."""
STORED = 120
FUSE = 128
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def backbone_config() -> BitConfig:
    """Return the backbone: group norm, so that it behaves alike in training, alone and in a batch."""
    return BitConfig(
        embedding_size=32, hidden_sizes=[96, 160, 256, 320], depths=[1, 2, 2, 1], layer_type="preactivation",
        num_groups=8, hidden_act="relu", out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip


class FaceNet(nn.Module):
    """Backbone, projections and fuse as in ``nanoemox.model.branches.face``, and the head of stage 0."""

    def __init__(self, config: BitConfig, width: int) -> None:
        """Build everything from the backbone's configuration."""
        super().__init__()
        self.backbone = AutoBackbone.from_config(config)
        self.projections = nn.ModuleList(nn.Linear(c, width) for c in self.backbone.channels)
        self.fuse = nn.Conv2d(len(self.projections) * width, width, 1, bias=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Dropout(0.3), nn.Linear(width, len(EXPRESSIONS)))

    def vector(self, pixels: Tensor) -> Tensor:
        """Return float32[B, C], one vector for each face."""
        maps = self.backbone(pixels).feature_maps
        size = maps[0].shape[-2:]
        rows = []
        for project, x in zip(self.projections, maps, strict=True):
            y = project(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            rows.append(functional.interpolate(y, size=size, mode="bilinear", align_corners=False))
        return self.fuse(torch.cat(rows[::-1], 1)).mean((-2, -1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float32[B, classes] logits."""
        return self.head(self.vector(pixels))


def crop(picture: np.ndarray, cascade: cv2.CascadeClassifier) -> tuple[np.ndarray, bool]:
    """Cut the face with a margin as uint8[120, 120, 3]; without a face the whole picture. Says if one was found.

    One frontal look is enough here and ten times faster than ``find_faces``, whose boxes it imitates.
    """
    height, width = picture.shape[:2]
    shrink = 160 / max(height, width)
    gray = cv2.cvtColor(cv2.resize(picture, None, fx=shrink, fy=shrink), cv2.COLOR_RGB2GRAY)
    boxes = cascade.detectMultiScale(gray, 1.15, 4, minSize=(48, 48))
    if len(boxes):
        x, y, w, h = max(boxes, key=lambda b: b[2] * b[3]) / shrink
        middle, half = np.array([x + w / 2, y + h / 2]), max(w, h) / 2 * ENLARGE
    else:
        middle, half = np.array([width / 2, height / 2]), max(height, width) / 2
    box = np.concatenate([middle - half * MARGIN, middle + half * MARGIN])[None].astype(np.float32)
    return crop_faces(picture[None], FaceTrack(box, np.array([len(boxes) > 0])), STORED)[0], len(boxes) > 0


def photo_crops(data_root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return crops uint8[N, 120, 120, 3], classes, whether held out, and whether a face was found."""
    items = photographs(data_root)
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = [crop(cv2.cvtColor(cv2.imread(str(p), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), cascade) for p, _ in items]
    held = np.array([is_validation(p.name) for p, _ in items])
    return np.stack([c for c, _ in found]), np.array([y for _, y in items]), held, np.array([f for _, f in found])


def actor_crops(data_root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the audiovisual corpus' crops in the same form: uint8[1040, 120, 120, 3] and classes."""
    frames, labels = actor_faces(data_root)
    out = []
    for frame in frames.reshape(-1, 112, 112):
        padded = cv2.copyMakeBorder(frame, 14, 14, 14, 14, cv2.BORDER_REPLICATE)
        out.append(cv2.cvtColor(cv2.resize(padded, (STORED, STORED), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2RGB))
    return np.stack(out), labels.repeat(frames.shape[1])


def unit_variance(model: FaceNet, pictures: np.ndarray, settings: Settings) -> float:
    """Scale the fuse so that frame vectors vary by about one: the head ignores their size, an adapter does not.

    The shipped weights were divided by 26.687, measured on the crops that the feature cache holds.
    """
    head, model.head = model.head, nn.Identity()
    spread = float(predict(model, pictures, settings).std(0).mean())
    model.head = head
    with torch.no_grad():
        model.fuse.weight /= spread
    return spread


def main() -> None:
    """Train, measure and save."""
    args = arguments(__doc__ or "").parse_args()
    torch.manual_seed(args.seed)
    started = time.time()
    photos, labels, held, found = photo_crops(args.data_root)
    frames, frame_labels = actor_crops(args.data_root)
    say(f"{(~held).sum()} + {held.sum()} photos, face found in {found.mean():.2f}, {time.time() - started:.0f} s")
    settings = Settings(args.epochs or 70, 48, 96, 2e-3, *IMAGENET)
    model = FaceNet(backbone_config(), FUSE)
    pictures = np.concatenate([photos[~held], frames])
    y = np.concatenate([labels[~held], frame_labels])
    weights = np.concatenate([np.ones((~held).sum()), np.full(len(frames), 0.15)])
    fit(model, pictures, y, weights, settings, args.seed, (photos[held], labels[held]))
    spread = unit_variance(model, photos[~held], settings)
    logits = predict(model, photos[held], settings)
    encoder = {k: v.contiguous() for k, v in model.state_dict().items() if not k.startswith("head.")}
    metrics = {
        "seed": args.seed,
        "train_photos": int((~held).sum()),
        "train_actor_frames": len(frames),
        "face_found": float(found.mean()),
        "validation": score(logits.argmax(-1), labels[held]),
        "validation_face_found": score(logits[found[held]].argmax(-1), labels[held & found]),
        "train": score(predict(model, photos[~held], settings).argmax(-1), labels[~held]),
        "actor_frames": score(predict(model, frames, settings).argmax(-1), frame_labels),
        "parameters": sum(v.numel() for v in encoder.values()),
        "seconds": round(time.time() - started),
        "classes": list(EXPRESSIONS),
        "image_size": settings.side,
        "fuse_size": FUSE,
        "divided_by": spread,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(encoder, args.out / "model.safetensors", metadata={"format": "pt"})
    backbone_config().save_pretrained(args.out)
    (args.out / "fuse.json").write_text(json.dumps({"fuse_size": FUSE, "image_size": settings.side}) + "\n")
    write_metrics(args.out, metrics)
    say(str(metrics))


if __name__ == "__main__":
    main()
