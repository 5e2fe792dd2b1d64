"""The files of ``pull authors`` at toy size, with their names and layouts, written by the original libraries."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    HubertConfig,
    HubertModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Wav2Vec2FeatureExtractor,
)

from nanoemox.weights.authors_catalogue import RELEASE, Release
from nanoemox.weights.convert_reference import expected_shapes, our_name, window_index
from nanoemox.weights.presets import load_preset, model_config
from tests.tiny import CLIP_TINY, HUBERT_TINY, QFORMER_TINY, text_config, tiny_tokenizer
from tests.weights.fake_hub import FakeRepository

SWIN = {"model_type": "swin", "embed_dim": 8, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8], "window_size": 7,
        "image_size": 224, "drop_path_rate": 0.0}  # fmt: skip
DEEP = {"num_hidden_layers": 24}
RANK = 4
CHECKPOINT = "checkpoint_000060_loss_0.285.pth"


def _fields(sizes: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in sizes.items() if k != "model_type"}


def _random(model: Any, seed: int = 1) -> Any:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def language_model() -> Qwen2ForCausalLM:
    """28 layers, as the authors' LoRA has."""
    return _random(Qwen2ForCausalLM(Qwen2Config(**_fields(text_config()) | {"num_hidden_layers": 28})))


def vision_model() -> CLIPModel:
    """24 blocks, whose 12th, 16th, 22nd and 23rd are read."""
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "vocab_size": 50, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1}  # fmt: skip
    return _random(CLIPModel(CLIPConfig(text_config=text, vision_config=_fields(CLIP_TINY) | DEEP, projection_dim=8)))


def speech_model() -> HubertModel:
    """24 blocks, as the public one."""
    return _random(HubertModel(HubertConfig(**_fields(HUBERT_TINY) | DEEP)))


def recipe(path: Path) -> Path:
    """The preset with narrow adapters; taps, windows and frames stay the authors'."""
    narrow = {
        "vision": QFORMER_TINY,
        "speech": QFORMER_TINY | {"window_s": 0.5},
        "face": {"encoder": SWIN, "fuse_size": 32, "image_size": 56, "projector_size": 48},
        "fusion": {"hidden_size": 32, "num_attention_heads": 4},
    }
    path.write_text(yaml.safe_dump({"extends": "authors", **narrow}), "utf-8")
    return path


def _folder(root: Path, *names: str) -> dict[str, bytes]:
    return {n: (root / n).read_bytes() for n in names}


def _text(root: Path) -> dict[str, bytes]:
    language_model().save_pretrained(root)
    tiny_tokenizer().save_pretrained(root)
    return _folder(root, "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors") | {
        "README.md": b"not asked for"
    }


def _vision(root: Path) -> dict[str, bytes]:
    vision_model().save_pretrained(root)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(root)
    return _folder(root, "config.json", "preprocessor_config.json", "model.safetensors")


def _speech(root: Path) -> dict[str, bytes]:
    """Old names of the weight norm in a ``pytorch_model.bin``, as the public file has them."""
    model = speech_model()
    model.config.save_pretrained(root)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(root)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = model.state_dict()
    for new, name in old.items():
        state = {n.replace(new, name): t for n, t in state.items()}
    torch.save(state, root / "pytorch_model.bin")
    return _folder(root, "config.json", "preprocessor_config.json", "pytorch_model.bin")


def _face(root: Path, shared: Path) -> dict[str, bytes]:
    """torchvision's own Swin, the layers that fuse its stages, and the decoder."""
    golden = load_file(shared / "golden" / "swin_2222.safetensors")
    top = {"features": "backbone.0", "norm": "backbone.1"}
    state = {n.removeprefix("state/"): t for n, t in golden.items() if n.startswith("state/")}
    backbone = {
        f"{top[n.split('.')[0]]}.{n.partition('.')[2]}": t for n, t in state.items() if not n.startswith("head.")
    }
    torch.manual_seed(3)
    for i, width in enumerate((8, 16, 32, 64)):
        backbone |= {f"linear_c.{i}.proj.weight": torch.randn(32, width), f"linear_c.{i}.proj.bias": torch.randn(32)}
    backbone |= {
        "linear_fuse.weight": torch.randn(32, 128, 1, 1),
        "face_decoder.landmarks_token.weight": torch.randn(1, 4),
        "pe_layer.positional_encoding_gaussian_matrix": torch.randn(2, 4),
    }
    (root / "ckpts").mkdir(parents=True)
    torch.save({"state_dict_backbone": backbone}, root / "ckpts" / "model.pt")
    return _folder(root, "ckpts/model.pt")


def official_state(shared: Path, preset: Path) -> dict[str, Tensor]:
    """Every name of the authors' file of phase 3, at small sizes."""
    table = json.loads((shared / "golden" / "official_checkpoint_keys.json").read_text())
    absent = set(table["phases"]["phase3"]["absent_keys_of_union"])
    words = language_model()
    config = model_config(
        load_preset(preset),
        {"vision": vision_model().config.vision_config, "speech": speech_model().config, "text": words.config},
    )
    own = {n: s for p in ("vision_adapter", "speech_adapter", "face_adapter", "fusion", "language_model")
           for n, s in expected_shapes(p, config).items()}  # fmt: skip
    torch.manual_seed(7)
    return {n: _official(n, own, shape["shape"], words) for n, shape in table["shapes"].items() if n not in absent}


def _official(name: str, own: dict[str, torch.Size], shape: list[int], words: Qwen2ForCausalLM) -> Tensor:
    if name.endswith("position_ids"):
        return torch.arange(shape[-1])[None]
    if name.endswith("relative_position_index"):
        return window_index(shape[-1])
    if name.endswith("lm_head.weight"):
        return words.get_input_embeddings().weight.detach().half()
    ours = our_name(name) or ""
    layer = own.get(f"{ours.partition('.lora_')[0]}.weight", torch.Size())
    if ".lora_A." in name:
        return torch.randn(RANK, layer[1])
    if ".lora_B." in name:
        return torch.randn(layer[0], RANK) * 0.01
    return torch.randn(own.get(ours, (2,))) * 0.2


def make_repositories(root: Path, shared: Path) -> tuple[dict[str, FakeRepository], Release]:
    """Write everything; return what the hub serves, and the release that names it."""
    preset = recipe(root / "tiny.yaml")
    torch.save({"model": official_state(shared, preset), "epoch": 60, "scaler": None}, root / CHECKPOINT)
    made = {
        "adapters": {"README.md": b"---\nlicense: mit\n---\n", CHECKPOINT: (root / CHECKPOINT).read_bytes()},
        "text": _text(root / "text"),
        "vision": _vision(root / "vision"),
        "speech": _speech(root / "speech"),
        "face": _face(root / "face", shared),
    }
    served, asked = {}, []
    for i, repository in enumerate(RELEASE.repositories):
        pinned = repository.revision if repository.revision != "main" else f"{i:x}" * 40
        served[repository.repo] = FakeRepository(made[repository.part], pinned, licence="mit" if i % 2 == 0 else None)
        # What is recorded of the public files does not hold for these; that it is compared has a test of its own.
        asked.append(
            replace(repository, files=tuple(replace(f, size_bytes=None, sha256=None) for f in repository.files))
        )
    return served, Release(str(preset), tuple(asked))
