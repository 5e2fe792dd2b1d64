"""Convert the expression net of the npm package ``@vladmandic/face-api`` to our face encoder of kind ``expression``.

    npm pack @vladmandic/face-api@1.7.15 && tar xzf vladmandic-face-api-1.7.15.tgz
    python -m tools.small.expression --package package --out expression.safetensors

The package stores a weight as bytes with a scale and a least value; four bytes a number where it is not quantised.
Nothing of its code is run. Its own last layer (seven expressions) comes along under ``head.``, to check the conversion.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

NAME = "face_expression_model"
LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
"""Order of the net's own outputs."""


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return name -> float32 tensor in TensorFlow's order of axes."""
    manifest = json.loads((folder / f"{NAME}-weights_manifest.json").read_text("utf-8"))
    data = (folder / f"{NAME}.bin").read_bytes()
    out, at = {}, 0
    for entry in (e for group in manifest for e in group["weights"]):
        count = int(np.prod(entry["shape"]))
        values, used = _values(entry, data[at:], count)
        at += used
        out[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]).copy())
    if at != len(data):
        raise SystemExit(f"{folder}: {len(data)} bytes, {at} of them are described")
    return out


def _values(entry: dict[str, Any], data: bytes, count: int) -> tuple[np.ndarray, int]:
    packed = entry.get("quantization")
    if packed is None:
        return np.frombuffer(data, "<f4", count), 4 * count
    levels = np.frombuffer(data, np.dtype(packed["dtype"]), count).astype(np.float32)
    size = np.dtype(packed["dtype"]).itemsize * count
    return levels * np.float32(packed["scale"]) + np.float32(packed["min"]), size


def converted(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names and in the order of axes of ``model.expression.ExpressionNet``."""
    out = {}
    for name, value in weights.items():
        parts = name.split("/")
        if parts[0] == "fc":
            out[f"head.{'weight' if parts[1] == 'weights' else 'bias'}"] = (
                value.T.contiguous() if value.ndim == 2 else value
            )
            continue
        block, convolution, kind = int(parts[0].removeprefix("dense")), int(parts[1].removeprefix("conv")), parts[2]
        place = f"blocks.{block}.convolutions.{convolution}."
        if kind == "depthwise_filter":
            out[place + "depthwise.weight"] = value.permute(2, 3, 0, 1).contiguous()
        elif kind in ("pointwise_filter", "filters"):
            layer = "pointwise." if kind == "pointwise_filter" else ""
            out[f"{place}{layer}weight"] = value.permute(3, 2, 0, 1).contiguous()
        else:
            layer = "" if (block, convolution) == (0, 0) else "pointwise."
            out[f"{place}{layer}bias"] = value
    return out


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--package", type=Path, required=True, help="the unpacked package")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    state = converted(read_weights(args.package / "model"))
    save_file(state, args.out, metadata={"format": "pt", "source": "@vladmandic/face-api 1.7.15, MIT"})
    print(f"{args.out}: {sum(v.numel() for v in state.values()) / 1e6:.2f} M")


if __name__ == "__main__":
    main()
