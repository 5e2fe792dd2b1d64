"""FSDP2: parameters, gradients and optimiser states of a model sharded over the processes of a mesh.

Every block of the language model and of the encoders is a unit, gathered just before it runs; the rest
(embeddings, adapters, fusion) belongs to the root, which is gathered in every forward pass. Frozen and trained
parameters may mix.

Accelerate's own FSDP2 is not used: without CUDA it silently trains copies, and its checkpoints hold the frozen
parts. Our checkpoints equal those of an unsharded run.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from nanoemox.data.ranks import processes
from nanoemox.model.lora import group_of, save_adapters, whole
from nanoemox.training.loop import ADAPTERS, P2ETrainer
from nanoemox.types import RecipeError


def check_fsdp(wanted: bool) -> None:
    """Raise if the launcher or the machine cannot shard the model.

    Args:
        wanted: Whether the recipe says ``fsdp: true``.

    Raises:
        RecipeError: The launcher requests FSDP, or the recipe does where it is not possible.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        raise RecipeError(
            "accelerate is configured for FSDP, which this trainer does by itself: launch without it "
            "(accelerate launch --multi_gpu, or torchrun) and set fsdp: true in the recipe"
        )
    if wanted:
        process_mesh()


def process_mesh() -> DeviceMesh:
    """Return the mesh of all processes, each with a CUDA device.

    Raises:
        RecipeError: There is no such device, or one process only.
    """
    if not torch.cuda.is_available():
        raise RecipeError(
            "fsdp: true splits the model over CUDA devices, and there is none: leave fsdp out of the recipe, "
            "then every process trains on a copy of the model"
        )
    count = processes().num_processes
    if count < 2:
        raise RecipeError(
            f"fsdp: true splits the model over processes, and there is {count}: start two or more with "
            "torchrun --nproc-per-node N -m nanoemox train ..., or leave fsdp out of the recipe"
        )
    return init_device_mesh("cuda", (count,))


def shard(model: nn.Module, mesh: DeviceMesh) -> Touch:
    """Split a model over a one-dimensional mesh, in place; its parameters become ``DTensor``.

    Processes may show different branches as features; raw media, which need the encoders, must be of the same branches
    on all of them.

    Args:
        model: The whole model, the same on every process, with LoRA attached and trainable parameters set.
        mesh: Mesh of the processes.

    Returns:
        The function to call before each optimiser step: :meth:`Touch.drop_idle`.
    """
    touch = Touch(model)  # first: its hooks must see the gathered parameters
    for blocks in block_lists(model):
        for block in blocks:
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return touch


class Touch:
    """Makes processes with different branches in their batches run the same collectives.

    Adds zero from every trainable adapter to the embeddings, so each has at least a gradient of zero to
    share, and every backward pass goes through all of the language model. A gradient that no process needed is then
    removed again, so that the optimiser skips its parameters, as in an unsharded model.

    Args:
        model: The model with trainable parameters set, not sharded yet.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        trained = {group_of(n) for n, p in model.named_parameters() if p.requires_grad} - {None}
        self.adapters = sorted(str(group) for group in trained if group != "lora")
        self.may_be_idle = "lora" in trained
        self.ran: set[str] = set()
        for name in self.adapters:
            model.get_submodule(name).register_forward_hook(partial(self._note, name))
        model.get_decoder().register_forward_pre_hook(self._add_nothing, with_kwargs=True)

    def _note(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if torch.is_grad_enabled():
            self.ran.add(name)

    def _add_nothing(
        self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        embeds: Tensor = kwargs["inputs_embeds"]
        if torch.is_grad_enabled():
            if not embeds.requires_grad and not self.may_be_idle:
                self.ran.update(self.adapters)  # nothing to learn here: the step of a whole model counts zeros as well
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad and group_of(name) in self.adapters:
                    embeds = embeds + (0 * parameter.sum()).to(embeds.dtype)
        return args, kwargs | {"inputs_embeds": embeds}

    def drop_idle(self) -> None:
        """Remove the gradients of adapters that ran on no process since the last call; every process must call it."""
        device = next(self.model.parameters()).device
        ran = torch.tensor([name in self.ran for name in self.adapters], dtype=torch.int32, device=device)
        dist.all_reduce(ran)
        idle = {name for name, count in zip(self.adapters, ran.tolist(), strict=True) if not count}
        for name, parameter in self.model.named_parameters():
            if group_of(name) in idle:
                parameter.grad = None
        self.ran.clear()


def block_lists(model: nn.Module) -> list[nn.ModuleList]:
    """Find the outermost lists of equal blocks with parameters: layers of encoders and language model.

    Layers of an adapter are not among them: a process whose batch does not show its branch would not gather them while
    the others wait for it.
    """
    found: list[nn.ModuleList] = []
    inner: set[int] = set()
    for name, module in model.named_modules():
        if id(module) in inner or group_of(name) is not None:
            continue
        if not isinstance(module, nn.ModuleList) or len(module) < 2:
            continue
        if (
            len({type(block) for block in module}) == 1
            and isinstance(module[0], nn.Module)
            and list(module[0].children())
        ):
            found.append(module)
            inner |= {id(m) for m in module.modules()}
    return found


class ShardedTrainer(P2ETrainer):
    """Trains one phase with the model sharded over all processes; its checkpoints are those of :class:`P2ETrainer`."""

    def create_accelerator_and_postprocess(self) -> None:
        """Let the library prepare a sharded model for mixed precision only: it would wrap copies."""
        super().create_accelerator_and_postprocess()
        prepare = self.accelerator.prepare_model

        def prepare_split(model: nn.Module, **_: Any) -> nn.Module:
            return prepare(model, device_placement=False, evaluation_mode=True)

        self.accelerator.prepare_model = prepare_split

    def _keep_trainable(self) -> None:
        pass  # Touch does this, after sharding

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Shard the model after the checkpoint was loaded, then collect its parameters."""
        if not isinstance(self.model, FSDPModule):
            self.touch = shard(self.model, process_mesh())
        optimizer: Optimizer = super().create_optimizer(model)
        optimizer.register_state_dict_post_hook(_gather)
        optimizer.register_load_state_dict_pre_hook(_split)
        return optimizer

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        self.touch.drop_idle()
        return whole(super()._clip_grad_norm(model))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Gather the trainable parameters on every process; the first one writes them."""
        save_adapters(self.model, Path(str(output_dir)) / ADAPTERS, self.groups, write=self.args.should_save)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.args.should_save:
            self.optimizer.state_dict()  # the process that writes cannot gather alone
        super()._save_optimizer_and_scheduler(output_dir)


def _gather(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Gather a sharded state."""
    held = state["state"]
    return state | {"state": {i: {k: whole(v) for k, v in held[i].items()} for i in sorted(held)}}


def _split(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Shard a whole state like the parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    held = state["state"]
    return state | {"state": {i: {k: _like(parameters[i], v) for k, v in held[i].items()} for i in sorted(held)}}


def _like(parameter: Tensor, value: Any) -> Any:
    """Shard a value of a parameter's shape like the parameter; others (the step count) stay."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
