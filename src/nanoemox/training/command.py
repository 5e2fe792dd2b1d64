"""``nanoemox train``: from a recipe and a data root to trained weights.

The output folder holds ``run.json`` (inputs of the run), ``data/`` (the samples used, those removed by the
overlap filter, bad files), ``features/`` (the cache), one folder per phase (``adapters.safetensors``,
``resolved.yaml``, ``metrics.jsonl``, ``card.md``, ``result.json``, checkpoints) and ``model/``, a complete model
directory.

With ``torchrun`` or ``accelerate launch``, every process trains its share of each step. Only the first one reads
corpora, fills the cache and writes, while the others wait; all validate, since a sharded model needs all. All must see
the same folders.
"""

from __future__ import annotations

import gc
import json
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import set_seed

from nanoemox.data.corpora import read_corpora
from nanoemox.data.features.cache import CacheOptions, FeatureCache
from nanoemox.data.files import full_disk_named, sole_writer, write_json
from nanoemox.data.manifest import Sample, read_manifest, write_manifest
from nanoemox.data.mixture import BalancedMixture
from nanoemox.data.overlap import drop_overlap, evaluation_overlap
from nanoemox.data.ranks import processes
from nanoemox.model.device import has_bfloat16, place_on
from nanoemox.model.lora import LoraSpec, attach_lora, fold_lora, load_adapters, lora_layers, save_adapters
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.recipes import write_resolved
from nanoemox.training.balance import Balancer
from nanoemox.training.card import phase_card
from nanoemox.training.collate import Collator, Draws
from nanoemox.training.forgetting import MATRIX, backward_transfer, forgetting_text, measure_row
from nanoemox.training.freeze import lighten, set_trainable
from nanoemox.training.loop import ADAPTERS, P2ETrainer, Progress, last_checkpoint, training_arguments
from nanoemox.training.origin import MEDIA, check_media, check_origin, check_samples, model_digest, write_origin
from nanoemox.training.phases import SEEDS, Curriculum, load_curriculum
from nanoemox.training.sharding import ShardedTrainer, check_fsdp
from nanoemox.training.validate import Validator
from nanoemox.types import CheckpointError, RecipeError

RESULT = "result.json"
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """State of a training run that all phases share."""

    curriculum: Curriculum
    base: Path
    out: Path
    processor: NanoEmoXProcessor
    samples: dict[str, list[Sample]]
    cache: FeatureCache
    resume: bool
    show: bool

    @property
    def half(self) -> torch.dtype | None:
        """Type of autocast; a sharded model has its own mixed precision."""
        return torch.bfloat16 if self.curriculum.precision == "bf16" and not self.curriculum.fsdp else None


def run_train(
    recipe: str | Path,
    data_root: Path,
    out: Path,
    model: str | Path,
    *,
    resume: bool = False,
    max_steps: int | None = None,
    seed: int | None = None,
    precision: Literal["auto", "float32", "bf16"] | None = None,
    features: Path | None = None,
    show: bool = True,
) -> dict[str, Any]:
    """Train every phase of a recipe.

    Args:
        recipe: Name of one of the package's recipes, or path of a YAML file.
        data_root: Folder that the corpora lie in.
        out: Output folder.
        model: Directory of the model to start from.
        resume: Continue the run in ``out``; finished phases are kept. Recipe, steps, seed, data and model must
            be those of that run.
        max_steps: Maximum number of steps per phase, at least 1, for quick trials.
        seed: Replaces the recipe's seed; 0 to 2**32 - 1.
        precision: Replaces the recipe's; ``auto``: bf16 where the device has instructions for it.
        features: Folder of the feature cache; ``out/features`` by default. Runs may share one.
        show: Show progress bars.

    Returns:
        Phase -> its result, ``model`` -> the folder written.

    Raises:
        RecipeError: The recipe, the data or the output folder do not fit together, or the resumed run was
            started with other inputs; the message lists the differences.
        CheckpointError: The model is a placeholder, which cannot be trained.
    """
    curriculum = _overridden(load_curriculum(recipe), max_steps, seed, precision)
    done = [name for name in curriculum.phases if (out / name).exists()]
    if done and not resume:
        raise RecipeError(f"{out} holds phase {done[0]!r} of an earlier run: --resume it, or name another folder")
    place = processes()
    check_fsdp(curriculum.fsdp)
    place.wait_for_everyone()  # the first process writes to OUT only after all have checked it
    processor = NanoEmoXProcessor.from_pretrained(model)
    if processor.config.placeholder:
        raise CheckpointError(f"{model} cannot be trained: {processor.config.placeholder}")
    with sole_writer(out, wanted=place.is_main_process), full_disk_named(out):
        samples, cache = _data(curriculum, data_root, out, model, processor, resume=resume, features=features)
        run = Run(curriculum, Path(model), out, processor, samples, cache, resume, show)
        results: dict[str, Any] = {}
        for name in curriculum.phases:
            results[name] = _phase(run, name)
            _free()
        if place.is_main_process:
            if curriculum.forgetting:
                rows = {name: result[MATRIX] for name, result in results.items()}
                listed = [{"after": name, "scores": row} for name, row in rows.items()]
                found = {"rows": listed, "backward_transfer": backward_transfer(curriculum, rows)}
                write_json(out / "forgetting.json", found)
            _write_model(run)
        place.wait_for_everyone()
    return {"recipe": curriculum.name, "seed": curriculum.seed, "phases": results, "model": str(out / "model")}


def _data(
    curriculum: Curriculum, data_root: Path, out: Path, model: str | Path, processor: NanoEmoXProcessor, *,
    resume: bool, features: Path | None,
) -> tuple[dict[str, list[Sample]], FeatureCache]:  # fmt: skip
    """Return the usable samples of every corpus and their features; the encoding model is freed afterwards."""
    place, loaded = processes(), _load(model)
    options = CacheOptions(root=data_root, dtype=getattr(torch, curriculum.cache_dtype))
    with place.main_process_first():
        if place.is_main_process:
            digest = model_digest(loaded, model)
            known = resume and check_origin(out, curriculum, digest, place.num_processes)
            samples = _samples(curriculum, data_root, out, resume=known)
            write_origin(out, curriculum, digest, place.num_processes)
        else:
            samples = {name: read_manifest(file) for name, file in _manifests(curriculum, out).items()}
        everything = [s for of in samples.values() for s in of]
        cache = FeatureCache.open_or_build(everything, loaded, processor, features or out / "features", options)
    if place.is_main_process:
        if cache.bad:
            logger.warning("%d file(s) cannot be used, see %s", len(cache.bad), out / "data" / "bad.json")
        write_json(out / "data" / "bad.json", cache.bad)
        check_media(out, cache.keys)
    del loaded
    _free()
    return {name: [s for s in of if cache.usable(s)] for name, of in samples.items()}, cache


def _free() -> None:
    """Release the memory of unused models; trainers keep theirs in reference cycles."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _overridden(curriculum: Curriculum, max_steps: int | None, seed: int | None, precision: str | None) -> Curriculum:
    if max_steps is not None and max_steps < 1:
        raise RecipeError(f"--max-steps {max_steps}: give 1 or more, or leave it out for the recipe's steps")
    if seed is not None and not 0 <= seed < SEEDS:
        raise RecipeError(f"--seed {seed}: give a number from 0 to {SEEDS - 1}")
    phases = {
        name: phase if max_steps is None else phase.model_copy(update={"steps": min(phase.steps, max_steps)})
        for name, phase in curriculum.phases.items()
    }
    if precision == "auto":
        precision = "bf16" if has_bfloat16(processes().device) else "float32"
    given = {"seed": seed, "precision": precision}
    return curriculum.model_copy(update={"phases": phases} | {k: v for k, v in given.items() if v is not None})


def _load(model: str | Path) -> NanoEmoXForConditionalGeneration:
    loaded: NanoEmoXForConditionalGeneration = NanoEmoXForConditionalGeneration.from_pretrained(
        str(model), dtype=torch.float32, use_safetensors=True
    )
    return place_on(loaded, processes().device)


def _manifests(curriculum: Curriculum, out: Path) -> dict[str, Path]:
    return {name: out / "data" / f"{name}.jsonl" for name in curriculum.corpus_names}


def _samples(curriculum: Curriculum, data_root: Path, out: Path, *, resume: bool) -> dict[str, list[Sample]]:
    """Read and filter the corpora; a resumed run must have used the same samples."""
    files = _manifests(curriculum, out)
    read = read_corpora(data_root, curriculum.corpus_names)
    held = evaluation_overlap(data_root, read)
    kept, dropped = drop_overlap([s for of in read.values() for s in of], held)
    remain = {id(sample) for sample in kept}

    def used(name: str) -> Iterator[Sample]:
        """Yield what a corpus, known by the name of its manifest, trains and selects with."""
        for sample in read[name]:
            if id(sample) in remain and sample.split != "test":  # which only the filter needs
                merged = sample.split == "validation" and name in curriculum.merge_validation
                yield sample.model_copy(update={"split": "train"}) if merged else sample

    samples = {name: list(used(name)) for name in read}
    if resume:
        check_samples(out, files, samples)
        return samples
    (out / "data" / MEDIA).unlink(missing_ok=True)
    for name, file in files.items():
        write_manifest(samples[name], file)
    write_json(out / "data" / "overlap.json", dropped)
    logger.info("overlap filter: %d training samples dropped", sum(dropped.values()))
    return samples


def _write_model(run: Run) -> None:
    """Write the model of the last phase; its configuration lists the branches with trained adapters."""
    model, last = _load(run.base), next(reversed(run.curriculum.phases))
    load_adapters(model, run.out / last / ADAPTERS)
    if lora_layers(model):
        fold_lora(model)
    groups = run.curriculum.saved_groups(last)
    trained = {g.removesuffix("_adapter") for g in groups} | set(model.config.trained_branches)
    model.config.trained_branches = [b for b in model.config.branches if b in trained]
    whole, partial = run.out / "model", run.out / ".model.partial"
    for old in (partial, whole):
        shutil.rmtree(old, ignore_errors=True)
    model.save_pretrained(partial)
    run.processor.save_pretrained(partial)
    partial.rename(whole)


def _earlier(run: Run, name: str) -> list[str]:
    """Return the phases before this one."""
    phases = list(run.curriculum.phases)
    return phases[: phases.index(name)]


def _phase(run: Run, name: str) -> dict[str, Any]:
    """Train one phase, or return its result if it is finished."""
    phase, folder = run.curriculum.with_replay(name), run.out / name
    if run.resume and (folder / RESULT).is_file():
        return json.loads((folder / RESULT).read_text("utf-8"))
    started = time.monotonic()
    if processes().is_main_process:
        write_resolved(run.curriculum, folder / "resolved.yaml")
    # Seeded before LoRA draws its matrices.
    set_seed(run.curriculum.seed)
    model = _load(run.base)
    for earlier in phase.start_from:
        load_adapters(model, run.out / earlier / ADAPTERS)
    if phase.lora is not None and not lora_layers(model):
        attach_lora(model, LoraSpec(phase.lora.r, phase.lora.alpha, phase.lora.dropout, phase.lora.first_layer))
    trainable = set_trainable(model, phase.trainable)
    if not run.curriculum.fsdp:  # which splits parameters of one type over processes that hold all parts
        lighten(model, run.half)
    arguments = training_arguments(folder / "checkpoints", run.curriculum, phase)
    length = phase.steps * phase.micro_batch * phase.accumulation * arguments.world_size
    data = Draws(phase.draw(run.samples, run.curriculum.seed), phase, run.cache, length, run.processor.templates)
    kind = ShardedTrainer if run.curriculum.fsdp else P2ETrainer
    trainer = kind(
        model, arguments, data, Collator(run.processor), run.curriculum.saved_groups(name), phase.build_objective()
    )
    trainer.add_callback(Progress(name, folder / "metrics.jsonl", show=run.show))
    if phase.balance is not None and isinstance(data.mixture, BalancedMixture):
        validator = Validator(model, run.processor, run.cache, phase, run.half)
        held_out, samples, seed = phase.sources(run.samples, "validation"), phase.balance.samples, run.curriculum.seed
        measure = partial(validator.losses, held_out, samples, seed)
        trainer.add_callback(Balancer(data.mixture, phase.mixture, phase.balance, measure, folder / "balance.jsonl"))
    trainer.train(resume_from_checkpoint=last_checkpoint(folder / "checkpoints") if run.resume else None)
    _finish(run, name, model, trainable, time.monotonic() - started)
    return json.loads((folder / RESULT).read_text("utf-8"))


def _finish(
    run: Run, name: str, model: NanoEmoXForConditionalGeneration, trainable: frozenset[str], seconds: float
) -> None:
    """Write the weights of a phase and its validation metrics; the result is written last and marks it complete."""
    phase, folder = run.curriculum.with_replay(name), run.out / name
    # A run in half precision keeps its result in half precision; only what a run resumes from is exact.
    stored = torch.bfloat16 if run.curriculum.precision == "bf16" else None
    held, writes = run.curriculum.saved_groups(name), processes().is_main_process
    save_adapters(model, folder / ADAPTERS, held, stored, write=writes)
    held_out = phase.sources(run.samples, "validation")
    measured = Validator(model, run.processor, run.cache, phase, run.half).measure(
        held_out, run.curriculum.validation_samples, run.curriculum.seed
    )
    result = {
        "steps": phase.steps,
        "trainable_parameters": sum(p.numel() for n, p in model.named_parameters() if n in trainable),
        "validation": measured,
        "seconds": round(seconds, 1),
    }
    if run.curriculum.forgetting:
        result[MATRIX] = measure_row(run.curriculum, run.samples, model, run.processor, run.cache, run.half)
    with processes().main_process_first():
        if writes:
            card = phase_card(name, run.curriculum, run.samples, result, processes().num_processes)
            if run.curriculum.forgetting:
                rows = {p: json.loads((run.out / p / RESULT).read_text("utf-8"))[MATRIX] for p in _earlier(run, name)}
                card += forgetting_text(run.curriculum, rows | {name: result[MATRIX]})
            (folder / "card.md").write_text(card, "utf-8")
            write_json(folder / RESULT, result)
            logger.info("phase %s: %s", name, json.dumps(result))
