"""Adaptive task weights, off by default: tasks whose validation loss lags are drawn more often.

The paper's readers name it as the next step. Every so many steps the loss of each task on a few held-out samples is
compared with what it was at the start of the phase; a task that has kept more of its loss than the others gets a
larger share of the next steps, within a factor of its own in the recipe. Each decision is a line of
``balance.jsonl``, and a resumed run reads them back, so that it draws what an uninterrupted run draws.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nanoemox.data.files import read_lines, write_text
from nanoemox.data.mixture import BalancedMixture
from nanoemox.data.ranks import processes
from nanoemox.training.phases import Balance


def balanced_weights(
    weights: Mapping[str, float], before: Mapping[str, float], now: Mapping[str, float], balance: Balance
) -> dict[str, float]:
    """Raise what lags.

    Args:
        weights: Selector -> weight of the recipe.
        before: Selector -> validation loss at the start of the phase.
        now: Selector -> validation loss now.
        balance: How strongly, and within which bounds.

    Returns:
        Selector -> weight; within a task the recipe's proportions stay, and the sum is the recipe's.
    """
    tasks: dict[str, list[str]] = {}
    for selector in weights:
        tasks.setdefault(selector.split("/")[1], []).append(selector)
    kept = {}
    for task, selectors in tasks.items():
        measured = [s for s in selectors if s in before and s in now]
        first, last = (sum(weights[s] * loss[s] for s in measured) for loss in (before, now))
        kept[task] = last / first if first > 0 else None
    known = [k for k in kept.values() if k is not None]
    usual = sum(known) / len(known) if known else 1.0
    raised: dict[str, float] = {}
    for task, selectors in tasks.items():
        share = kept[task]
        factor = 1.0 if share is None or usual <= 0 else (share / usual) ** balance.strength
        factor = min(max(factor, 1 / balance.most), balance.most)
        raised |= {s: weights[s] * factor for s in selectors}
    scale = sum(weights.values()) / sum(raised.values())
    return {s: w * scale for s, w in raised.items()}


class Balancer(TrainerCallback):
    """Measures and changes the mixture while a phase trains.

    Args:
        mixture: What the phase draws from.
        weights: Selector -> weight of the recipe.
        balance: When and how strongly.
        measure: Returns selector -> validation loss; called by every process, a split model needs them all.
        record: ``balance.jsonl`` of the phase.
    """

    def __init__(
        self,
        mixture: BalancedMixture,
        weights: Mapping[str, float],
        balance: Balance,
        measure: Callable[[], Mapping[str, float]],
        record: Path,
    ) -> None:
        self.mixture, self.weights, self.balance, self.measure, self.record = mixture, weights, balance, measure, record
        self.before: Mapping[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the decisions of the run that is resumed, or measure where the phase starts."""
        rows = [row for row in self._rows() if row["step"] <= state.global_step]
        processes().wait_for_everyone()  # all have read, and agree on whether to measure, before the first one writes
        rows = rows or [{"step": 0, "losses": dict(self.measure())}]
        with processes().main_process_first():
            if state.is_world_process_zero:
                write_text(self.record, "".join(json.dumps(row) + "\n" for row in rows))
        first, *changes = self._rows()
        self.before = first["losses"]
        for row in changes:
            self.mixture.change(row["position"], row["weights"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Decide, every so many steps, for the steps after the next: that one may be loaded already."""
        if state.global_step % self.balance.every or state.global_step >= state.max_steps:
            return
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        now = dict(self.measure())
        with processes().main_process_first():
            if state.is_world_process_zero:  # one decides and writes, all read: their weights are the same to the bit
                weights = balanced_weights(self.weights, self.before, now, self.balance)
                position = (state.global_step + 1) * batch
                row = {"step": state.global_step, "position": position, "losses": now, "weights": weights}
                with self.record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        last = self._rows()[-1]
        self.mixture.change(last["position"], last["weights"])

    def _rows(self) -> list[dict[str, Any]]:
        return read_lines([self.record]) if self.record.is_file() else []
