"""Public parts of toy size, as wheels in a local pip index."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.lora import LoraSpec, attach_lora, save_adapters
from nanoemox.weights.catalogue import Member, Part, Wheel
from nanoemox.weights.ctranslate2 import TYPES, WhisperSizes, layout_of
from tests.tiny import WHISPER_TINY, text_config, tiny_config, tiny_model, tiny_processor, tiny_tokenizer

SIZES = WhisperSizes(
    layers=4, width=32, inner=64, heads=2, vocabulary=51_865, source_positions=100, target_positions=64
)


def container(path: Path, sizes: WhisperSizes = SIZES, *, drop: str = "", seed: int = 0, **other: Any) -> Path:
    """Write a CTranslate2 container of random weights; ``other`` replaces a value, a shape or a name."""
    rng = np.random.default_rng(seed)
    layout = {n: v for n, v in layout_of(sizes).items() if n != drop}
    out = struct.pack("<I", other.get("version", 6)) + _name(other.get("spec", "WhisperSpec"))
    out += struct.pack("<II", other.get("revision", 3), len(layout))
    for name, (shape, kind, value) in layout.items():
        dtype = TYPES[kind]
        array = rng.normal(0, 0.2, shape).astype(dtype) if value is None else np.array(value, dtype)
        if name.endswith("linear_0/bias") and "self_attention" in name:
            array[sizes.width : 2 * sizes.width] = other.get("key_bias", 0)
        if name.endswith("/attention/linear_1/bias"):
            array[: sizes.width] = 0
        array = other.get("values", {}).get(name, array)
        shape = other.get("shapes", {}).get(name, array.shape)
        out += _name(name) + struct.pack("<B", len(shape)) + struct.pack(f"<{len(shape)}I", *shape)
        out += struct.pack("<BI", kind, array.nbytes) + array.tobytes()
    out += struct.pack("<I", 1) + _name("decoder/projection/weight") + _name("decoder/embeddings/weight")
    path.write_bytes(out)
    return path


def _name(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def whisper_files(folder: Path) -> Path:
    """Container, configuration and a tokenizer whose only entries are the special ones."""
    folder.mkdir(parents=True, exist_ok=True)
    container(folder / "model.bin")
    config = {"lang_ids": [50_259, 50_260], "alignment_heads": [[1, 0], [3, 1]], "suppress_ids": [1, 2]}
    (folder / "config.json").write_text(json.dumps(config | {"suppress_ids_begin": [220]}))
    added = [{"id": 50_259, "content": "<|en|>"}, {"id": 50_260, "content": "<|zh|>"}]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    return folder


def language_directory(folder: Path, seed: int = 3) -> Path:
    """A transformers directory of a toy language model, in place of what GGUF gives."""
    fields = {k: v for k, v in text_config().items() if k != "model_type"}
    torch.manual_seed(seed)
    Qwen2ForCausalLM(Qwen2Config(**fields)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def shipped(folder: Path) -> Path:
    """What the package would carry: configuration, words, adapters with LoRA, our own encoders."""
    config = shipped_config()
    torch.manual_seed(1)
    model = tiny_model(config, seed=1)
    encoders = {n: t for n, t in model.state_dict().items() if n.startswith(("vision_encoder.", "face_encoder."))}
    tiny_processor(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)
    save_file({n: t.clone().contiguous() for n, t in encoders.items()}, str(folder / "encoders.safetensors"))
    attach_lora(model, LoraSpec(r=4, alpha=8, dropout=0.0))
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    save_adapters(model, folder / "adapters.safetensors")
    return folder


def shipped_config() -> NanoEmoXConfig:
    """A tiny model that listens with a Whisper encoder."""
    speech = {"encoder": WHISPER_TINY, "window_s": 2.0}
    return tiny_config(speech=speech)


def wheel(index: Path, package: str, files: dict[str, Path], version: str = "1.0.0") -> Wheel:
    """Build a wheel into the index and return its record; each file also becomes a member of its own name."""
    index.mkdir(parents=True, exist_ok=True)
    module = package.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    texts = {f"{module}/__init__.py": b"raise SystemExit('code of the wheel was run')\n"}
    texts |= {f"{module}/data/{path.name}": path.read_bytes() for path in files.values()}
    texts[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode()
    texts[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{n},sha256={_b64(t)},{len(t)}\n" for n, t in texts.items())
    texts[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    path = index / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)
    members = tuple(
        Member(f"{module}/data/{p.name}", name.partition("#")[0], p.stat().st_size) for name, p in files.items()
    )
    data = path.read_bytes()
    return Wheel(package, version, hashlib.sha256(data).hexdigest(), len(data), members)


def _b64(text: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()


def parts(root: Path, index: Path, tensors_sha256: str) -> tuple[Part, Part]:
    """Language part in one wheel; speech part in two, and again in a second pair."""
    (root / "model.gguf").write_bytes(b"four-bit weights")
    language = wheel(index, "toy-language", {"model.gguf": root / "model.gguf"})
    whisper = whisper_files(root / "whisper")
    data = (whisper / "model.bin").read_bytes()
    pairs = []
    for name, cut in (("toy-first", len(data) // 3), ("toy-second", len(data) // 2)):
        folder = root / name
        folder.mkdir()
        (folder / "model.bin.part1").write_bytes(data[:cut])
        (folder / "model.bin.part2").write_bytes(data[cut:])
        for other in ("tokenizer.json", "config.json"):
            shutil.copy(whisper / other, folder)
        one = wheel(index, f"{name}-1", {"model.bin": folder / "model.bin.part1"})
        rest = {"model.bin": folder / "model.bin.part2"} | {n: folder / n for n in ("tokenizer.json", "config.json")}
        pairs.append((one, wheel(index, f"{name}-2", rest)))
    return (
        Part("Toy language", "Apache-2.0", ((language,),), "0" * 64, "by nobody"),
        Part("Toy Whisper", "MIT", tuple(pairs), tensors_sha256, "by nobody else"),
    )
