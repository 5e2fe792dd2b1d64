"""Time of a training step of phase 3: from cached features, the authors' way, and the arithmetic floor.

    python benchmarks/training_step.py [--model DIR] [--batch 3] [--precision bf16|fp32] [--json FILE]

Left: cached features, frozen matrices in the precision of the computation, logits only at answer tokens. Right: three
samples a step, every clip goes through the encoders, the model is in float32 (cast by autocast at every use), logits
everywhere. Same samples, LoRA and fused AdamW. The floor is the number of operations of our forward and backward pass,
as counted by torch, over the rate of a plain matrix product. The hours of the whole curriculum follow from the samples
a second.
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
from nanoemox.training.phases import load_curriculum

SCHEDULE = "p2e-fast"
AUTHORS_BATCH = 3
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


def peak_gb(model: nn.Module, step: Callable[[], Any]) -> float:
    """Return what training this model alone holds on the GPU: weights, moments of AdamW, all that a step allocates."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    weights = sum(p.nbytes * (3 if p.requires_grad else 1) for p in model.parameters())
    return (weights + torch.cuda.max_memory_allocated() - before) / 1e9


def schedule_h(rate: float) -> float:
    """Return the hours of the whole curriculum at this many samples a second, the rate of its last phase."""
    samples = sum(p.steps * p.micro_batch * p.accumulation for p in load_curriculum(SCHEDULE).phases.values())
    return samples / rate / 3600


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--batch", type=int, help="ours; default: as in p2e-fast on CUDA, 3 elsewhere")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    args = parser.parse_args()
    args.dtype = "float32"
    loaded = engine(args)
    on_gpu = loaded.model.device.type == "cuda"
    batch = args.batch or (load_curriculum(SCHEDULE).phases["multitask"].micro_batch if on_gpu else AUTHORS_BATCH)
    dtype = torch.bfloat16 if args.precision == "bf16" else None
    (cached, _), (_, raw) = samples(loaded, batch), samples(loaded, AUTHORS_BATCH)
    heavy = trainable(args, loaded)
    light = lightened(heavy, dtype)
    ours, theirs = step_of(light, cached, dtype), step_of(heavy, raw, dtype)
    multiply, operations = matrix_product(dtype or torch.float32, heavy.device)
    found = interleaved({"ours": ours, "theirs": theirs, "multiply": multiply}, args.repeats)
    with FlopCounterMode(display=False) as counter:
        ours()
    floor = counter.get_total_flops() * found["multiply"] / operations
    rates = [batch / found["ours"], AUTHORS_BATCH / found["theirs"], batch / floor]
    peaks = {"peak, GB": [peak_gb(light, ours), peak_gb(heavy, theirs), None, None, None]} if on_gpu else {}
    report(
        machine(loaded) | {"precision": args.precision, "batch": batch, "authors' batch": AUTHORS_BATCH},
        ["ours", "authors' way", "floor", "ours / theirs", "ours / floor"],
        {
            "a step, s": [found["ours"], found["theirs"], floor, None, None],
            "samples/s": [*rates, rates[0] / rates[1], rates[0] / rates[2]],
            f"all of {SCHEDULE}, h": [*map(schedule_h, rates), None, None],
            **peaks,
        },
        args.json,
        giga_operations=counter.get_total_flops() / 1e9,
    )  # fmt: skip


if __name__ == "__main__":
    main()
