"""Stage 0, speech: a small Whisper-like encoder trained to tell eight emotions from 2-second windows."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy.signal import resample_poly
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from tools.mini.data import (
    EMOTIONS,
    Averaged,
    Utterance,
    arguments,
    batches,
    decay_groups,
    read_waveform,
    say,
    schedule,
    score,
    utterances,
    write_metrics,
)

FRAMES = 200  # two seconds of 10 ms
WINDOWS = 8
RATE = 1e-3
LN10 = float(np.log(10.0))
SPEEDS = ((10, 9), (1, 1), (10, 11))  # up, down: 0.9, 1.0 and 1.1 times as fast

Part = tuple[list[list[np.ndarray]], np.ndarray]
"""Log mels of whole clips, one for each speed, and their classes."""


def extractor() -> WhisperFeatureExtractor:
    """Return the feature extractor that is saved beside the encoder."""
    return WhisperFeatureExtractor(feature_size=80, sampling_rate=16_000, chunk_length=2, n_fft=400, hop_length=160)


def log_mel(waveform: np.ndarray, filters: torch.Tensor) -> np.ndarray:
    """Return float16[80, F], log10 mel power of a whole clip before the extractor's clamp."""
    stft = torch.stft(torch.from_numpy(waveform), 400, 160, window=torch.hann_window(400), return_complex=True)
    power = stft[:, :-1].abs() ** 2
    return torch.log10((filters.T @ power).clamp_min(1e-10)).half().numpy()


def normalise(mel: torch.Tensor) -> torch.Tensor:
    """Clamp and scale float32[..., 80, 200] as ``WhisperFeatureExtractor`` does with one window."""
    top = mel.amax((-2, -1), keepdim=True)
    return (torch.maximum(mel, top - 8.0) + 4.0) / 4.0


def cover(frames: int) -> np.ndarray:
    """Starts of the eight windows that evenly cover a clip of ``frames`` frames."""
    return np.linspace(0, max(0, frames - FRAMES), WINDOWS).round().astype(int)


def window(mel: np.ndarray, start: int) -> np.ndarray:
    """Cut one window, filled up with silence where the clip is shorter."""
    part = mel[:, start : start + FRAMES]
    return np.pad(part, ((0, 0), (0, FRAMES - part.shape[1])), constant_values=-10.0)


def augment(mel: torch.Tensor, grain: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Change level, tilt, noise and mask blocks of float32[B, 80, 200] log10 mel power, in place.

    Mild on purpose: stronger changes from the start kept the encoder from learning anything for many epochs.
    ``grain`` is float32[80, G], the log10 power of white noise from which stretches are drawn.
    """
    b = len(mel)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, (b, 1, 1)).astype(np.float32))

    slope = torch.linspace(-1, 1, 80)[None, :, None]
    level = uniform(-0.15, 0.15)  # bels
    mel += level + uniform(-0.1, 0.1) * slope
    for i in np.flatnonzero(rng.random(b) < 0.15):
        start = int(rng.integers(grain.shape[1] - FRAMES))
        height = float(mel[i].max()) - rng.uniform(5.0, 8.0) + rng.uniform(-1, 1) * slope[0]
        noise = grain[:, start : start + FRAMES] + height
        mel[i] = (mel[i].mul(LN10).exp_() + noise.mul_(LN10).exp_()).log_().div_(LN10)
    mel = normalise(mel)
    floor = mel.amin((1, 2))
    for i in range(b):
        for _ in range(int(rng.integers(3))):
            start, width = int(rng.integers(FRAMES)), int(rng.integers(20))
            mel[i, :, start : start + width] = floor[i]
            start, width = int(rng.integers(80)), int(rng.integers(9))
            mel[i, start : start + width] = floor[i]
    return mel


@torch.no_grad()
def start_from(encoder: WhisperEncoder, mels: list[list[np.ndarray]]) -> None:
    """Fold the mean and spread of each mel band into the first convolution, so that training starts standardised."""
    stack = np.stack([window(m[1], start) for m in mels[::4] for start in (50, 100)]).astype(np.float32)
    sample = normalise(torch.from_numpy(stack))
    mean, spread = sample.mean((0, 2)), sample.std((0, 2))
    for conv in (encoder.conv1, encoder.conv2):
        fan_in = conv.weight[0].numel()
        conv.weight.copy_(torch.randn(conv.weight.shape) * (1.4 / fan_in**0.5))
    first = encoder.conv1
    first.weight.div_(spread[None, :, None])
    first.bias.sub_((first.weight * mean[None, :, None]).sum((1, 2)))


class Classifier(nn.Module):
    """The encoder and the heads that train it: one on its output, one on every later layer that may be tapped."""

    @torch.no_grad()
    def __init__(self, config: WhisperConfig) -> None:
        """Build everything from ``config``."""
        super().__init__()
        self.encoder = WhisperEncoder(config)
        self.encoder.embed_positions.weight.mul_(0.3)  # else positions drown what was heard at first
        width, layers = config.d_model, config.encoder_layers
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.heads = nn.ModuleList(nn.Linear(width, len(EMOTIONS)) for _ in range(layers))
        self.dropout = nn.Dropout(0.3)

    def pooled(self, mel: torch.Tensor) -> torch.Tensor:
        """Return float32[B, L, D]: time means of the layers' outputs, the first layer first."""
        states = self.encoder(mel, output_hidden_states=True).hidden_states[1:]
        return torch.stack([s.float().mean(1) for s in states], 1)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Return float32[B, L, classes] logits of every head."""
        pooled = self.pooled(mel)
        parts = zip(self.norms, self.heads, pooled.unbind(1), strict=True)
        return torch.stack([head(self.dropout(norm(x))) for norm, head, x in parts], 1)


def cache(items: list[Utterance], speeds: tuple[tuple[int, int], ...]) -> list[list[np.ndarray]]:
    """Compute whole-clip log mels once: a list of speeds for each utterance."""
    filters = torch.from_numpy(extractor().mel_filters).float()
    out = []
    for item in items:
        wave = read_waveform(item.path)
        changed = (wave if up == down else resample_poly(wave, up, down).astype(np.float32) for up, down in speeds)
        out.append([log_mel(w, filters) for w in changed])
    return out


@torch.no_grad()
def clip_features(model: Classifier, mels: list[list[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return float32[N, L, D] features and float32[N, classes] log-probabilities, means over the cover grid."""
    model.eval()
    features, logits = [], []
    for start in range(0, len(mels), 16):
        part = [m[len(m) // 2] for m in mels[start : start + 16]]
        stack = np.stack([window(m, s) for m in part for s in cover(m.shape[1])]).astype(np.float32)
        pooled = model.pooled(normalise(torch.from_numpy(stack))).unflatten(0, (len(part), WINDOWS)).mean(1)
        heads = zip(model.norms, model.heads, pooled.unbind(1), strict=True)
        per_layer = torch.stack([head(norm(x)) for norm, head, x in heads], 1)
        features.append(pooled.numpy())
        logits.append(per_layer.log_softmax(-1)[:, -2:].mean(1).numpy())
    return np.concatenate(features), np.concatenate(logits)


def train(model: Classifier, part: Part, held: Part, epochs: int, seed: int) -> None:
    """Train in place and leave the averaged weights in ``model``; ``held`` is only printed."""
    mels, labels = part
    rng = np.random.default_rng(seed)
    grain = torch.from_numpy(np.log10(rng.exponential(size=(80, 20_000)).clip(1e-3)).astype(np.float32))
    size = 32  # one window of every clip makes an epoch
    steps = epochs * (len(mels) // size)
    optimiser = torch.optim.AdamW(decay_groups(model, 0.1), lr=RATE, betas=(0.9, 0.98))
    mean = Averaged(model, 0.995)
    step, started = 0, time.time()
    for epoch in range(epochs):
        model.train()
        seen = right = total = 0.0
        for index in batches(len(mels), size, rng):
            picked = [mels[i][rng.integers(len(SPEEDS))] for i in index]
            stack = [window(m, int(rng.integers(max(1, m.shape[1] - FRAMES + 1)))) for m in picked]
            x = augment(torch.from_numpy(np.stack(stack).astype(np.float32)), grain, rng)
            y = torch.from_numpy(np.eye(len(EMOTIONS), dtype=np.float32)[labels[index]])
            share = float(rng.beta(0.2, 0.2)) if rng.random() < 0.15 else 1.0
            share, other = max(share, 1 - share), torch.from_numpy(rng.permutation(size))
            x, target = share * x + (1 - share) * x[other], share * y + (1 - share) * y[other]
            target = 0.9 * target + 0.1 / len(EMOTIONS)
            for group in optimiser.param_groups:
                group["lr"] = RATE * schedule(step, steps, 60)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(x)
            losses = -(target[:, None] * logits.float().log_softmax(-1)).sum(-1).mean(0)
            loss = losses.sum()  # early heads teach early layers, which halves the time to learn
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            mean.update()
            step += 1
            seen, total = seen + size, total + float(losses[-1].detach()) * size
            right += float((logits[:, -1].argmax(-1) == y.argmax(-1)).sum())
        line = f"epoch {epoch + 1}/{epochs} loss {total / seen:.3f} train {right / seen:.3f}"
        say(f"{line} {time.time() - started:.0f} s")
        if (epoch + 1) % 8 == 0:
            check(model, mean, held)
    mean.install()


def check(model: Classifier, mean: Averaged, held: Part) -> None:
    """Print the validation accuracy of the averaged weights (read only: no epoch is chosen by it)."""
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    mean.install()
    _, logits = clip_features(model, held[0])
    say(f"  validation {float((logits.argmax(-1) == held[1]).mean()):.3f}")
    model.load_state_dict(kept)


def main() -> None:
    """Train, measure and save."""
    args = arguments(__doc__ or "").parse_args()
    torch.manual_seed(args.seed)
    started = time.time()
    training, validation = utterances(args.data_root, "train"), utterances(args.data_root, "validation")
    mels, held = cache(training, SPEEDS), cache(validation, ((1, 1),))
    y, y_held = np.array([i.label for i in training]), np.array([i.label for i in validation])
    wave = read_waveform(training[0].path)
    reference = extractor()(wave[16_000:48_000], sampling_rate=16_000, return_tensors="pt").input_features[0]
    ours = normalise(torch.from_numpy(window(mels[0][1], 100).astype(np.float32)))
    say(f"log mel: largest difference from the extractor {(ours - reference)[:, 2:-2].abs().max():.4f}")
    say(f"{len(training)} + {len(validation)} clips, features after {time.time() - started:.0f} s")
    config = WhisperConfig(
        vocab_size=8, pad_token_id=0, bos_token_id=1, eos_token_id=1, decoder_start_token_id=1,
        suppress_tokens=None, begin_suppress_tokens=None,
        num_mel_bins=80, d_model=128, encoder_layers=4, encoder_attention_heads=4, encoder_ffn_dim=512,
        decoder_layers=0, decoder_attention_heads=4, decoder_ffn_dim=512, max_source_positions=FRAMES // 2,
        dropout=0.1, init_std=0.07, attn_implementation="eager",  # faster than sdpa at this size
    )  # fmt: skip
    model = Classifier(config)
    start_from(model.encoder, mels)
    train(model, (mels, y), (held, y_held), args.epochs or 64, args.seed)
    report(model, (mels, y), (held, y_held), args, started)


def report(model: Classifier, training: Part, validation: Part, args: argparse.Namespace, started: float) -> None:
    """Probe every layer, save the encoder, its extractor and the numbers."""
    out: Path = args.out
    f_train, p_train = clip_features(model, training[0])
    f_held, p_held = clip_features(model, validation[0])
    layers = range(f_train.shape[1])
    sets = {f"{i + 1}": [i] for i in layers}
    sets |= {"mean of 3-4": [2, 3], "mean of 2-4": [1, 2, 3], "mean of all": list(layers)}
    probes = {}
    for name, chosen in sets.items():
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        probe.fit(f_train[:, chosen].mean(1), training[1])
        probes[name] = {
            "train": float(probe.score(f_train[:, chosen].mean(1), training[1])),
            "validation": float(probe.score(f_held[:, chosen].mean(1), validation[1])),
        }
    metrics = {
        "seed": args.seed,
        "train_clips": len(training[1]),
        "validation": score(p_held.argmax(-1), validation[1]),
        "train": score(p_train.argmax(-1), training[1]),
        "probes_by_hidden_state": probes,
        "parameters": sum(p.numel() for p in model.encoder.parameters()),
        "seconds": round(time.time() - started),
        "classes": list(EMOTIONS),
    }
    out.mkdir(parents=True, exist_ok=True)
    model.encoder.config.dropout = 0.0  # frozen from here on
    model.encoder.save_pretrained(out)
    extractor().save_pretrained(out)
    write_metrics(out, metrics)
    say(str(metrics))


if __name__ == "__main__":
    main()
