"""Exploration in GRPO: probability that a sampled answer ends after its first word, by temperature.

    python -m benchmarks.exploration --data-root DATA [--adapters RUN/examples/adapters.safetensors]

Reinforcement learning can only reinforce sampled answers. The task is open vocabulary on held-out comments of
GoEmotions; for some first words the table gives the mean probability that the answer ends there. The last row is the
probability that the first word is none of the model's eight most likely.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from benchmarks.grpo import MINI

from nanoemox.data.corpora import read_corpora
from nanoemox.model.lora import load_adapters
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import Ask, NanoEmoXProcessor
from nanoemox.types import Clip

TEMPERATURES = (1.0, 1.5, 2.0, 3.0)
WORDS = ("neutral", "happy", "surprised", "disgusted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--adapters", type=Path, help="of a phase, on the embedded model")
    parser.add_argument("--comments", type=int, default=48)
    args = parser.parse_args()
    processor = NanoEmoXProcessor.from_pretrained(MINI)
    model = NanoEmoXForConditionalGeneration.from_pretrained(str(MINI), dtype=torch.float32).eval()
    if args.adapters:
        load_adapters(model, args.adapters)
    samples = read_corpora(args.data_root, ["goemotions"])["goemotions"]
    held_out = [s for s in samples if s.task == "ovmer" and s.split == "validation"][: args.comments]
    question = processor.question_ids(Ask("ovmer"))
    prompts = [[*processor.prefix_ids(Clip(s.id, subtitle=s.subtitle), ()), *question] for s in held_out]

    @torch.no_grad()
    def logits(after: list[int]) -> torch.Tensor:
        """Return the logits of the next token: float[comments, V]."""
        rows = [torch.tensor([[*prompt, *after]]) for prompt in prompts]
        return torch.cat([model(input_ids=row, use_cache=False, logits_to_keep=1).logits[:, -1] for row in rows])

    print(f"{'temperature':>32}" + "".join(f"{t:>10}" for t in TEMPERATURES))
    end = processor.terminator_ids[0]
    for word in WORDS:
        following = logits(processor.answer_ids(word)[: -len(processor.terminator_ids)])
        chances = [float((following / t).softmax(-1)[:, end].mean()) for t in TEMPERATURES]
        print(f"{word + ', and nothing more':>32}" + "".join(f"{c:>10.1e}" for c in chances))
    first = logits([])
    chances = [1 - float((first / t).softmax(-1).topk(8).values.sum(-1).mean()) for t in TEMPERATURES]
    print(f"{'none of the 8 likeliest first':>32}" + "".join(f"{c:>10.2f}" for c in chances))


if __name__ == "__main__":
    main()
