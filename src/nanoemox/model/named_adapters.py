"""Several named adapter sets on one base model, one of them active.

Sets are files of :func:`~nanoemox.model.lora.save_adapters`, such as each phase of a run writes. The LoRA matrices of
all sets are kept in the model, so switching only changes which are active; tensors of adapters and fusion are copied.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch
from torch import Tensor

from nanoemox.model.lora import attach_lora, check_fit, group_names, group_of, lora_layers, read_adapters
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.types import CheckpointError

_LORA = "lora"


class NamedAdapters:
    """Adapter sets of a model used for inference, which must have no LoRA attached.

    Switching changes the model for all its users, so no answer may be in progress.

    Attributes:
        current: Name of the active set; None is the base model alone.
    """

    def __init__(self, model: NanoEmoXForConditionalGeneration) -> None:
        if lora_layers(model):
            raise CheckpointError("LoRA is attached already: fold_lora(model) first")
        self.model = model
        self.current: str | None = None
        self._own = {n: t for n, t in model.state_dict().items() if group_of(n) in set(group_names()) - {_LORA}}
        self._base = {n: t.clone() for n, t in self._own.items()}
        self._sets: dict[str, dict[str, Tensor]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The sets in the order in which they were added."""
        return tuple(self._sets)

    def add(self, name: str, path: str | Path) -> None:
        """Load a set and make it active.

        Args:
            name: Its name: letters, digits, ``_`` and ``-``; not that of another set.
            path: Its file.

        Raises:
            CheckpointError: The name is invalid or taken, or the file does not fit the model.
        """
        if name in self._sets or not re.fullmatch(r"[\w-]+", name):
            taken = f", and not {', '.join(self._sets)}" if self._sets else ""
            raise CheckpointError(f"adapters {name!r}: give a name of letters, digits, _ and -{taken}")
        state, spec = read_adapters(path)
        held = {group_of(n) for n in state}
        plain = {n: t for n, t in state.items() if group_of(n) != _LORA}
        check_fit(path, plain, {n: t for n, t in self._own.items() if group_of(n) in held})
        if spec is not None:
            attach_lora(self.model, spec, name)
            matrices = {f"{found[1]}.default.{found[2]}": t for n, t in self.model.state_dict().items()
                        if (found := re.fullmatch(rf"(.*\.lora_\w+)\.{re.escape(name)}\.(.*)", n))}  # fmt: skip
            lora = {n: t for n, t in state.items() if n not in plain}
            try:
                check_fit(path, lora, matrices)
            except CheckpointError:
                with warnings.catch_warnings(action="ignore", category=UserWarning):  # that it was active
                    for layer in lora_layers(self.model).values():
                        layer.delete_adapter(name)
                self.use(self.current)
                raise
            for n, tensor in lora.items():
                matrices[n].copy_(tensor)
        self._sets[name] = {n: t.to(self._own[n]) for n, t in plain.items()}
        self.use(name)

    @torch.no_grad()
    def use(self, name: str | None) -> None:
        """Make a set active; None is the base model alone.

        Raises:
            CheckpointError: There is no such set.
        """
        if name is not None and name not in self._sets:
            raise CheckpointError(f"no adapters {name!r}: there are {', '.join(self._sets) or 'none yet'}")
        for layer in lora_layers(self.model).values():
            has = name in layer.lora_A
            layer.enable_adapters(has)
            if has:
                layer.set_adapter(name, inference_mode=True)
        chosen = self._base if name is None else self._base | self._sets[name]
        for n, tensor in chosen.items():
            self._own[n].copy_(tensor)
        self.current = name
