"""Put public parts and our encoders together: the start of P2E, adapters untrained.

    python -m tools.small.base --parts PARTS --vision src/nanoemox/assets/mini --face face.safetensors --out BASE

PARTS holds ``smollm2`` and ``whisper-base``, ordinary transformers directories as `nanoemox pull small` makes them.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, WhisperFeatureExtractor

from nanoemox.model.configuration import PAPER_BRANCHES, NanoEmoXConfig
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.tasks.templates import load_templates
from nanoemox.weights.presets import load_preset

POSITIONS_PER_S = 50
VISION = "vision_encoder."


def small_config(parts: Path, vision: Path) -> tuple[NanoEmoXConfig, object]:
    """Return configuration and tokenizer; the placeholders lie past the vocabulary, whose embedding stays as it is."""
    recipe = load_preset("small")
    fields = {b: dict(getattr(recipe, b)) for b in PAPER_BRANCHES}
    fields["vision"]["encoder"] = json.loads((vision / "config.json").read_text("utf-8"))["vision"]["encoder"]
    whisper = AutoConfig.from_pretrained(parts / "whisper-base")
    # Windows are short: the positions of the rest of half a minute are never read.
    whisper.max_source_positions = POSITIONS_PER_S * math.ceil(fields["speech"]["window_s"])
    fields["speech"]["encoder"] = whisper
    tokenizer = AutoTokenizer.from_pretrained(parts / "smollm2")
    tokenizer.add_tokens([f"<|{b}|>" for b in PAPER_BRANCHES], special_tokens=True)
    ids = {f"{b}_token_id": tokenizer.convert_tokens_to_ids(f"<|{b}|>") for b in PAPER_BRANCHES}
    text = AutoConfig.from_pretrained(parts / "smollm2")
    return NanoEmoXConfig(**fields, text_config=text, branches=list(recipe.branches), **ids), tokenizer


def strict(module: torch.nn.Module, state: dict[str, torch.Tensor], what: str) -> None:
    """Load all of a part or say what does not fit."""
    missing, unexpected = module.load_state_dict(state, strict=False)
    if set(missing) - {"lm_head.weight"} or unexpected:
        raise SystemExit(f"{what}: missing {missing}, unexpected {unexpected}")


def build(
    parts: Path, vision: Path, face: Path, seed: int
) -> tuple[NanoEmoXForConditionalGeneration, NanoEmoXProcessor]:
    """Build the model and its processor."""
    torch.manual_seed(seed)
    config, tokenizer = small_config(parts, vision)
    model = NanoEmoXForConditionalGeneration(config).float()
    strict(model.language_model, load_file(parts / "smollm2" / "model.safetensors"), "smollm2")
    model.tie_weights()
    start = "model.encoder."
    whisper = load_file(parts / "whisper-base" / "model.safetensors")
    heard = {k.removeprefix(start): v for k, v in whisper.items() if k.startswith(start)}
    positions = config.speech.encoder.max_source_positions
    heard["embed_positions.weight"] = heard["embed_positions.weight"][:positions]
    strict(model.speech_encoder.encoder, heard, "whisper-base")
    ours = load_file(vision / "model.safetensors")
    state = {k.removeprefix(VISION): v.float() for k, v in ours.items() if k.startswith(VISION)}
    strict(model.vision_encoder, state, VISION)
    net = {k: v for k, v in load_file(face).items() if not k.startswith("head.")}  # its own seven classes
    strict(model.face_encoder.net, net, "face")
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=math.ceil(config.speech.window_s))
    return model, NanoEmoXProcessor(extractor, tokenizer, config, load_templates(layout="compact"))


def main() -> None:
    """Assemble."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", type=Path, required=True)
    parser.add_argument("--vision", type=Path, required=True, help="model directory whose scene encoder is taken")
    parser.add_argument("--face", type=Path, required=True, help="the expression net that tools.small.face wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    model, processor = build(args.parts, args.vision, args.face, args.seed)
    model.save_pretrained(args.out)
    processor.save_pretrained(args.out)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M")


if __name__ == "__main__":
    main()
