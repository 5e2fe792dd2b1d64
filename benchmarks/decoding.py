"""How fast open answers are written: our decoder, the library's ``generate``, and the floor that memory sets.

    python benchmarks/decoding.py [--model DIR] [--tokens 64] [--repeats 3] [--dtype float32] [--json FILE]

Both columns write the same number of tokens from the same prompt, one stream, nothing ends early; the time of a token
is that of ``--tokens`` less that of one, so prefill is in neither. The floor is the language model's bytes, which every
token reads once, over the bandwidth of a plain read of a buffer of that size on the same threads. A model that fits
into the processor's caches can beat it. The last line times the step that reads a question before an answer, with the
head on every position and on the last one alone, as the decoder asks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nanoemox.inference.decoding import Decoder, GenerationOptions, prefill
from nanoemox.inference.engine import Engine
from nanoemox.model.processing import Ask
from nanoemox.types import Clip

NEVER = [-1]
"""A terminator that no token is."""
READ_BYTES = 256_000_000


def seconds(action: Callable[[], Any], repeats: int) -> float:
    action()
    out = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        out.append(time.perf_counter() - begin)
    return statistics.median(out)


def bandwidth(size_bytes: int, device: torch.device, repeats: int) -> float:
    """Bytes a second of adding up a buffer at least as large as the weights."""
    buffer = torch.ones(max(size_bytes, READ_BYTES) // 4, dtype=torch.float32, device=device)
    return buffer.nbytes / seconds(lambda: buffer.sum(), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    engine = Engine.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
    model, processor = engine.model, engine.processor
    device = model.device
    clip = Clip("bench", subtitle="I finally got the job, and I do not know whom to tell first.")
    prompt = processor.prefix_ids(clip, ())
    ask = processor.question_ids(Ask("eri"))
    ids = torch.tensor([prompt], device=device)
    whole = torch.tensor([[*prompt, *ask]], device=device)
    prefix = prefill(model, ids, torch.ones_like(ids))

    def ours(count: int) -> None:
        for _ in Decoder(model, prefix, [ask], NEVER, GenerationOptions(max_new_tokens=count)):
            pass

    def theirs(count: int) -> None:
        mask = torch.ones_like(whole)
        model.generate(
            input_ids=whole, attention_mask=mask, min_new_tokens=count, max_new_tokens=count, do_sample=False
        )

    def per_token(write: Callable[[int], None]) -> float:
        return (seconds(lambda: write(args.tokens), args.repeats) - seconds(lambda: write(1), args.repeats)) / (
            args.tokens - 1
        )

    @torch.no_grad()
    def question(keep: int) -> None:
        # A mask of its own, as every branch of a shared cache needs.
        model(
            input_ids=whole[:, len(prompt) :],
            position_ids=torch.arange(len(prompt), len(whole[0]), device=device)[None],
            cache=prefix.branch(),
            use_cache=True,
            logits_to_keep=keep,
        )

    size = sum(p.numel() * p.element_size() for p in model.language_model.parameters())
    rate = bandwidth(size, device, args.repeats)
    result = {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "dtype": args.dtype,
        "weights_gb": size / 1e9,
        "bandwidth_gb_s": rate / 1e9,
        "floor_ms": 1e3 * size / rate,
        "ours_ms": 1e3 * per_token(ours),
        "generate_ms": 1e3 * per_token(theirs),
        "question_head_everywhere_ms": 1e3 * seconds(lambda: question(0), args.repeats),
        "question_head_last_ms": 1e3 * seconds(lambda: question(1), args.repeats),
    }
    print(f"{args.dtype} on {device}, {result['threads']} thread(s), {size / 1e9:.3f} GB, {rate / 1e9:.1f} GB/s")
    print(f"{'':22} {'ours':>10} {'generate':>10} {'floor':>10}")
    print(
        f"{'ms a token':22} {result['ours_ms']:10.2f} {result['generate_ms']:10.2f} {result['floor_ms']:10.2f}\n"
        f"{'share of bandwidth':22} {result['floor_ms'] / result['ours_ms']:10.0%} "
        f"{result['floor_ms'] / result['generate_ms']:10.0%}"
    )
    print(
        f"a question of {len(ask)} tokens: {result['question_head_last_ms']:.2f} ms with the head on the last one, "
        f"{result['question_head_everywhere_ms']:.2f} ms with it on all"
    )
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
