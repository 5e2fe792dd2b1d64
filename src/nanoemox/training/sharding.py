"""FSDP2: parameters, gradients and optimiser states of a model split over the processes of a mesh.

Every block of the language model and of the encoders is a unit of its own, gathered just before it runs; what is left
(embeddings, adapters, fusion) belongs to the root. Frozen and trained parameters may mix.
"""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard


def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Split a model over a one-dimensional mesh, in place; its parameters become ``DTensor``.

    Args:
        model: The whole model, the same on every process, LoRA attached and what trains set beforehand.
        mesh: Of the processes that share it.
    """
    for blocks in _block_lists(model):
        for block in blocks:
            fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def _block_lists(model: nn.Module) -> list[nn.ModuleList]:
    """Find the outermost lists of equal blocks with parameters: layers of encoders and language model."""
    found: list[nn.ModuleList] = []
    inner: set[int] = set()
    for module in model.modules():
        if id(module) in inner or not isinstance(module, nn.ModuleList) or len(module) < 2:
            continue
        if (
            len({type(block) for block in module}) == 1
            and isinstance(module[0], nn.Module)
            and list(module[0].children())
        ):
            found.append(module)
            inner |= {id(m) for m in module.modules()}
    return found
