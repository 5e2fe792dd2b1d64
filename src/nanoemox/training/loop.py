"""The training loop, based on ``transformers.Trainer`` with its Accelerate support, resume and logging.

Our additions: positions are drawn in order, so resuming skips them exactly; a loss or gradient that is not finite
stops the run before the optimiser steps and names the samples; a checkpoint holds the trainable parameters, the
optimiser and random states, and is written atomically.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections import defaultdict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from nanoemox.data.files import read_lines, write_text
from nanoemox.model.lora import group_of, load_adapters, save_adapters
from nanoemox.training.collate import IDS, Collator, Draws, SortedWindows
from nanoemox.training.objectives import Objective, Start
from nanoemox.training.objectives.cross_entropy import CrossEntropy
from nanoemox.training.phases import Curriculum, Phase
from nanoemox.types import NanoEmoXError, RecipeError

ADAPTERS = "adapters.safetensors"
_PARTIAL = ".partial"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
logger = logging.getLogger(__name__)


class NonFiniteError(NanoEmoXError):
    """Training met a loss or gradient that is not a number; nothing was changed by that step."""


class Guard(TrainerCallback):
    """Stops before an optimiser step whose losses or gradients are not finite.

    The device is synchronised once a step, for everything together: after every micro-batch it would be idle while
    the next one is prepared.

    Attributes:
        window: Ids of the samples since the last step.
        losses: float[] of every micro-batch since the last step, on the device.
    """

    def __init__(self) -> None:
        self.window: list[str] = []
        self.losses: list[Tensor] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the intervals of the recipe, which may differ from those of the checkpoint."""
        state.save_steps, state.logging_steps = int(args.save_steps), int(args.logging_steps)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget the samples of the step before."""
        self.window.clear()
        self.losses.clear()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check every loss and every gradient."""
        gradients = {n: p.grad for n, p in kwargs["model"].named_parameters() if p.grad is not None}
        # Each process of a sharded model checks its part; one failure stops all.
        parts = [g.to_local() if isinstance(g, DTensor) else g for g in gradients.values()]
        sums = [g.abs().sum().float() for g in parts]
        finite = torch.isfinite(torch.stack([*(loss.float() for loss in self.losses), *sums])).tolist()
        of_losses, of_gradients = finite[: len(self.losses)], finite[len(self.losses) :]
        if not all(of_losses):
            loss = self.losses[of_losses.index(False)].item()
            raise NonFiniteError(self.message(f"loss {loss}", state.global_step))
        if not all(of_gradients):
            bad = [n for n, fine in zip(gradients, of_gradients, strict=True) if not fine]
            raise NonFiniteError(self.message(f"gradient of {bad[0]} and {len(bad) - 1} more", state.global_step))

    def message(self, what: str, step: int) -> str:
        """Return a message with the batch and the remedy."""
        return (
            f"{what} is not finite at step {step + 1}; samples: {', '.join(self.window)}; nothing was updated: "
            "lower lr or clip_norm, or look at these samples, then --resume"
        )


class Progress(TrainerCallback):
    """A bar with the time left, on standard error, and one line of JSON for every log."""

    def __init__(self, name: str, metrics: Path, *, show: bool) -> None:
        self.name, self.metrics, self.show = name, metrics, show
        self.bar: Bar | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar; drop the lines of steps that a resumed run repeats."""
        if not state.is_world_process_zero:
            return
        old = read_lines([self.metrics]) if self.metrics.is_file() else []
        kept = (json.dumps(row) + "\n" for row in old if row["step"] <= state.global_step)
        write_text(self.metrics, "".join(kept))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Bar(*columns, console=Console(stderr=True), disable=not self.show)
        self.task = self.bar.add_task(self.name, total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.advance(self.task)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the line."""
        if self.bar is None:
            return
        logs: Mapping[str, float] = kwargs["logs"]
        if "loss" in logs:
            self.bar.update(self.task, description=f"{self.name} loss {logs['loss']:.3f}")
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **logs}) + "\n")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.stop()


class P2ETrainer(Trainer):
    """Trains one phase.

    Args:
        model: The model, frozen except for the trainable parameters.
        args: From :func:`training_arguments`.
        data: Examples by position.
        collator: Examples -> batch.
        groups: Groups of parameters that checkpoints hold.
        objective: The objective.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        data: Draws,
        collator: Collator,
        groups: frozenset[str],
        objective: Objective | None = None,
    ) -> None:
        self.groups = groups
        self.guard = Guard()
        self.noted: dict[str, list[float]] = defaultdict(list)
        super().__init__(model=model, args=args, train_dataset=data, data_collator=collator, callbacks=[self.guard])
        self.remove_callback(PrinterCallback)
        self._run_dir: str | None = None
        start = Start(self.model, collator.processor, self.get_total_train_batch_size(args), self._note)
        self.loss = (objective or CrossEntropy()).begin(start)
        self.compute_loss_func = self.loss  # tells the library that accumulation is accounted for
        self._keep_trainable()

    def _keep_trainable(self) -> None:
        """Let text alone reach the adapters, with a gradient of zero: with a frozen language model it trains nothing.

        This happens inside ``forward``: several processes wait there for the gradients of whatever it reaches.
        """

        def add_nothing(
            decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            embeds: Tensor = kwargs["inputs_embeds"]
            if torch.is_grad_enabled() and not embeds.requires_grad:
                trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
                if "lora" not in map(group_of, trained):
                    embeds = embeds + (0 * sum(p.sum() for p in trained.values())).to(embeds.dtype)
            return args, kwargs | {"inputs_embeds": embeds}

        self.model.get_decoder().register_forward_pre_hook(add_nothing, with_kwargs=True)

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        args = self.args
        batch, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
        processes = self.get_total_train_batch_size(args) // (batch * accumulation)
        return SortedWindows(self.train_dataset, batch, processes, accumulation)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Start workers anew: threads of torch and of CUDA do not survive a fork."""
        loader = super().get_train_dataloader()
        if self.args.dataloader_num_workers:
            loader.multiprocessing_context = "spawn"
        return loader

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the loss of a micro-batch as its share of the accumulation window's."""
        self.guard.window += inputs[IDS]
        batch = {k: v for k, v in inputs.items() if k != IDS}
        # Gradients are averaged over processes, but each loss is a share of the sum over all of them.
        loss = self.loss(model, batch, num_items_in_batch) * self.accelerator.num_processes
        self.guard.losses.append(loss.detach())
        return (loss, {}) if return_outputs else loss

    def _note(self, name: str, value: float) -> None:
        self.noted[name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the objective has noted since the last line."""
        noted = {name: sum(values) / len(values) for name, values in self.noted.items()}
        self.noted.clear()
        super().log(logs | noted, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        # The library calls this in every process.
        path = Path(str(output_dir)) / ADAPTERS
        save_adapters(self.accelerator.unwrap_model(self.model), path, self.groups, write=self.args.should_save)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_adapters(model or self.model, Path(resume_from_checkpoint) / ADAPTERS, self.groups)

    def _get_output_dir(self, trial: Any) -> str:
        return self._run_dir or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the checkpoint under a temporary name, then rename it and drop old ones."""
        folder = Path(self.args.output_dir)
        partial = folder / _PARTIAL
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._run_dir = str(partial)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._run_dir = None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            name = f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder / name, ignore_errors=True)
            (partial / name).rename(folder / name)
            partial.rmdir()
            steps = {int(found[1]): p for p in folder.iterdir() if (found := _CHECKPOINT.fullmatch(p.name))}
            ordered = [steps[step] for step in sorted(steps)]
            for old in ordered[: -(self.args.save_total_limit or 1)]:
                shutil.rmtree(old)


def training_arguments(folder: Path, curriculum: Curriculum, phase: Phase) -> TrainingArguments:
    """Translate a phase into the library's arguments.

    Raises:
        RecipeError: An experiment tracker is not installed.
    """
    for tracker in curriculum.report_to:
        if not find_spec(tracker):
            raise RecipeError(f"report_to: {tracker} is not installed: pip install {tracker}, or leave it out")
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=not torch.accelerator.is_available(),
        max_steps=phase.steps,
        per_device_train_batch_size=phase.micro_batch,
        gradient_accumulation_steps=phase.accumulation,
        learning_rate=phase.lr,
        lr_scheduler_type=phase.schedule,
        lr_scheduler_kwargs={"min_lr": phase.min_lr} if phase.min_lr else None,
        warmup_steps=round(phase.warmup * phase.steps),
        weight_decay=phase.weight_decay,
        max_grad_norm=phase.clip_norm,
        bf16=curriculum.precision == "bf16",
        logging_steps=curriculum.log_every,
        logging_nan_inf_filter=False,
        save_steps=phase.save_every,
        save_total_limit=curriculum.keep_checkpoints,
        seed=curriculum.seed,
        remove_unused_columns=False,
        dataloader_num_workers=phase.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        # A batch may lack a modality; its adapter then gets no gradient on some ranks. Of LoRA every batch uses all.
        ddp_find_unused_parameters=phase.trainable != frozenset({"lora"}),
        disable_tqdm=True,
        report_to=list(curriculum.report_to),
    )
    # One process computes on one GPU: the library would split a batch over all that it sees, prompts and media apart.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest whole checkpoint of a phase."""
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None
