"""Put the parts of stage 0 together into a model directory whose adapters are untrained: the start of P2E.

python -m tools.mini.assemble --stage0 runs/stage0 --out runs/base
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, WhisperFeatureExtractor

from nanoemox.model.configuration import PAPER_BRANCHES, NanoEmoXConfig
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor

RECIPE = Path(__file__).parents[2] / "src" / "nanoemox" / "recipes" / "model" / "mini.yaml"


def encoder_fields(folder: Path) -> dict:
    """Read a part's config.json as plain fields."""
    return AutoConfig.from_pretrained(folder).to_diff_dict() | {
        "model_type": json.loads((folder / "config.json").read_text())["model_type"]
    }


def load_part(module: torch.nn.Module, folder: Path) -> None:
    """Load a part's weights; blocks past the deepest one that the model reads are left out, nothing else."""
    state = {k.removeprefix("vision_model."): v for k, v in load_file(folder / "model.safetensors").items()}
    missing, unexpected = module.load_state_dict(state, strict=False)
    tied = {m for m in missing if m == "lm_head.weight"}
    too_deep = {u for u in unexpected if ".layers." in f".{u}" and u.replace("encoder.", "", 1).split(".")[1].isdigit()}
    if set(missing) - tied or set(unexpected) - too_deep:
        raise SystemExit(f"{folder}: missing {missing}, unexpected {unexpected}")


def main() -> None:
    """Assemble."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage0", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    fields = yaml.safe_load(RECIPE.read_text())
    for branch in ("vision", "speech", "face"):
        fields[branch]["encoder"] = encoder_fields(args.stage0 / branch)
    tokenizer = AutoTokenizer.from_pretrained(args.stage0 / "tokenizer")
    ids = {f"{b}_token_id": tokenizer.convert_tokens_to_ids(f"<|{b}|>") for b in PAPER_BRANCHES}
    config = NanoEmoXConfig(**fields, text_config=encoder_fields(args.stage0 / "lm"), **ids)
    model = NanoEmoXForConditionalGeneration(config)
    load_part(model.vision_encoder.encoder, args.stage0 / "vision")
    load_part(model.speech_encoder.encoder, args.stage0 / "speech")
    face = load_file(args.stage0 / "face" / "model.safetensors")
    renamed = {
        k.replace("backbone.", "backbone.model.", 1) if k.startswith("backbone.") else k: v for k, v in face.items()
    }
    model.face_encoder.load_state_dict(renamed)
    load_part(model.language_model, args.stage0 / "lm")
    model.tie_weights()
    extractor = WhisperFeatureExtractor.from_pretrained(args.stage0 / "speech")
    model.save_pretrained(args.out)
    NanoEmoXProcessor(feature_extractor=extractor, tokenizer=tokenizer, config=config).save_pretrained(args.out)
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        parts[name.split(".")[0]] = parts.get(name.split(".")[0], 0) + parameter.numel()
    for name, count in parts.items():
        print(f"{name:16} {count / 1e6:6.2f} M")
    print(f"{'all':16} {sum(parts.values()) / 1e6:6.2f} M")


if __name__ == "__main__":
    main()
