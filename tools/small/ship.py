"""From a training's adapters to what the package carries, and to a whole model for trying out.

    python -m tools.small.ship --base ALIGNED --adapters RUN/multitask/adapters.safetensors \
        --out src/nanoemox/assets/small --model MODEL

OUT gets only what was trained here, in float16: adapters, fusion and LoRA in one file, the two picture encoders in
another, with the configuration, the words and the notice of where the face encoder comes from. MODEL is base and
adapters in one directory with LoRA folded in, as `nanoemox pull small` makes it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from nanoemox.model.lora import fold_lora, load_adapters, lora_layers, save_adapters
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.weights.catalogue import mit

FACE_NOTICE = mit("Vladimir Mandic")
ADAPTERS, ENCODERS = "adapters.safetensors", "encoders.safetensors"
OWN = ("vision_encoder.", "face_encoder.")
ALIGNED = ("vision_adapter.", "speech_adapter.", "face_adapter.", "fusion.")
GROUPS = ("vision_adapter", "speech_adapter", "face_adapter", "fusion", "lora")


def write_assets(model: NanoEmoXForConditionalGeneration, processor: NanoEmoXProcessor, out: Path) -> int:
    """Write the packaged files; return their size in bytes."""
    out.mkdir(parents=True, exist_ok=True)
    groups = [g for g in GROUPS if g != "lora" or lora_layers(model)]
    save_adapters(model, out / ADAPTERS, groups, torch.float16)
    state = {k: v.half().contiguous() for k, v in model.state_dict().items() if k.startswith(OWN)}
    save_file(state, out / ENCODERS, metadata={"format": "pt"})
    model.config.dtype = torch.float16
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(out)
    processor.templates.save(out)
    extractor = {
        "feature_extractor": processor.feature_extractor.to_dict(),
        "processor_class": type(processor).__name__,
    }
    (out / "processor_config.json").write_text(json.dumps(extractor, indent=2) + "\n", "utf-8")
    model.generation_config.save_pretrained(out)
    (out / "NOTICE").write_text(f"Expression net of @vladmandic/face-api 1.7.15 (MIT): {FACE_NOTICE}\n", "utf-8")
    return sum(f.stat().st_size for f in out.glob("*.safetensors"))


def main() -> None:
    """Ship."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("base", "out", "model"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--adapters", type=Path, help="of a phase or a checkpoint; without it the base's own")
    parser.add_argument("--own", choices=("all", "lora"), default="all", help="lora: keep the adapters of the base")
    args = parser.parse_args()
    model = NanoEmoXForConditionalGeneration.from_pretrained(str(args.base), dtype=torch.float32)
    processor = NanoEmoXProcessor.from_pretrained(args.base)
    if args.adapters is not None:
        aligned = {k: v.clone() for k, v in model.state_dict().items() if k.startswith(ALIGNED)}
        load_adapters(model, args.adapters)
        if args.own == "lora":
            model.load_state_dict(aligned, strict=False)
    size = write_assets(model, processor, args.out)
    print(f"{args.out}: {size / 1e6:.1f} MB")
    if lora_layers(model):
        fold_lora(model)
    partial = args.model.with_name(args.model.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.to(torch.float16).save_pretrained(partial)
    processor.save_pretrained(partial)
    for name in ("calibration.json", "NOTICE"):
        if (args.out / name).is_file():
            shutil.copy(args.out / name, partial)
    shutil.rmtree(args.model, ignore_errors=True)
    partial.rename(args.model)


if __name__ == "__main__":
    main()
