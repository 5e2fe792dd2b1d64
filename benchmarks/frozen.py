"""Memory and time of the frozen weights in phase 3: as trained here, and in float32 under autocast.

    python benchmarks/frozen.py [--preset paper] [--tokens 256] [--repeats 5] [--json FILE]

Left column: ``nanoemox train`` with ``precision: bf16`` and cached features: no encoders, frozen matrices of the
language model in bfloat16, the rest in float32. Right column: the model in float32 throughout, cast by autocast at
every use. Bytes are counted on the meta device at full size; the time is that of one decoder layer of full width,
forward and backward, on this machine. The floor is the layer's operations over the rate of a plain matrix product in
bfloat16.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from nanoemox.model.lora import LoraSpec, attach_lora, group_names
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.training.freeze import lighten, set_trainable
from nanoemox.weights.presets import load_preset, model_config

ADAM_STATES = 2


def gigabytes(model: nn.Module) -> dict[str, float]:
    """Return the gigabytes of weights, gradients and optimiser states."""
    weights = {id(p): p.numel() * p.element_size() for p in model.parameters()}
    training = sum(p.numel() * 4 * (1 + ADAM_STATES) for p in model.parameters() if p.requires_grad)
    return {"weights": sum(weights.values()) / 1e9, "gradients_and_optimiser": training / 1e9}


def full_size(preset: str) -> tuple[dict[str, float], dict[str, float], Any]:
    config = model_config(load_preset(preset))
    with torch.device("meta"):
        model = NanoEmoXForConditionalGeneration(config)
        attach_lora(model, LoraSpec(r=32, alpha=16))
    set_trainable(model, [g for g in group_names() if g == "lora" or getattr(model, g) is not None])
    heavy = gigabytes(model)
    lighten(model, torch.bfloat16)
    return gigabytes(model), heavy, config.text_config


def median_s(action: Callable[[], Any], repeats: int) -> float:
    action()
    out = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        out.append(time.perf_counter() - begin)
    return statistics.median(out)


def layer_ms(text_config: Any, tokens: int, repeats: int) -> tuple[float, float, float]:
    """Return the milliseconds of a frozen decoder layer in bfloat16 and float32, and the floor."""
    config = copy.deepcopy(text_config)
    config.num_hidden_layers, config.vocab_size = 1, 8
    config.layer_types = config.layer_types[:1] if getattr(config, "layer_types", None) else None
    heavy = AutoModelForCausalLM.from_config(config).requires_grad_(False)
    light = copy.deepcopy(heavy)
    for module in light.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)

    def step(model: nn.Module) -> Callable[[], None]:
        def run() -> None:
            given = torch.randn(1, tokens, config.hidden_size, requires_grad=True)
            with torch.autocast("cpu", torch.bfloat16):
                model.get_decoder()(inputs_embeds=given).last_hidden_state.sum().backward()

        return run

    matrices = sum(p.numel() for n, p in light.named_parameters() if p.ndim == 2 and "layers." in n)
    side = 2048
    a = torch.randn(side, side, dtype=torch.bfloat16)
    rate = 2 * side**3 / median_s(lambda: a @ a, repeats)
    floor = 2 * 2 * matrices * tokens / rate  # forward, and backward to what came in
    return 1e3 * median_s(step(light), repeats), 1e3 * median_s(step(heavy), repeats), 1e3 * floor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    light, heavy, text = full_size(args.preset)
    times = layer_ms(text, args.tokens, args.repeats)
    print(f"{args.preset}, phase 3, LoRA r=32, {torch.get_num_threads()} thread(s)")
    print(f"{'':34} {'ours':>9} {'float32':>9} {'floor':>9}")
    for key in light:
        print(f"{key.replace('_', ' ') + ', GB':34} {light[key]:9.2f} {heavy[key]:9.2f}")
    print(f"{f'a layer, {args.tokens} tokens, ms':34} {times[0]:9.1f} {times[1]:9.1f} {times[2]:9.1f}")
    if args.json:
        result = {
            "light": light,
            "heavy": heavy,
            "layer_ms": dict(zip(("ours", "float32", "floor"), times, strict=True)),
        }
        args.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
