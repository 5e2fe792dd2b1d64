"""Run by ``torchrun``: trains a tiny model split over the processes, and checkpoints it across numbers of them.

Usage: sharded.py MODE FOLDER. Every mode prints one line of JSON from the first process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import load, save
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from nanoemox.model.lora import LoraSpec, adapter_state, attach_lora
from nanoemox.model.processing import Ask
from nanoemox.training.freeze import set_trainable
from nanoemox.training.sharding import shard
from tests.tiny import tiny_clip, tiny_config, tiny_model, tiny_processor

GROUPS = ("vision_adapter", "speech_adapter", "face_adapter", "fusion", "lora")


def build(*, seed: int = 0) -> torch.nn.Module:
    calm = {branch: {"dropout": 0.0} for branch in ("vision", "speech", "face", "fusion")}
    model = tiny_model(tiny_config(**calm), seed)
    torch.manual_seed(seed)
    attach_lora(model, LoraSpec(r=4, alpha=8, dropout=0.0))
    set_trainable(model, GROUPS)
    return model.train()


def batch(which: slice) -> dict:
    clips = [tiny_clip(i, without=("face",) if i % 2 else ()) for i in range(4)][which]
    asks = [Ask("mer", ("happy", "sad"), answer="happy" if i % 2 else "sad") for i in range(4)][which]
    return dict(tiny_processor()(clips, asks, padding_side="right"))


def train(model: torch.nn.Module, which: slice, steps: int = 2) -> list[float]:
    """Losses of the whole batch before each step; ``which`` is this process' share of it."""
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    inputs, losses = batch(which), []
    for _ in range(steps + 1):
        loss = model(**inputs, use_cache=False).loss
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        losses.append(float(mean) / dist.get_world_size())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


def main() -> None:
    mode, folder = sys.argv[1], Path(sys.argv[2])
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    share = slice(rank * 4 // world, (rank + 1) * 4 // world)
    model = build(seed=0 if mode != "load" else 1)
    whole = sum(p.numel() for p in model.parameters())
    if world > 1 or mode == "shard-alone":
        shard(model, init_device_mesh("cpu", (world,)))
    out: dict = {"world": world, "whole": whole}
    unsplit, gathered = adapter_state(build(seed=0 if mode != "load" else 1)), adapter_state(model)
    out["gathered"] = unsplit.keys() == gathered.keys() and all(map(torch.equal, unsplit.values(), gathered.values()))
    out["dtensor"] = all(isinstance(p, DTensor) for p in model.parameters())
    out["here"] = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in model.parameters())
    if mode == "load":
        state = get_model_state_dict(model)
        load(state, checkpoint_id=folder / "checkpoint")
        set_model_state_dict(model, state)
    out["losses"] = train(model, share, steps=0 if mode == "load" else 2)
    if mode != "load":
        save(get_model_state_dict(model), checkpoint_id=folder / "checkpoint")
        with torch.no_grad():
            after = model(**batch(share), use_cache=False).loss.detach().clone()
        dist.all_reduce(after)
        out["after"] = float(after) / world
    if rank == 0:
        (folder / f"{mode}-{world}.json").write_text(json.dumps(out))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
