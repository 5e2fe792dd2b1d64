"""Phases 1a, 1b and 2 without the language model: teach adapters and fusion the words of what they hear and see.

    python -m tools.small.align --data-root ROOT --base BASE --features FEATURES --out OUT

A token that an adapter hands to the language model lies where its word embeddings lie. So the mean of a branch's tokens
is trained to point to the embedding of its label's word ("angry", "happy") and away from the others. That takes a
minute, where the same through thirty frozen layers takes hours on two cores, and the language model then meets media
tokens that resemble words it knows. Features are standardised first and the standardisation is folded into the
adapter, so that no further state is kept.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nanoemox.data.corpora.releases import family
from nanoemox.data.features.cache import CacheOptions, FeatureCache, fingerprint
from nanoemox.data.features.fill import Filler
from nanoemox.data.features.shards import Shards
from nanoemox.data.manifest import Sample, read_manifest
from nanoemox.model.expression import COLOUR
from nanoemox.model.images import fit_square
from nanoemox.model.images import normalise as rescaled
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from tools.mini.data import decay_groups, schedule, score
from tools.mini.face import crop
from tools.mini.pictures import Settings, augment, centre, to_pixels
from tools.small.voices import FIRST_HALF

WORDS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised", "contempt")
SHARPNESS = 12.0
MOST = 450
"""Photographs of one class and split."""


@dataclass(slots=True)
class Part:
    """Features of one split: name -> tensor, the classes, and the rows' names."""

    media: dict[str, Tensor]
    labels: Tensor


def label_directions(model: NanoEmoXForConditionalGeneration, processor: NanoEmoXProcessor) -> Tensor:
    """Return float32[words, H]: unit vectors from the common mean to the embedding of each word."""
    embed = model.get_input_embeddings().weight.detach()
    rows = torch.stack([embed[processor._ids(f" {w}")].mean(0) for w in WORDS])
    return functional.normalize(rows - rows.mean(0), dim=-1)


def gather(cache: FeatureCache, samples: Sequence[Sample], keys: Sequence[str]) -> Part:
    """Stack the cached features that all of ``keys`` are there for."""
    found: dict[str, list[Tensor]] = {k: [] for k in keys}
    labels = []
    for sample in samples:
        if not cache.usable(sample):
            continue
        media = cache.media(sample)
        if any(k not in media for k in keys):
            continue
        for k in keys:
            found[k].append(media[k].float())
        labels.append(WORDS.index(family(sample.labels.label)))  # type: ignore[union-attr]
    return Part({k: torch.stack(v) for k, v in found.items()}, torch.tensor(labels))


def present(
    samples: Sequence[Sample],
    model: NanoEmoXForConditionalGeneration,
    processor: NanoEmoXProcessor,
    folder: Path,
    options: CacheOptions,
) -> FeatureCache:
    """Open a cache without adding to it; files that it lacks count as bad."""
    place = folder / fingerprint(model, processor, options.dtype)
    filler = Filler(Shards(place), model, processor, options)
    filler._find_keys(list(dict.fromkeys(s.media for s in samples if s.media)))
    bad = {f: "not encoded yet" for f, key in filler.keys.items() if key not in filler.shards}
    print(f"{len(filler.keys) - len(bad)} of {len(filler.keys)} files are there", flush=True)
    return FeatureCache(place, options.root, filler.shards, model.config, filler.keys, filler.bad | bad)


@torch.no_grad()
def pictures(
    data_root: Path, samples: Sequence[Sample], model: NanoEmoXForConditionalGeneration, copies: int, seed: int
) -> tuple[Part, Part]:
    """Encode photographs of the training and the validation part, the first also ``copies`` times augmented.

    One frontal look finds the face, ten times faster than the tracker of clips, whose boxes it imitates. The large
    classes are cut to ``MOST``.
    """
    rng, config = np.random.default_rng(seed), model.config
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    face = Settings(0, 64, config.face.image_size, 0.0, COLOUR, (1.0, 1.0, 1.0))
    count: Counter[tuple[str, int]] = Counter()
    rows: dict[str, list[tuple[np.ndarray, Tensor, int]]] = {"train": [], "validation": []}
    for sample in samples:
        label = WORDS.index(family(sample.labels.label))  # type: ignore[union-attr]
        count[sample.split, label] += 1
        if count[sample.split, label] > MOST:
            continue
        picture = cv2.cvtColor(cv2.imread(str(data_root / str(sample.media)), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        cut, _ = crop(picture, cascade)
        whole = fit_square(picture[None], config.vision.encoder.image_size, config.vision.fit)
        scene = rescaled(whole, config.vision.image_mean, config.vision.image_std)[0]
        rows[sample.split].append((cut, scene, label))
    parts = []
    for split, of in rows.items():
        cuts = to_pixels(np.stack([c for c, _, _ in of]))
        scenes, labels = torch.stack([s for _, s, _ in of]), torch.tensor([y for _, _, y in of])
        looks = [centre(cuts, face)] + [augment(cuts, face, rng) for _ in range(copies if split == "train" else 0)]
        vectors = [model.face_encoder(x[:, None]) for look in looks for x in look.split(64)]
        seen = [model.vision_encoder(x[:, None]) for x in scenes.split(64)]
        frames, times = config.vision.num_frames, len(looks)
        media = {
            "face_vectors": torch.cat(vectors).expand(-1, frames, -1),
            "vision_last": torch.cat([v.last for v in seen]).repeat(times, 1, 1).expand(-1, frames, -1),
            "vision_levels": torch.cat([v.levels for v in seen]).repeat(times, 1, 1, 1).expand(-1, -1, frames, -1),
        }
        parts.append(Part(media, labels.repeat(times)))
    return parts[0], parts[1]


def fold(adapter: nn.Module, features: Tensor) -> None:
    """Write the standardisation of ``features`` [N, T, D] into the adapter's keys, values and positions."""
    deviation, mean = torch.std_mean(features.flatten(0, 1), dim=0)
    deviation = deviation.clamp_min(1e-3)
    with torch.no_grad():
        adapter.positions.weight *= deviation  # type: ignore[union-attr, operator]
        for layer in adapter.qformer.layers:  # type: ignore[union-attr]
            for linear in (layer.cross_attention.key, layer.cross_attention.value):
                linear.weight /= deviation
                linear.bias -= linear.weight @ mean


def unfold(adapter: nn.Module, features: Tensor) -> None:
    """Rewrite the adapter for standardised ``features``, with the same outcome: what :func:`fold` does, backwards."""
    deviation, mean = torch.std_mean(features.flatten(0, 1), dim=0)
    deviation = deviation.clamp_min(1e-3)
    with torch.no_grad():
        adapter.positions.weight /= deviation  # type: ignore[union-attr, operator]
        for layer in adapter.qformer.layers:  # type: ignore[union-attr]
            for linear in (layer.cross_attention.key, layer.cross_attention.value):
                linear.bias += linear.weight @ mean
                linear.weight *= deviation


def standardised(parts: Sequence[Part], key: str) -> None:
    """Standardise one feature of all parts by the statistics of the first."""
    deviation, mean = torch.std_mean(parts[0].media[key].flatten(0, 1), dim=0)
    for part in parts:
        part.media[key] = (part.media[key] - mean) / deviation.clamp_min(1e-3)


def train(
    module: nn.Module,
    tokens: Callable[[dict[str, Tensor]], Tensor],
    parts: tuple[Part, Part],
    directions: Tensor,
    steps: int,
    rate: float,
    noise: float,
    classes: Sequence[int],
    seed: int,
) -> dict:
    """Train a module so that the mean of its tokens points to the right word; return the held-out score."""
    training, held = parts
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(decay_groups(module, 0.1), lr=rate)
    counts = torch.bincount(training.labels, minlength=len(WORDS)).float()
    odds = (1 / counts.clamp_min(1) ** 0.7)[training.labels].numpy().astype(np.float64)
    targets = directions[list(classes)]
    index_of = {c: i for i, c in enumerate(classes)}
    y_all = torch.tensor([index_of[int(c)] for c in training.labels])
    module.train()
    for step in range(steps):
        index = torch.from_numpy(rng.choice(len(y_all), 64, p=odds / odds.sum()))
        media = {k: v[index] for k, v in training.media.items()}
        media = {k: v + noise * torch.randn_like(v) * v.std() for k, v in media.items()}
        logits = SHARPNESS * functional.normalize(tokens(media).mean(1), dim=-1) @ targets.T
        loss = functional.cross_entropy(logits, y_all[index], label_smoothing=0.1)
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule(step, steps, 30)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
    module.eval()
    with torch.no_grad():
        guess = (tokens(held.media).mean(1) @ targets.T).argmax(-1).numpy()
        known = (tokens(training.media).mean(1) @ targets.T).argmax(-1)
    found = score(guess, np.array([index_of[int(c)] for c in held.labels]))
    return found | {"training_accuracy": float((known == y_all).float().mean())}


def rescale(projection: nn.Linear, tokens: Tensor, size: float) -> None:
    """Give the tokens the length of word embeddings: the language model was never shown longer ones."""
    with torch.no_grad():
        factor = size / tokens.flatten(0, 1).norm(dim=-1).mean()
        projection.weight *= factor
        projection.bias *= factor


def main() -> None:
    """Align and save the base with trained adapters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("data-root", "base", "features", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--only-cached", action="store_true", help="leave out what is not encoded yet")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--voice", choices=("half", "all"), help="train the voice alone, from where BASE has it")
    args = parser.parse_args()
    started = time.time()
    torch.manual_seed(args.seed)
    model = NanoEmoXForConditionalGeneration.from_pretrained(str(args.base), dtype=torch.float32)
    processor = NanoEmoXProcessor.from_pretrained(args.base)
    read = {n: read_manifest(args.data_root / "manifests" / f"{n}.jsonl") for n in ("ravdess", "facial_expressions")}
    asked = {n: [s for s in of if s.task == "mer"] for n, of in read.items()}
    options = CacheOptions(root=args.data_root, dtype=torch.float16, workers=1)
    if args.voice == "half":
        asked["ravdess"] = [s for s in asked["ravdess"] if s.split != "train" or s.speaker in FIRST_HALF]
    everything = asked["ravdess"]
    if args.only_cached:
        cache = present(everything, model, processor, args.features, options)
    else:
        cache = FeatureCache.open_or_build(everything, model, processor, args.features, options)
    print(f"features after {time.time() - started:.0f} s", flush=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    directions = label_directions(model, processor)
    size = float(model.get_input_embeddings().weight.detach().norm(dim=-1).mean())
    metrics: dict[str, dict] = {}

    if args.voice is not None:
        sides = [[s for s in everything if s.split == p] for p in ("train", "validation")]
        halves = (gather(cache, sides[0], ["speech_last"]), gather(cache, sides[1], ["speech_last"]))
        metrics["speech"] = align_voice(
            model, halves, directions, args.steps, size, args.seed, fresh=args.voice == "half"
        )
        save(model, processor, args.out, metrics)
        return
    faces = pictures(args.data_root, asked["facial_expressions"], model, 2, args.seed)
    print(f"{len(faces[0].labels)} + {len(faces[1].labels)} photographs, {time.time() - started:.0f} s", flush=True)

    def split(name: str, keys: Sequence[str]) -> tuple[Part, Part]:
        if name == "facial_expressions":
            return tuple(Part({k: p.media[k] for k in keys}, p.labels) for p in faces)  # type: ignore[return-value]
        parts = [gather(cache, [s for s in asked[name] if s.split == p], keys) for p in ("train", "validation")]
        return parts[0], parts[1]

    plan = (
        ("speech", "ravdess", "speech_last", range(8), args.steps, 1e-3, 0.3),
        ("vision", "facial_expressions", "vision_last", (0, 2, 3, 4, 5, 6, 7, 8), args.steps, 7e-4, 0.2),
        ("face", "facial_expressions", "face_vectors", (0, 2, 3, 4, 5, 6, 7, 8), args.steps, 7e-4, 0.2),
    )
    for branch, corpus, key, classes, steps, rate, noise in plan:
        adapter = getattr(model, f"{branch}_adapter")
        parts = split(corpus, [key])
        raw = parts[0].media[key].clone()
        if branch != "face":
            standardised(parts, key)
        metrics[branch] = train(
            adapter,
            lambda m, a=adapter, k=key: a(m[k])[0],
            parts,
            directions,
            steps,
            rate,
            noise,
            list(classes),
            args.seed,
        )
        with torch.no_grad():
            last = adapter.projector[-1] if branch == "face" else adapter.projection
            rescale(last, adapter(parts[1].media[key])[0], size)
            if branch != "face":
                fold(adapter, raw)
        print(branch, json.dumps(metrics[branch]), f"{time.time() - started:.0f} s", flush=True)
    metrics["fusion"] = align_fusion(model, split, directions, args.steps, size, args.seed)
    print("fusion", json.dumps(metrics["fusion"]), flush=True)
    save(model, processor, args.out, metrics)


def save(
    model: NanoEmoXForConditionalGeneration, processor: NanoEmoXProcessor, out: Path, metrics: dict[str, dict]
) -> None:
    """Write the model and what was measured."""
    print(json.dumps(metrics), flush=True)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    (out / "align.json").write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")


def align_voice(
    model: NanoEmoXForConditionalGeneration, parts: tuple[Part, Part], directions: Tensor, steps: int, size: float,
    seed: int, *, fresh: bool,
) -> dict:  # fmt: skip
    """Train the adapter of the voice, from new weights or on from those it has."""
    adapter, key = model.speech_adapter, "speech_last"
    raw = parts[0].media[key].clone()
    if not fresh:
        unfold(adapter, raw)
    standardised(parts, key)
    rate = 1e-3 if fresh else 5e-4
    found = train(adapter, lambda m: adapter(m[key])[0], parts, directions, steps, rate, 0.3, list(range(8)), seed)
    with torch.no_grad():
        rescale(adapter.projection, adapter(parts[1].media[key])[0], size)
        fold(adapter, raw)
    return found


def align_fusion(
    model: NanoEmoXForConditionalGeneration, split: Callable, directions: Tensor, steps: int, size: float, seed: int
) -> dict:
    """Train the fusion on voices and photographs of one feeling, drawn together anew at each step."""
    voices, pictures = split("ravdess", ["speech_levels"]), split("facial_expressions", ["vision_levels"])
    looks = [{c: torch.nonzero(p.labels == c)[:, 0] for c in range(9)} for p in pictures]
    rng = np.random.default_rng(seed)

    def paired(side: int) -> Part:
        # A calm face is photographed as a neutral one.
        pools = [looks[side][0 if c == 1 else c] for c in voices[side].labels.tolist()]
        kept = [i for i, pool in enumerate(pools) if len(pool)]
        rows = [int(pools[i][rng.integers(len(pools[i]))]) for i in kept]
        heard, seen = voices[side].media["speech_levels"][kept], pictures[side].media["vision_levels"][rows]
        return Part({"speech": heard, "vision": seen}, voices[side].labels[kept])

    training = [paired(0) for _ in range(4)]
    joined = Part({k: torch.cat([t.media[k] for t in training]) for k in ("speech", "vision")},
                  torch.cat([t.labels for t in training]))  # fmt: skip
    held = paired(1)
    fusion = model.fusion

    def tokens(m: dict[str, Tensor]) -> Tensor:
        return fusion(m["vision"], m["speech"])[0]

    found = train(fusion, tokens, (joined, held), directions, steps, 5e-4, 0.2, list(range(8)), seed)
    with torch.no_grad():
        rescale(fusion.projection, tokens(held.media), size)
    return found


if __name__ == "__main__":
    main()
