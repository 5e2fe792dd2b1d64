"""A curriculum as data: phases, each with trainable groups, a mixture, and the earlier phases that it starts from.

Selectors of a mixture are ``corpus/task``; ``*/task`` stands for every corpus of the recipe's ``corpora`` that has
the task, in proportion to size. Weights count samples and need not sum to one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from nanoemox.data.manifest import Sample
from nanoemox.data.mixture import BalancedMixture, Mixture, seeded
from nanoemox.model.branches import BRANCHES
from nanoemox.model.lora import group_names
from nanoemox.recipes import Strict, load_recipe
from nanoemox.tasks import TASKS
from nanoemox.training.objectives import OBJECTIVES, Objective
from nanoemox.types import RecipeError

SEEDS = 2**32
"""Upper bound of seeds, exclusive, as in the libraries."""
Schedule = Literal["constant_with_warmup", "cosine", "cosine_with_min_lr", "linear"]

_RESERVED = ("data", "features", "model")
"""Folders of a run that are no phases."""


class Lora(Strict):
    """Size of LoRA, and the first layer that has it. Paper: r 32, alpha 16. Reference: r 16, alpha 32, dropout 0.05."""

    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.05, ge=0, lt=1)
    first_layer: int = Field(0, ge=0)


class Balance(Strict):
    """Adaptive task weights.

    Attributes:
        every: Steps between decisions.
        strength: Exponent of a task's relative remaining loss; 0 changes nothing.
        most: Largest factor by which a weight changes.
        samples: Held-out samples of each selector that are measured.
    """

    every: int = Field(200, ge=1)
    strength: float = Field(1.0, ge=0)
    most: float = Field(2.0, ge=1)
    samples: int = Field(32, ge=1)


class Phase(Strict):
    """One phase.

    Attributes:
        start_from: Phases whose weights this one starts with (``from`` in the file).
        trainable: Groups of trainable parameters; everything else is frozen.
        mixture: Selector -> weight.
        subset: Selector -> fixed share of its training samples that is used.
        modalities: Modalities shown in this phase; the others are withheld.
        modality_dropout: Modality -> dropout probability; at least one medium of a sample is kept.
        think_share: Share of empathy samples with the chain before the reply.
        lr: Highest learning rate.
        min_lr: Lowest one, for ``cosine_with_min_lr``.
        steps: Optimiser steps.
        micro_batch: Samples per forward pass and process.
        accumulation: Forward passes per step.
        warmup: Share of warm-up steps.
        schedule: Learning rate schedule after that.
        clip_norm: Maximum gradient norm.
        weight_decay: Weight decay of matrices; vectors are not decayed.
        lora: Size of LoRA, if ``lora`` trains.
        save_every: Steps between checkpoints.
        workers: Processes that read and collate the next samples, which pays beside a GPU; 0 does so in between steps.
        balance: Adaptive task weights; none by default.
        objective: The objective, a key of :data:`nanoemox.training.objectives.OBJECTIVES`.
        objective_settings: Fields of the objective.
        replay: Share of samples drawn from the mixtures of earlier phases: those in ``from`` and their ancestors, in
            equal parts.
    """

    start_from: tuple[str, ...] = Field((), alias="from")
    trainable: frozenset[str] = Field(min_length=1)
    mixture: dict[str, float] = Field(min_length=1)
    subset: dict[str, float] = Field({})
    modalities: tuple[str, ...] = Field(default_factory=lambda: _modalities())
    modality_dropout: dict[str, float] = Field({})
    think_share: float = Field(1.0, ge=0, le=1)
    lr: float = Field(gt=0)
    min_lr: float = Field(0.0, ge=0)
    steps: int = Field(ge=1)
    micro_batch: int = Field(ge=1)
    accumulation: int = Field(1, ge=1)
    warmup: float = Field(0.03, ge=0, lt=1)
    schedule: Schedule = "cosine"
    clip_norm: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    lora: Lora | None = None
    save_every: int = Field(500, ge=1)
    workers: int = Field(0, ge=0, le=64)
    balance: Balance | None = None
    objective: str = "cross_entropy"
    objective_settings: dict[str, Any] = Field({})
    replay: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_names("trainable", self.trainable, group_names())
        for field in ("modalities", "modality_dropout"):
            _check_names(field, getattr(self, field), _modalities())
        if ("lora" in self.trainable) != (self.lora is not None):
            raise ValueError("lora must be sized (lora: {r, alpha, dropout}) exactly where 'lora' is in trainable")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective {self.objective!r} is unknown: choose {', '.join(OBJECTIVES)}")
        self.build_objective()  # so that wrong settings are found before training starts
        if self.workers and self.balance is not None:
            raise ValueError(f"workers {self.workers}: balance changes the mixture on the way, so it must be 0")
        if self.replay and not self.start_from:
            raise ValueError(f"replay {self.replay} draws from earlier phases: name them in 'from'")
        for selector, weight in self.mixture.items():
            if selector.count("/") != 1 or selector.split("/")[1] not in TASKS:
                raise ValueError(f"selector {selector!r} must be corpus/task with a task of {', '.join(TASKS)}")
            if weight <= 0:
                raise ValueError(f"weight of {selector!r} must be positive, got {weight}; remove the line instead")
        for selector, share in self.subset.items():
            if selector not in self.mixture or not 0 < share <= 1:
                raise ValueError(f"subset.{selector} must be a line of the mixture with a share in 0..1, got {share}")
        if (self.min_lr > 0) != (self.schedule == "cosine_with_min_lr") or self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} belongs to schedule cosine_with_min_lr and lies below lr {self.lr}")
        for modality, chance in self.modality_dropout.items():
            if not 0 <= chance < 1:
                raise ValueError(f"modality_dropout.{modality} must be in 0..1 (1 excluded), got {chance}")
        return self

    def build_objective(self) -> Objective:
        """Return the objective with its settings."""
        return OBJECTIVES[self.objective].model_validate(self.objective_settings)

    def sources(self, samples: Mapping[str, Sequence[Sample]], split: str) -> dict[str, list[Sample]]:
        """Return the samples of each selector of a split, ``*`` as one source."""
        return {
            selector: [s for s in _of(samples, selector.split("/")[0]) if s.split == split and s.task == task]
            for selector, task in ((k, k.split("/")[1]) for k in self.mixture)
        }

    def draw(self, samples: Mapping[str, Sequence[Sample]], seed: int) -> Mixture | BalancedMixture:
        """Build the training mixture; its weights can change if ``balance`` is set."""
        sources = self.sources(samples, "train")
        for selector, share in self.subset.items():
            of = sources[selector]
            kept = seeded(seed, "subset", selector).permutation(len(of))[: int(len(of) * share)]
            sources[selector] = [of[i] for i in sorted(kept.tolist())]
        return (Mixture if self.balance is None else BalancedMixture)(sources, self.mixture, seed)


class Curriculum(Strict):
    """A whole training: phases in order.

    Attributes:
        name: Name of the recipe.
        seed: Random seed.
        corpora: Corpora for ``*``; named ones are read in any case.
        validation_samples: Maximum number of validation samples per selector after a phase.
        cache_dtype: Precision of cached features.
        precision: Compute precision; trained weights are float32 in any case.
        fsdp: Shard the model over the processes, which need a CUDA device each; by default each has a copy.
        log_every: Steps between lines of metrics.
        report_to: Experiment trackers, named as in transformers; none by default.
        keep_checkpoints: Number of checkpoints kept per phase.
        phases: Name -> phase.
        order: Names of all phases in the order in which they run; as written by default.
        merge_validation: Corpora whose validation split is used for training too (Reference: both MIntRec sets).
        forgetting: Evaluate the selectors of all phases after each phase, for the forgetting matrix.
    """

    name: str
    seed: int = Field(7, ge=0, lt=SEEDS)
    corpora: tuple[str, ...] = ()
    validation_samples: int = Field(200, ge=0)
    cache_dtype: Literal["float16", "float32"] = "float32"
    precision: Literal["float32", "bf16"] = "float32"
    fsdp: bool = False
    log_every: int = Field(20, ge=1)
    report_to: tuple[Literal["trackio", "tensorboard"], ...] = ()
    keep_checkpoints: int = Field(2, ge=1)
    phases: dict[str, Phase] = Field(min_length=1)
    order: tuple[str, ...] = ()
    merge_validation: tuple[str, ...] = ()
    forgetting: bool = False

    @model_validator(mode="before")
    @classmethod
    def _ordered(cls, fields: Any) -> Any:
        """Sort the phases by ``order``."""
        order = fields.get("order") if isinstance(fields, dict) else None
        phases = fields.get("phases") if isinstance(fields, dict) else None
        if not order or not isinstance(phases, dict):
            return fields
        if sorted(order) != sorted(phases):
            raise ValueError(f"order {list(order)} must name every phase once: {list(phases)}")
        return fields | {"phases": {name: phases[name] for name in order}}

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen: list[str] = []
        for name, phase in self.phases.items():
            unknown = [p for p in phase.start_from if p not in seen]
            if unknown:
                raise ValueError(f"phase {name!r} starts from {unknown}, but only {seen} come before it")
            seen.append(name)
            if name in _RESERVED or re.search(r"[/\\]|^\.", name):
                raise ValueError(f"phase {name!r}: choose another name: the run keeps its phases beside {_RESERVED}")
            for earlier in self.ancestors(name):
                kept = self.phases[earlier].lora
                if phase.lora is not None and kept is not None and phase.lora != kept:
                    raise ValueError(
                        f"phase {name!r} goes on with the LoRA of {earlier!r}: give it the same lora ({kept})"
                    )
        if self.forgetting and not self.validation_samples:
            raise ValueError("forgetting measures validation_samples of each selector, got 0: give 1 or more")
        for name in self.phases:
            drawn = self.with_replay(name)
            objective = drawn.build_objective()
            objective.check({selector.split("/")[1] for selector in drawn.mixture})
            if objective.generates and self.fsdp:
                raise ValueError(
                    f"phase {name!r}: objective {drawn.objective} cannot be used with fsdp: remove one of them"
                )
        return self

    @property
    def corpus_names(self) -> tuple[str, ...]:
        """All corpora of all phases."""
        named = (s.split("/")[0] for phase in self.phases.values() for s in phase.mixture)
        return tuple(dict.fromkeys([*(n for n in named if n != "*"), *self.corpora]))

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Return the phases that a phase starts from, directly or indirectly, in order."""
        starts = self.phases[name].start_from
        found = {p for start in starts for p in (start, *self.ancestors(start))}
        return tuple(p for p in self.phases if p in found)

    def with_replay(self, name: str) -> Phase:
        """Return a phase with the samples of its replay added to its mixture."""
        phase, earlier = self.phases[name], [self.phases[p] for p in self.ancestors(name)]
        if not phase.replay:
            return phase
        mixture, subset = dict(phase.mixture), dict(phase.subset)
        share = sum(mixture.values()) * phase.replay / (1 - phase.replay) / len(earlier)
        for other in earlier:
            for selector, weight in other.mixture.items():
                if selector not in mixture and selector in other.subset:
                    subset[selector] = other.subset[selector]
                mixture[selector] = mixture.get(selector, 0.0) + share * weight / sum(other.mixture.values())
        return phase.model_copy(update={"mixture": mixture, "subset": subset})

    def saved_groups(self, name: str) -> frozenset[str]:
        """Return the groups in a phase's weights: its own and those of all phases it starts from."""
        phase = self.phases[name]
        return frozenset(phase.trainable).union(*(self.saved_groups(p) for p in phase.start_from))


def _modalities() -> tuple[str, ...]:
    return (*BRANCHES, "text")


def _check_names(field: str, names: Iterable[str], known: Sequence[str]) -> None:
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"{field}: {', '.join(unknown)} is none of {', '.join(known)}")


def _of(samples: Mapping[str, Sequence[Sample]], corpus: str) -> Iterable[Sample]:
    if corpus == "*":
        return (s for of in samples.values() for s in of)
    if corpus not in samples:
        raise RecipeError(f"mixture: corpus {corpus!r} was not read; read: {', '.join(samples)}")
    return samples[corpus]


def load_curriculum(source: str | Path) -> Curriculum:
    """Read a training recipe by name or path."""
    return load_recipe(source, "train", Curriculum)
