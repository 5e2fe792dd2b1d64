"""Inputs of a run, and the check that a resumed run has the same inputs.

``run.json`` holds the resolved recipe, a digest of the base model and the number of processes; ``data/`` holds the
samples and ``data/media.json`` the content of every media file. A resumed run gives the result of an uninterrupted one
only if all of these are equal, so anything else is refused. Fields that do not affect the result may change
(:data:`FREE_FIELDS`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError
from torch import nn
from transformers.utils import cached_file

from nanoemox.data.files import write_json
from nanoemox.data.manifest import Sample, read_manifest
from nanoemox.training.phases import Curriculum
from nanoemox.types import RecipeError

RUN: Final = "run.json"
MEDIA: Final = "media.json"
FREE_FIELDS: Final = frozenset({"fsdp", "log_every", "report_to", "keep_checkpoints", "save_every", "workers"})
"""Fields of a recipe that do not affect the result."""
_FILES: Final = ("config.json", "templates.yaml", "tokenizer.json", "preprocessor_config.json")
_NUMBERS: Final = 64
_SHOWN: Final = 4


def model_digest(model: nn.Module, source: str | Path) -> str:
    """Return a SHA-256 of a base model: its small files, and 64 numbers spread over each of its tensors."""
    digest = hashlib.sha256()
    for name in _FILES:
        found = cached_file(str(source), name, _raise_exceptions_for_missing_entries=False)
        digest.update(name.encode() + (Path(found).read_bytes() if found else b""))
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        picked = flat[:: max(1, len(flat) // _NUMBERS)][:_NUMBERS]
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + picked.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def check_origin(out: Path, curriculum: Curriculum, model: str, processes: int) -> bool:
    """Compare recipe, model and number of processes with those of the run in ``out``.

    Returns:
        Whether there is such a run; its samples must then be compared as well.

    Raises:
        RecipeError: Something differs; the message lists it.
    """
    recorded = _recorded(out, curriculum)
    if recorded is None:
        return False
    try:
        before = Curriculum.model_validate(recorded["recipe"])
    except ValidationError as error:
        raise RecipeError(
            f"--resume: the recipe of the run in {out} does not fit this version of nanoemox: "
            "resume with the version that started it, or name another --out"
        ) from error
    differ = recipe_differences(before, curriculum)
    if recorded.get("model", model) != model:
        differ.append("the base model is another one")
    if recorded.get("processes", processes) != processes:
        differ.append(f"{processes} process(es), was {recorded['processes']}")
    if differ:
        raise _refused(out, differ)
    return True


def write_origin(out: Path, curriculum: Curriculum, model: str, processes: int) -> None:
    """Record the inputs of a run; written after its samples."""
    recipe = curriculum.model_dump(mode="json", by_alias=True)
    write_json(out / RUN, {"version": 1, "recipe": recipe, "model": model, "processes": processes})


def recipe_differences(before: Curriculum, now: Curriculum) -> list[str]:
    """List every differing field with its new and old value."""
    old, new = _flat(before.model_dump()), _flat(now.model_dump())
    keys = [k for k in dict.fromkeys([*old, *new]) if k.rpartition(".")[2] not in FREE_FIELDS]
    absent = "absent"
    return [f"{k} {_as_text(new.get(k, absent))}, was {_as_text(old.get(k, absent))}" for k in keys
            if new.get(k, absent) != old.get(k, absent)]  # fmt: skip


def check_samples(out: Path, files: Mapping[str, Path], samples: Mapping[str, Sequence[Sample]]) -> None:
    """Compare the samples read now with those of the run in ``out``.

    Args:
        out: Folder of the run.
        files: Corpus -> manifest of the run.
        samples: Corpus -> samples read now.

    Raises:
        RecipeError: They differ; the message counts the samples of each corpus that do.
    """
    differ = []
    for corpus, file in files.items():
        old = {(s.id, s.task): s for s in read_manifest(file)}
        new = {(s.id, s.task): s for s in samples[corpus]}
        gone, fresh = len(old.keys() - new.keys()), len(new.keys() - old.keys())
        changed = sum(old[k] != new[k] for k in old.keys() & new.keys())
        if gone or fresh or changed:
            differ.append(f"corpus {corpus}: of {len(old)} samples {gone} are gone, {changed} changed, {fresh} are new")
        elif list(old) != list(new):
            differ.append(f"corpus {corpus}: its samples come in another order")
    if differ:
        raise _refused(out, differ)


def check_media(out: Path, keys: Mapping[str, str]) -> None:
    """Compare the contents of the media files with those recorded by the run in ``out``, or record them.

    Args:
        out: Folder of the run.
        keys: Media path -> SHA-256 of its content.

    Raises:
        RecipeError: Some files have changed; the message names the first of them.
    """
    file = out / "data" / MEDIA
    if file.is_file():
        old: dict[str, str] = json.loads(file.read_text("utf-8"))
        changed = sorted(p for p in old.keys() | keys.keys() if old.get(p) != keys.get(p))
        if changed:
            raise _refused(out, [f"the content of {len(changed)} media file(s): {_first(changed)}"])
    else:
        write_json(file, dict(sorted(keys.items())))


def _recorded(out: Path, curriculum: Curriculum) -> dict[str, Any] | None:
    """Read the inputs of a run; versions without ``run.json`` stored the recipe in each phase's folder."""
    if (out / RUN).is_file():
        return json.loads((out / RUN).read_text("utf-8"))
    resolved = [out / name / "resolved.yaml" for name in curriculum.phases]
    old = next((file for file in resolved if file.is_file()), None)
    return None if old is None else {"recipe": yaml.safe_load(old.read_text("utf-8"))}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {name: value}
    return {k: v for key, item in value.items() for k, v in _flat(item, f"{name}.{key}" if name else str(key)).items()}


def _as_text(value: Any) -> str:
    return ", ".join(sorted(map(str, value))) if isinstance(value, frozenset) else str(value)


def _first(items: Sequence[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _refused(out: Path, differ: Sequence[str]) -> RecipeError:
    return RecipeError(
        f"--resume: this is not the run in {out}, these differ: {'; '.join(differ)}. "
        "Resume with what it was started with, or name another --out"
    )
