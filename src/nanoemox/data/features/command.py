"""``nanoemox features``: fill a feature cache before training, with any number of processes and devices.

Under ``torchrun`` or ``accelerate launch`` every process takes its share of the clips; all must see the same folders.
A killed run can be resumed: partial files are ignored, and nothing is encoded twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from nanoemox.data.features.cache import CacheOptions, FeatureCache, entry_bytes
from nanoemox.data.features.fill import Filling, Share
from nanoemox.data.opening import absolute, open_manifests
from nanoemox.data.ranks import processes
from nanoemox.model.device import place_on
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor


@dataclass(frozen=True, slots=True)
class FeatureRequest:
    """The options of ``nanoemox features``, as typed.

    Attributes:
        model: Model directory or hub id.
        out: Folder of the cache, as ``nanoemox train --features`` takes it.
        data_root: What media paths are relative to; by default what each manifest says.
        workers: Decoding processes of each rank; None shares the cores among the ranks of this machine.
        batch: Clips encoded at once.
        dtype: Stored precision, as the recipe's ``cache_dtype``.
        show: Draw a bar on standard error.
    """

    model: str
    out: Path
    data_root: Path | None = None
    workers: int | None = None
    batch: int = 16
    dtype: str = "float16"
    show: bool = True


def make_features(manifests: Sequence[Path], request: FeatureRequest) -> dict[str, Any] | None:
    """Encode the clips of the manifests that are not in the cache.

    Returns:
        A summary with ``bad``: path -> reason; None in all processes but the first.
    """
    place = processes()
    samples = [s for path in manifests for s in absolute(open_manifests(path, request.data_root))]
    processor = NanoEmoXProcessor.from_pretrained(request.model)
    model = _encoders(request.model, place.device)
    with _bar(show=request.show and place.is_main_process) as progress:
        options = CacheOptions(
            dtype=getattr(torch, request.dtype),
            batch_size=request.batch,
            workers=_cores() if request.workers is None else request.workers,
            share=Share(place.process_index, place.num_processes, gather_object),
            progress=progress,
        )
        cache = FeatureCache.open_or_build(samples, model, processor, request.out, options)
    if not place.is_main_process:
        return None
    talking = entry_bytes(processor.config, options.dtype)
    counts = _counts(cache, place.num_processes)
    return {"cache": str(cache.folder), **counts, "bytes_per_talking_clip": talking, "bad": cache.bad}


def _encoders(model: str, device: torch.device) -> NanoEmoXForConditionalGeneration:
    """Load in full precision, as training does, without the language model on the device."""
    loaded: NanoEmoXForConditionalGeneration = NanoEmoXForConditionalGeneration.from_pretrained(
        str(model), dtype=torch.float32, use_safetensors=True
    )
    del loaded.language_model
    return place_on(loaded, device).eval()


def _cores() -> int:
    """Return this rank's share of the cores, one of them left to the encoders."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1)


def _counts(cache: FeatureCache, ranks: int) -> dict[str, Any]:
    """Return the numbers of this rank, and the totals of all ranks."""
    filling = cache.filling
    return {
        "files": filling.files,
        "contents": len(set(cache.keys.values())),
        "present": filling.present,
        "ranks": ranks,
        "encoded": filling.encoded,
        "bytes_per_clip": filling.bytes_per_clip,
        "clips_per_s": round(filling.clips_per_s, 2),
        "decode_wait_s": round(filling.decode_wait_s, 2),
        "encode_s": round(filling.encode_s, 2),
        "bound": filling.bound if filling.encoded else None,
    }


def format_features(summary: dict[str, Any]) -> str:
    """Format the summary as text."""
    share = f" by this one of {summary['ranks']} processes" if summary["ranks"] > 1 else ""
    lines = [
        f"{summary['files']} files with {summary['contents']} different contents: {summary['present']} were cached, "
        f"{summary['encoded']} encoded{share}"
    ]
    if summary["encoded"]:
        lines.append(
            f"{summary['bytes_per_clip'] / 1024:.1f} KiB per clip ({summary['bytes_per_talking_clip'] / 1024:.1f} KiB "
            f"with picture, face and voice), {summary['clips_per_s']:g} clips/s, bound by {summary['bound']} "
            f"(waited {summary['decode_wait_s']:g} s for clips, encoded for {summary['encode_s']:g} s)"
        )
    if summary["bad"]:
        lines.append(f"{len(summary['bad'])} file(s) cannot be used; training leaves their samples out:")
        lines += [f"  {path}: {why}" for path, why in summary["bad"].items()]
    return "\n".join([*lines, f"cache: {summary['cache']}"])


@contextmanager
def _bar(*, show: bool) -> Iterator[Callable[[Filling], None]]:
    """Draw a bar on standard error; yields what to call after each batch."""
    console = Console(stderr=True)
    parts = (TextColumn("features"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[status]}"))
    with Progress(*parts, console=console, disable=not show or not console.is_terminal) as bar:
        job = bar.add_task("features", total=None, status="")

        def advance(filling: Filling) -> None:
            left = "" if filling.eta_s is None else f", {timedelta(seconds=round(filling.eta_s))} left"
            status = f"{filling.clips_per_s:.1f} clips/s{left}, bound by {filling.bound}, {filling.bad} bad"
            bar.update(job, total=filling.missing, completed=filling.encoded + filling.bad, status=status)

        yield advance
