"""Latency of one label from decoded tensors by stage, compared with ``generate`` and the arithmetic floor.

    python benchmarks/latency.py [--model DIR] [--clip FILE] [--task mer] [--json FILE]

Decoding and face detection are excluded. The floor is the number of operations of one answer, as counted by torch,
over the rate of a plain matrix product in the model's precision on the same threads.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from measure import SAMPLE, engine, interleaved, load_plain, machine, matrix_product, options, report
from nanoemox.inference.batch import ClipBatch, make_plan
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask

CLOSED_TOKENS = 8


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--clip", type=Path, default=SAMPLE)
    parser.add_argument("--task", default="mer", choices=["msa", "mer", "mir"])
    args = parser.parse_args()
    loaded = engine(args)
    model, processor, plain = loaded.model.requires_grad_(False), loaded.processor, load_plain(args, loaded)
    clip = loaded.load(args.clip)
    plan = make_plan(args.task)
    batch = ClipBatch(model, processor, [clip], plan)
    media = {k: v[None].to(model.device) for k, v in processor.media(clip).items()}

    def whole(by: NanoEmoXForConditionalGeneration = model) -> None:
        ClipBatch(by, processor, [clip], plan).closed()

    def written() -> None:
        given = processor([clip], [Ask(args.task)]).to(model.device)
        plain.generate(**given, min_new_tokens=CLOSED_TOKENS, max_new_tokens=CLOSED_TOKENS, do_sample=False)

    @torch.no_grad()
    def encode() -> None:
        model.encode(media)

    multiply, operations = matrix_product(model.dtype, model.device)
    stages = {
        "read the file": lambda: loaded.load(args.clip),
        "tensors": lambda: processor.media(clip),
        "encoders": encode,
        "encoders and prefill": lambda: ClipBatch(model, processor, [clip], plan),
        "score": batch.closed,
        "answer": whole,
    }
    found = interleaved({**stages, "generate": written, "multiply": multiply}, args.repeats)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        whole(plain)  # packed products are not counted
    floor = 1e3 * counter.get_total_flops() * found["multiply"] / operations
    table: dict[str, list[float | None]] = {f"{name}, ms": [1e3 * found[name], None, None] for name in stages}
    table["answer, ms"][1:] = [1e3 * found["generate"], floor]
    report(
        machine(loaded), ["ours", "generate", "floor"], table, args.json,
        giga_operations=counter.get_total_flops() / 1e9, giga_operations_a_second=operations / found["multiply"] / 1e9,
    )  # fmt: skip


if __name__ == "__main__":
    main()
