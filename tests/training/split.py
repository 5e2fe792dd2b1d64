"""Run by ``torchrun``: ``nanoemox train`` with a model split over CPU processes, watched while it trains.

Usage: split.py RECIPE DATA OUT MODEL [--resume] [--cuda]. A machine without CUDA is refused, so a CPU mesh is put in
the place of the real one unless --cuda is given; nothing else is replaced.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from nanoemox.data.ranks import processes
from nanoemox.training import command, sharding


def cpu_mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (processes().num_processes,))


class Watched(sharding.ShardedTrainer):
    """Says at every step what it trains."""

    seen: list[dict] = []  # noqa: RUF012 (of this process, over all phases)

    def training_step(self, model: torch.nn.Module, inputs: dict, *args: object) -> torch.Tensor:
        assert not isinstance(model, torch.nn.parallel.DistributedDataParallel)
        loss = super().training_step(model, inputs, *args)
        parameters = list(model.parameters())
        trained = [p for p in parameters if p.requires_grad]
        states = [v for state in self.optimizer.state.values() for k, v in state.items() if k != "step"]
        self.seen.append(
            {
                "split": all(isinstance(p, DTensor) for p in parameters),
                "gradients": all(isinstance(p.grad, DTensor) for p in trained),
                "states": all(isinstance(v, DTensor) for v in states),
                "media": "speech_last" in inputs,
                "here": sum(p.to_local().numel() for p in parameters) / sum(p.numel() for p in parameters),
            }
        )
        return loss


def main() -> None:
    recipe, data, out, model = map(Path, sys.argv[1:5])
    if "--cuda" not in sys.argv:
        sharding.process_mesh = cpu_mesh
    command.ShardedTrainer = Watched
    command.run_train(recipe, data, out, model, resume="--resume" in sys.argv, show=False)
    (out / f"seen-{processes().process_index}.json").write_text(json.dumps(Watched.seen))


if __name__ == "__main__":
    main()
