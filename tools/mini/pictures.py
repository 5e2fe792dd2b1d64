"""What the two picture encoders of stage 0 share: augmentation and the training loop."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tools.mini.data import Averaged, decay_groups, say, schedule


@dataclass(frozen=True, slots=True)
class Settings:
    """How a picture encoder is trained.

    Attributes:
        epochs: Passes over the photographs.
        size: Batch size.
        side: Side in pixels that the encoder reads.
        rate: Highest learning rate.
        mean, std: Statistics that pixels in 0..1 are normalised with.
        erase: Chance that a block of the picture is blanked.
    """

    epochs: int
    size: int
    side: int
    rate: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    erase: float = 0.5


def normalise(pixels: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Turn pixels 0..1 into what the encoder reads."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (settings.mean, settings.std))
    return (pixels - mean) / std


def augment(pixels: torch.Tensor, settings: Settings, rng: np.random.Generator) -> torch.Tensor:
    """Turn, shift, scale, mirror, recolour and blank float32[B, 3, S, S] in 0..1; gives the encoder's side."""
    b = len(pixels)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, b).astype(np.float32))

    # The pictures carry a margin of a quarter around what is seen at inference: scale 0.8 shows exactly that.
    scale, turn, mirror = uniform(0.6, 0.95), uniform(-0.3, 0.3), torch.from_numpy(rng.choice([-1.0, 1.0], b)).float()
    stretch = uniform(0.9, 1.1)
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * scale * stretch * turn.cos(), -scale * turn.sin()
    theta[:, 1, 0], theta[:, 1, 1] = mirror * scale * turn.sin(), scale / stretch * turn.cos()
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-0.12, 0.12), uniform(-0.12, 0.12)
    grid = functional.affine_grid(theta, [b, 3, settings.side, settings.side], align_corners=False)
    out = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    gray = out.mean(1, keepdim=True).expand_as(out)
    saturation = torch.where(uniform(0, 1) < 0.4, torch.zeros(b), uniform(0.6, 1.3))[:, None, None, None]
    out = gray + (out - gray) * saturation
    middle = out.mean((1, 2, 3), keepdim=True)
    contrast, light, gamma = (uniform(*r)[:, None, None, None] for r in ((0.6, 1.4), (-0.15, 0.15), (0.7, 1.4)))
    out = ((out - middle) * contrast + middle + light).clamp(0.004, 1) ** gamma
    for i in np.flatnonzero(rng.random(b) < settings.erase):
        h, w = rng.integers(settings.side // 8, settings.side // 3, 2)
        top, left = rng.integers(settings.side - h), rng.integers(settings.side - w)
        out[i, :, top : top + h, left : left + w] = float(rng.random())
    return normalise(out, settings)


def centre(pixels: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Cut the margin off and bring float32[B, 3, S, S] to the encoder's side, as at inference."""
    theta = torch.tensor([[0.8, 0, 0], [0, 0.8, 0]]).expand(len(pixels), 2, 3)
    grid = functional.affine_grid(theta, [len(pixels), 3, settings.side, settings.side], align_corners=False)
    return normalise(functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False), settings)


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """Turn uint8[B, S, S, 3] into float32[B, 3, S, S] in 0..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def predict(model: nn.Module, pictures: np.ndarray, settings: Settings) -> np.ndarray:
    """Return float32[N, classes] log-probabilities."""
    model.eval()
    parts = [model(centre(to_pixels(pictures[i : i + 64]), settings)) for i in range(0, len(pictures), 64)]
    return torch.cat(parts).log_softmax(-1).numpy()


def fit(
    model: nn.Module, pictures: np.ndarray, labels: np.ndarray, weights: np.ndarray, settings: Settings, seed: int,
    check: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:  # fmt: skip
    """Train in place and leave the averaged weights in ``model``.

    ``weights`` is how often each picture is seen in an epoch on average; ``check`` is only printed.
    """
    rng = np.random.default_rng(seed)
    steps_each = int(weights.sum()) // settings.size
    optimiser = torch.optim.AdamW(decay_groups(model, 0.05), lr=settings.rate)
    mean, step, started = Averaged(model, 0.99), 0, time.time()
    for epoch in range(settings.epochs):
        model.train()
        total = 0.0
        order = np.flatnonzero(rng.random(len(labels)) < weights)
        order = rng.permutation(order)
        for index in np.array_split(order, max(1, steps_each)):
            x = augment(to_pixels(pictures[index]), settings, rng)
            y = functional.one_hot(torch.from_numpy(labels[index]), 8).float()
            share = float(rng.beta(0.3, 0.3)) if rng.random() < 0.5 else 1.0
            other = torch.from_numpy(rng.permutation(len(index)))
            x, y = share * x + (1 - share) * x[other], share * y + (1 - share) * y[other]
            for group in optimiser.param_groups:
                group["lr"] = settings.rate * schedule(step, settings.epochs * steps_each, 40)
            loss = -((0.9 * y + 0.0125) * model(x).log_softmax(-1)).sum(-1).mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            mean.update()
            step += 1
            total += float(loss.detach())
        line = f"epoch {epoch + 1}/{settings.epochs} loss {total / steps_each:.3f} {time.time() - started:.0f} s"
        if check is not None and (epoch + 1) % 10 == 0:
            right = predict(model, check[0], settings).argmax(-1) == check[1]
            line += f" validation (running weights) {right.mean():.3f}"
        say(line)
    mean.install()
