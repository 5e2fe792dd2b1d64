"""What a bug report needs to know about a machine: versions, device, decoders, models."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("nanoemox", "torch", "transformers", "peft", "tokenizers", "numpy", "av", "opencv-python-headless")
CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "aac", "mp3", "opus", "vorbis", "flac", "mjpeg", "png", "webp")


def describe_environment() -> dict[str, Any]:
    """Return plain values for JSON; nothing is fetched and no path of the user is included."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "device": _device(),
        "decoders": _decoders(),
        "models": {"embedded": _embedded(), "pulled": _pulled(), "cached": _cached()},
    }


def format_environment(found: dict[str, Any]) -> str:
    """Format it as text."""
    device, decoders, models = found["device"], found["decoders"], found["models"]
    lines = [f"{name:<24}{value or 'missing'}" for name, value in found["packages"].items()]
    lines += [
        f"{'python':<24}{found['python']} on {found['system']}",
        f"{'device':<24}{device['name']}, {device['dtype']}, {device['threads']} threads of {device['cores']} cores",
        f"{'decoders':<24}{' '.join(k for k, ok in decoders.items() if ok)}",
        f"{'decoders missing':<24}{' '.join(k for k, ok in decoders.items() if not ok) or 'none'}",
        f"{'embedded model':<24}{models['embedded'] or 'none in this build'}",
        f"{'pulled models':<24}{', '.join(models['pulled']) or 'none'}",
        f"{'cached hub models':<24}{', '.join(models['cached']) or 'none'}",
    ]
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    import torch

    from nanoemox.inference.checkpoints import pick_device

    chosen = pick_device("auto")
    on_cuda = chosen.type == "cuda"
    return {
        "name": torch.cuda.get_device_name(chosen) if on_cuda else chosen.type,
        "type": chosen.type,
        "dtype": "bfloat16" if on_cuda else "float32",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def _decoders() -> dict[str, bool]:
    import av

    return {name: name in av.codecs_available for name in CODECS}


def _embedded() -> str | None:
    from nanoemox.weights.home import EMBEDDED, shipped_model

    return None if shipped_model(EMBEDDED) is None else EMBEDDED


def _pulled() -> list[str]:
    from nanoemox.weights.home import pulled_models

    return [m.name for m in pulled_models()]


def _cached() -> list[str]:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        return sorted(repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "model")
    except CacheNotFound:
        return []
