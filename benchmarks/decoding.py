"""Speed of generating open answers: our decoder, the library's ``generate``, and the memory-bandwidth floor.

    python benchmarks/decoding.py [--model DIR] [--tokens 64] [--rows 3] [--json FILE]

Both generate the same number of tokens from the same prompts without stopping early; the time per token is that of
``--tokens`` minus that of one, without prefill. The floor is the bytes of the language model, read once per step, over
the bandwidth of a plain read on the same threads (a model that fits into the processor's caches can be faster). Also
reports the attention kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from measure import engine, interleaved, load_plain, machine, memory_read, options, report, write_answers
from nanoemox.inference.decoding import prefill
from nanoemox.inference.engine import Engine
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.training.freeze import lighten
from nanoemox.types import Clip

CLIP = Clip("bench", subtitle="I finally got the job, and I do not know whom to tell first.")


def ours(loaded: Engine, rows: int) -> Callable[[int], None]:
    """Return an action that generates ``rows`` answers to questions of one length, after a shared prefill."""
    ids = torch.tensor([loaded.processor.prefix_ids(CLIP, ())], device=loaded.model.device)
    prefix = prefill(loaded.model, ids, torch.ones_like(ids))
    asks = [loaded.processor.question_ids(Ask("eri"))] * rows
    return lambda tokens: write_answers(loaded, prefix, asks, tokens)


def theirs(plain: NanoEmoXForConditionalGeneration, processor: NanoEmoXProcessor, rows: int) -> Callable[[int], Any]:
    """Return the same with ``generate`` of transformers."""
    whole = [[*processor.prefix_ids(CLIP, ()), *processor.question_ids(Ask("eri"))]] * rows
    ids = torch.tensor(whole, device=plain.device)
    return lambda tokens: plain.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), min_new_tokens=tokens, max_new_tokens=tokens,
        do_sample=False,
    )  # fmt: skip


def attention_kernels(action: Callable[[], Any]) -> list[str]:
    """Return the names of the attention operators of an action."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        action()
    return sorted({e.key.removeprefix("aten::") for e in seen.key_averages() if "_scaled_dot_product" in e.key})


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rows", type=int, default=3, help="answers written in step, besides one")
    args = parser.parse_args()
    loaded = engine(args)
    # No step of decoding runs an encoder; without them both models fit into 20 GB at full size in float32.
    lighten(loaded.model, None)
    plain = load_plain(args, loaded)
    lighten(plain, None)
    writers = {"ours": partial(ours, loaded), "generate": partial(theirs, plain, loaded.processor)}
    size = sum(p.numel() * p.element_size() for p in plain.language_model.parameters())
    read, read_bytes = memory_read(size, loaded.model.device)
    table: dict[str, list[float | None]] = {}
    for rows in (1, args.rows):
        write = {name: make(rows) for name, make in writers.items()}
        actions = {f"{name} {n}": partial(w, n) for name, w in write.items() for n in (1, args.tokens)}
        found = interleaved({**actions, "read": read}, args.repeats)
        ms = [1e3 * (found[f"{n} {args.tokens}"] - found[f"{n} 1"]) / (args.tokens - 1) for n in writers]
        floor = 1e3 * found["read"] * size / read_bytes
        table[f"ms a step, {rows} answer(s)"] = [*ms, floor]
        table[f"share of bandwidth, {rows}"] = [*(floor / m for m in ms), 1.0]
        kernels = attention_kernels(lambda w=write["ours"]: w(4))
    report(
        machine(loaded), [*writers, "floor"], table, args.json,
        weights_gb=size / 1e9, bandwidth_gb_s=read_bytes / found["read"] / 1e9, attention=kernels,
    )  # fmt: skip


if __name__ == "__main__":
    main()
