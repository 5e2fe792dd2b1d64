"""Find and load a model for inference: the pulled one, the embedded one, a directory, or a hub id."""

from __future__ import annotations

import functools
import logging
import re
from pathlib import Path

import torch
from safetensors import SafetensorError

import nanoemox.model.auto  # noqa: F401 (the tokenizer's loader then knows our configuration)
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.device import has_bfloat16, place_on
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.packing import can_pack, pack
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.types import CheckpointError
from nanoemox.weights.directories import check_directory, weight_names
from nanoemox.weights.home import EMBEDDED, PULLABLE, SMALL, find_pulled, shipped_model

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_NEEDED = ("config.json", "tokenizer.json")
_log = logging.getLogger("nanoemox")


def load_checkpoint(
    path_or_id: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: torch.dtype | None = None,
) -> tuple[NanoEmoXForConditionalGeneration, NanoEmoXProcessor, str]:
    """Load model and processor for inference.

    Args:
        path_or_id: ``small``, ``authors``, ``mini``, a model directory or a hub id; None takes ``small`` if it was
            pulled, else ``mini`` with a warning that names the command.
        device: ``auto`` takes CUDA if available; or any device name of torch.
        dtype: By default bfloat16 on CUDA (float16 before Ampere) and, for weights stored so, on a CPU that multiplies
            it; else float32.

    Returns:
        Model in eval mode on its device, on a CPU with its language model packed
        (:mod:`nanoemox.model.packing`), processor, name.

    Raises:
        CheckpointError: There is no usable model; the message says what is missing.
    """
    where = pick_device(device)
    source, name, local = find_checkpoint(path_or_id)
    try:
        stored = NanoEmoXConfig.from_pretrained(source, local_files_only=local).dtype
        chosen = dtype or default_dtype(where, stored)
        model = NanoEmoXForConditionalGeneration.from_pretrained(
            source, dtype=chosen, local_files_only=local, use_safetensors=True
        )
        processor = NanoEmoXProcessor.from_pretrained(source, local_files_only=local)
    except (OSError, SafetensorError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(_explain(source, local, error)) from error
    model = place_on(model, where).eval()
    if can_pack(where, chosen):
        pack(model.language_model)
    return model, processor, name


def find_checkpoint(path_or_id: str | Path | None) -> tuple[str, str, bool]:
    """Return the argument of ``from_pretrained``, the model's name, and whether it is on this machine.

    Raises:
        CheckpointError: There is no such model, or it lacks files.
    """
    wanted = SMALL if path_or_id is None else str(path_or_id)
    pulled = find_pulled(wanted) if wanted in PULLABLE else None
    if pulled is not None:
        return str(pulled), wanted, True
    if path_or_id in PULLABLE and not Path(wanted).is_dir():
        raise CheckpointError(f"{wanted} is not on this machine yet: run nanoemox pull {wanted}")
    if path_or_id is None and shipped_model(SMALL) is not None:
        tell_of_small()
    if path_or_id is None or (path_or_id == EMBEDDED and not Path(EMBEDDED).is_dir()):
        embedded = shipped_model(EMBEDDED)
        if embedded is None:
            raise CheckpointError(
                "this build of nanoemox carries no model: name one with --model DIRECTORY_OR_HUB_ID "
                "(in Python: Engine.from_pretrained(...))"
            )
        return str(embedded), EMBEDDED, True
    if not str(path_or_id).strip():
        raise CheckpointError(
            f"model {str(path_or_id)!r} is no name: give {', '.join(PULLABLE)}, {EMBEDDED} or a directory"
        )
    folder = Path(path_or_id).expanduser()
    if folder.is_dir():
        if missing := _missing(folder):
            raise CheckpointError(f"{folder}: not a model directory, it lacks {', '.join(missing)}")
        check_directory(folder)
        return str(folder), folder.resolve().name, True
    if isinstance(path_or_id, str) and _HUB_ID.fullmatch(path_or_id):
        return path_or_id, path_or_id, False
    raise CheckpointError(f"{path_or_id}: no such model directory, and not a hub id of the form owner/name")


@functools.cache
def tell_of_small() -> None:
    """Log once that there is a better model."""
    _log.warning("using %s; a better model is one command away: nanoemox pull %s", EMBEDDED, SMALL)


def _missing(folder: Path) -> list[str]:
    """Return the files that a model directory lacks; the weights may be in several files listed in an index."""
    return [f for f in (*_NEEDED, *weight_names(folder)) if not (folder / f).is_file()]


def pick_device(device: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``, if this machine has it."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise CheckpointError(f"device {device!r} is unknown: choose auto, cpu, cuda or mps") from None
    here = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not here.get(chosen.type, False):
        raise CheckpointError(f"device {device!r} is not usable on this machine: choose auto or cpu")
    return chosen


def _explain(source: str, local: bool, error: Exception) -> str:
    first = str(error).strip().split("\n")[0]
    if local:
        return f"{source}: cannot be loaded as a nanoemox model: {first}"
    return (
        f"{source}: config.json and the other files of this model are neither in the local cache nor could they be "
        f"fetched. On a machine with network run `hf download {source} --local-dir DIR`, copy DIR here and pass "
        f"--model DIR ({first})"
    )


def default_dtype(device: torch.device, stored: torch.dtype | None) -> torch.dtype:
    """Choose the format to compute in.

    On CUDA bfloat16, float16 on GPUs that only emulate it. On a CPU float32, but bfloat16 for weights that are stored
    so where the processor multiplies it: half the memory and memory traffic, and no further rounding of the weights.

    Args:
        device: Device of the model.
        stored: Format of its weights on disk.
    """
    if device.type == "cuda":
        return torch.bfloat16 if has_bfloat16(device) else torch.float16
    if stored == torch.bfloat16 and has_bfloat16(device):
        return torch.bfloat16
    return torch.float32
