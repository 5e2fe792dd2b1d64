"""``nanoemox convert``: files of the authors' training become a model directory, or adapters for one.

An official file holds what its phase trained, buffers and the tied head, but none of the frozen weights. So a whole
model is written only over a base (``nanoemox assemble reference``); without one the adapters alone are written, in the
form that ``load_adapters`` reads. The base's weights pass one file at a time and keep their precision.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from nanoemox.model.configuration import FUSION, PAPER_BRANCHES, NanoEmoXConfig
from nanoemox.model.lora import LoraSpec, write_adapters
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.model.tensor_files import save_tensors
from nanoemox.tasks.templates import load_templates
from nanoemox.types import CheckpointError
from nanoemox.weights.convert_reference import (
    HEAD,
    check_tied_head,
    convert_state,
    drop_reason,
    fold_pair,
    lora_pairs,
    new_names,
)
from nanoemox.weights.directories import WEIGHTS, weight_names
from nanoemox.weights.presets import load_preset, model_config
from nanoemox.weights.sources import load_torch, open_weights

ADAPTERS, REPORT = "adapters.safetensors", "conversion.json"
LORA_ALPHA = 32  # Reference: for any rank; it is not stored with the weights
MAX_ALPHA = 4096
FROZEN = (*(f"{branch}_encoder" for branch in PAPER_BRANCHES if branch != FUSION), "language_model")
_EMBEDDINGS = "language_model.model.embed_tokens.weight"
_LEAK = re.compile(r"facial_encoder\.(query|attn\..+)")
_LEAK_REASON = "leaks into phase 1-1, where it never trains and has no projector"


@dataclass(slots=True)
class Official:
    """Official files, merged.

    Attributes:
        state: Official name -> tensor, without what is dropped.
        dropped: Reason -> official names that are not carried over.
        overlaps: Official names in several files; the last file's tensor is used.
        head: The head that is tied to the word embeddings, for comparison.
        alpha: LoRA's alpha, if a file's own configuration has it.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    overlaps: list[str] = field(default_factory=list)
    head: Tensor | None = None
    alpha: int | None = None


@dataclass(slots=True)
class Conversion:
    """Report of a conversion.

    Attributes:
        files: Names of the official files in the order of merging.
        taken: Part of our model -> number of tensors.
        dropped: As in :class:`Official`.
        overlaps: As in :class:`Official`.
        lora: Size of LoRA, or None where no file holds it.
        lora_alpha_from: Source of its alpha.
        trained_branches: Branches with trained adapters in the output.
        missing: Parts of the model that the output lacks.
        written: Names of the files written.
        used: Official name -> names in our model that it becomes, or that it changes (LoRA).
    """

    files: list[str]
    taken: dict[str, int]
    dropped: dict[str, list[str]]
    overlaps: list[str]
    lora: LoraSpec | None
    lora_alpha_from: str | None
    trained_branches: list[str]
    missing: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    used: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the object of ``--json`` and ``conversion.json``."""
        return asdict(self)

    def text(self) -> str:
        """Format as a few lines."""
        lines = [f"read      {', '.join(self.files)}"]
        lines += [f"taken     {count:4} tensors of {part}" for part, count in self.taken.items()]
        lines += [f"dropped   {len(names):4} tensors: {reason}" for reason, names in self.dropped.items()]
        if self.overlaps:
            lines.append(f"replaced  {len(self.overlaps):4} tensors of earlier files by those of later ones")
        if self.lora is not None:
            lines.append(f"LoRA      r {self.lora.r}, alpha {self.lora.alpha} ({self.lora_alpha_from})")
        lines.append(f"trained   {', '.join(self.trained_branches) or 'no branch'}")
        lines.append(f"written   {', '.join(self.written)}")
        lines.append("words     templates.yaml; put those in it that the checkpoint was trained with")
        if self.missing:
            lines.append(
                f"missing   {', '.join(self.missing)}: run `nanoemox assemble reference --out BASE`, then convert "
                "again with --base BASE for a whole model"
            )
        return "\n".join(lines)


def convert_checkpoints(
    files: Sequence[Path], out: Path, base: Path | None = None, config: NanoEmoXConfig | None = None
) -> Conversion:
    """Convert official files into ``out``.

    Args:
        files: Official ``.pth`` files; later ones override earlier ones.
        out: Folder to write, empty or absent.
        base: Model directory in the layout ``reference`` that gives the frozen weights; None writes adapters alone.
        config: Sizes to check against; by default those of the base, or of the preset ``reference``.

    Raises:
        CheckpointError: A file cannot be read; a name is unknown, a part incomplete, a shape or the language model
            not the base's; all are listed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} exists and is not an empty folder: name another one")
    if config is None:
        config = NanoEmoXConfig.from_pretrained(base) if base else model_config(load_preset("reference"))
    official = read_official(files)
    state = convert_state(official.state, config)
    pairs = lora_pairs(state, config)
    rank = next((len(down) for down, _ in pairs.values()), 0)
    parts = Counter("lora" if ".lora_" in n else n.partition(".")[0] for n in state)
    trained = {part.removesuffix("_adapter") for part in parts} | set(config.trained_branches if base else ())
    result = Conversion(
        files=[f.name for f in files],
        taken=dict(parts),
        dropped=official.dropped,
        overlaps=official.overlaps,
        lora=LoraSpec(rank, official.alpha or LORA_ALPHA, 0.05) if pairs else None,
        lora_alpha_from=("the file's configuration" if official.alpha else "the authors' default") if pairs else None,
        trained_branches=[b for b in PAPER_BRANCHES if b in trained],
        used=_used(official.state, state),
    )
    try:
        (_write_adapters if base is None else _Base(base, config, official.head).write)(state, out, result)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # half a model looks like a whole one
        raise
    result.written = sorted([*(f.name for f in out.iterdir()), REPORT])
    (out / REPORT).write_text(json.dumps(result.to_dict(), indent=1) + "\n", "utf-8")
    return result


def _used(official: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return the new names of every official tensor that is used."""
    names = {n: [new for new in new_names(n) if new in state] for n in official if drop_reason(n) is None}
    return {n: [f"{new.partition('.lora_')[0]}.weight" if ".lora_" in new else new for new in news]
            for n, news in names.items()}  # fmt: skip


# ---------------------------------------------------------------- reading


def read_official(files: Sequence[Path]) -> Official:
    """Read and merge official files; tensors stay on the disk until they are used."""
    out = Official()
    for file in files:
        state, alpha = _load(file)
        out.alpha = alpha or out.alpha
        # By file: the leak of phase 1-1 must not undo what phase 1-2 trained, in whichever order they come.
        if not any(n.startswith("facial_encoder.face_proj.") for n in state):
            leaked = [n for n in state if _LEAK.fullmatch(n)]
            state = {n: t for n, t in state.items() if n not in leaked}
            out.dropped |= {_LEAK_REASON: leaked} if leaked else {}
        out.overlaps += [n for n in state if n in out.state and n not in out.overlaps and drop_reason(n) is None]
        out.state |= state
    out.head = out.state.get(HEAD)
    for name in out.state:
        if (reason := drop_reason(name)) is not None:
            out.dropped.setdefault(reason, []).append(name)
    return out


def _load(file: Path) -> tuple[Mapping[str, Tensor], int | None]:
    """Return the state of one file, and LoRA's alpha if the file has it."""
    if not file.is_file():
        raise CheckpointError(f"{file}: {'a folder, not a file' if file.is_dir() else 'no such file'}")
    state, whole = load_torch(file, "model")
    return state, _find_alpha(whole.get("config"))


def _find_alpha(config: Any, depth: int = 8) -> int | None:
    """Look for ``lora_alpha`` in a nested configuration."""
    if not isinstance(config, dict) or not depth:
        return None
    alpha = config.get("lora_alpha")
    if isinstance(alpha, int) and not isinstance(alpha, bool):
        if not 1 <= alpha <= MAX_ALPHA:
            raise CheckpointError(f"lora_alpha {str(alpha)[:20]} in the file: must be 1 to {MAX_ALPHA}")
        return alpha
    return next((found for value in config.values() if (found := _find_alpha(value, depth - 1)) is not None), None)


def _finite(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor that is to be written.

    Raises:
        CheckpointError: It holds NaN or infinity.
    """
    if not tensor.isfinite().all():
        raise CheckpointError(f"{name} is not finite in {tensor.dtype}: the checkpoint is damaged or needs float32")
    return tensor


# ---------------------------------------------------------------- writing


def _write_adapters(state: Mapping[str, Tensor], out: Path, result: Conversion) -> None:
    """Write only the adapters, with the templates."""
    write_adapters({n: _finite(n, t) for n, t in state.items()}, out / ADAPTERS, result.lora)
    load_templates(layout="reference").save(out)
    result.missing = [*FROZEN, "config.json", "tokenizer"]


@dataclass(frozen=True, slots=True)
class _Base:
    """A model directory that provides the frozen weights.

    Attributes:
        folder: The directory.
        config: Its configuration.
        head: The official tied head, to be compared with the word embeddings.
    """

    folder: Path
    config: NanoEmoXConfig
    head: Tensor | None

    def write(self, state: Mapping[str, Tensor], out: Path, result: Conversion) -> None:
        """Copy the base to ``out`` with the converted tensors in their places and LoRA folded in."""
        self._check_head()
        files = weight_names(self.folder)
        pairs = lora_pairs(state, self.config)
        scale = result.lora.alpha / result.lora.r if result.lora else 0.0
        changed = {n for n in state if ".lora_" not in n} | {f"{stem}.weight" for stem in pairs}
        if absent := changed.difference(open_weights(self.folder).shapes):
            raise CheckpointError(f"{self.folder} has no place for {sorted(absent)}: is it a whole `reference` model?")
        out.mkdir(parents=True, exist_ok=True)
        for file in files:
            tensors = load_file(self.folder / file)
            for name in changed & tensors.keys():
                old = tensors[name]
                new = state.get(name, old)
                if (pair := pairs.get(name.removesuffix(".weight"))) is not None:
                    new = fold_pair(new, *pair, scale)
                tensors[name] = _finite(name, new.to(old.dtype).contiguous())
            save_tensors(tensors, out / file)
        self._write_other_files(out, result)

    def _write_other_files(self, out: Path, result: Conversion) -> None:
        """Write all files except the weights."""
        for name in (f"{WEIGHTS}.index.json", "generation_config.json"):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, out / name)
        config = NanoEmoXConfig.from_pretrained(self.folder)
        config.trained_branches = result.trained_branches
        config.save_pretrained(out)
        processor = NanoEmoXProcessor.from_pretrained(self.folder)
        # Templates that the user put into the base belong to this checkpoint; the package's own do not.
        if processor.templates == load_templates():
            processor.templates = load_templates(layout="reference")
        processor.save_pretrained(out)

    def _check_head(self) -> None:
        """Raise if the base has another language model than the one of the official files."""
        if self.head is None:
            return
        check_tied_head(self.head, open_weights(self.folder).read(_EMBEDDINGS))
