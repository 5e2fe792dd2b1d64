"""Time of a training step of phase 3: from cached features, the authors' way, and the arithmetic floor.

    python benchmarks/training_step.py [--model DIR] [--batch 3] [--precision bf16|fp32] [--json FILE]

Left: cached features, frozen matrices in the precision of the computation, logits only at answer tokens. Right: every
clip goes through the encoders, the model is in float32 (cast by autocast at every use), logits everywhere. Same
samples, LoRA and fused AdamW. The floor is the number of operations of our forward and backward pass, as counted by
torch, over the rate of a plain matrix product.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from measure import SAMPLE, engine, interleaved, load_plain, machine, matrix_product, options, report
from nanoemox.inference.engine import Engine
from nanoemox.model.configuration import IGNORE_INDEX
from nanoemox.model.lora import LoraSpec, attach_lora, group_names
from nanoemox.model.processing import Ask
from nanoemox.training.freeze import lighten, set_trainable

ANSWERS = {
    "ovmer": "relieved, happy, hopeful",
    "eri": "The voice rises and the face relaxes; the words tell of good news, so the person is relieved and happy.",
    "erg": "That is wonderful news, and you have worked for it a long time. Whom would you like to tell first?",
}


def samples(loaded: Engine, count: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a batch of open tasks, once with features and once with media."""
    clip = loaded.load(SAMPLE)
    tasks = [list(ANSWERS)[i % len(ANSWERS)] for i in range(count)]
    asks = [Ask(t, think=False, answer=ANSWERS[t]) for t in tasks]
    raw = dict(loaded.processor([clip] * count, asks, padding_side="right"))
    media = {k: v[None] for k, v in loaded.processor.media(clip).items()}
    with torch.no_grad():
        seen = loaded.model.encode({k: v.to(loaded.model.device) for k, v in media.items()})
    features = {k: v[0].cpu() for k, v in seen.items()}
    cached = dict(loaded.processor([clip] * count, asks, media=[features] * count, padding_side="right"))
    answers = cached["labels"] != IGNORE_INDEX
    cached["logits_to_keep"] = torch.cat([answers[:, 1:], torch.zeros_like(answers[:, :1])], dim=1)
    device = loaded.model.device
    return ({k: v.to(device) for k, v in b.items()} for b in (cached, raw))  # type: ignore[return-value]


def trainable(args: Any, loaded: Engine) -> nn.Module:
    """Load the model again, since packed weights have no gradient, with LoRA, for training as in phase 3."""
    loaded.model.language_model = None  # at full size two of them in float32 do not fit into 24 GB
    heavy = load_plain(args, loaded)
    attach_lora(heavy, LoraSpec(r=16, alpha=32, dropout=0.0))
    set_trainable(heavy, [g for g in group_names() if g == "lora" or getattr(heavy, g, None) is not None])
    return heavy.train()


def lightened(heavy: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """Copy the model as ``nanoemox train`` holds it; frozen weights that stay as they are, are shared."""
    frozen = {} if dtype else {id(p): p for p in heavy.parameters() if not p.requires_grad}
    light = copy.deepcopy(heavy, frozen)
    lighten(light, dtype)
    return light


def step_of(model: nn.Module, batch: dict[str, Tensor], dtype: torch.dtype | None) -> Callable[[], Any]:
    """Return one step: forward, backward, clip, update."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    device = next(model.parameters()).device.type

    def step() -> None:
        with torch.autocast(device, dtype) if dtype else nullcontext():
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    args = parser.parse_args()
    args.dtype = "float32"
    loaded = engine(args)
    dtype = torch.bfloat16 if args.precision == "bf16" else None
    cached, raw = samples(loaded, args.batch)
    heavy = trainable(args, loaded)
    light = lightened(heavy, dtype)
    ours = step_of(light, cached, dtype)
    multiply, operations = matrix_product(dtype or torch.float32, heavy.device)
    found = interleaved({"ours": ours, "theirs": step_of(heavy, raw, dtype), "multiply": multiply}, args.repeats)
    with FlopCounterMode(display=False) as counter:
        ours()
    floor = counter.get_total_flops() * found["multiply"] / operations
    report(
        machine(loaded) | {"precision": args.precision, "batch": args.batch},
        ["ours", "authors' way", "floor", "theirs / ours", "floor / ours"],
        {
            "a step, s": [
                found["ours"], found["theirs"], floor, found["theirs"] / found["ours"], floor / found["ours"]
            ],
            "samples/s": [args.batch / found["ours"], args.batch / found["theirs"], args.batch / floor, None, None],
        },
        args.json,
        giga_operations=counter.get_total_flops() / 1e9,
    )  # fmt: skip


if __name__ == "__main__":
    main()
