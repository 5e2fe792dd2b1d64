"""Rank of this process among those that ``torchrun`` or ``accelerate launch`` started."""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import PartialState

PATIENCE = timedelta(days=30)
"""Ranks wait for the slowest, or for the first to fill a cache; the libraries' own limit of minutes would end them."""


def processes() -> PartialState:
    """Return rank and number of processes; one process where nothing was launched.

    Without an accelerator ``cpu=True`` is needed: otherwise every process of ``torchrun`` assumes that it is
    alone, and all do the same work side by side.
    """
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)
