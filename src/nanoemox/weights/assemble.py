"""``nanoemox assemble``: public backbones become a model directory whose adapters are untrained, the start of P2E.

Tensors are copied one at a time, so the whole model is never in memory. Every tensor is used,
dropped for a stated reason, or an error. ``random`` writes the same directory without public files: a placeholder of
the right size and shape.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

from nanoemox.model.branches import BRANCHES
from nanoemox.model.configuration import PAPER_BRANCHES, NanoEmoXConfig
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.tasks.chat import for_tokenizer
from nanoemox.tasks.templates import load_templates
from nanoemox.types import CheckpointError
from nanoemox.weights.home import EMBEDDED, shipped_model
from nanoemox.weights.matching import Match, match, prefix_of
from nanoemox.weights.presets import TEXT, ModelRecipe, load_preset, model_config, option
from nanoemox.weights.sizes import Sizes, model_sizes, tensor_table
from nanoemox.weights.sources import CONFIG, locate, open_weights
from nanoemox.weights.writer import Reader, constant, draw, write_shards

PLACEHOLDER = "its weights were drawn at random (`nanoemox assemble --random`): assemble it from public backbones first"
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG])B", re.IGNORECASE)
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of ``assemble``.

    Attributes:
        random: Random weights, without any download.
        seed: Seed of random weights.
        dtype: Type of the stored weights: bfloat16, float16 or float32.
        max_shard_size: Largest file, such as ``2GB`` (10^9 bytes).
    """

    random: bool = False
    seed: int = 0
    dtype: str = "bfloat16"
    max_shard_size: str = "2GB"


@dataclass(slots=True)
class Assembly:
    """Report of an assembly.

    Attributes:
        preset: The recipe.
        sources: Part -> where its weights come from, ``random`` for none.
        sizes: Parameters by part.
        used: Part of our model -> number of tensors taken from public files.
        dropped: Reason -> ``part: name`` of each tensor of a public file that is not carried over.
        initialised: Reason -> names in our model that were drawn.
        written: Names of the files.
        origins: Name in our model -> ``part: name`` of the public tensor that it is.
    """

    preset: str
    sources: dict[str, str]
    sizes: Sizes
    used: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    initialised: dict[str, list[str]] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the object of ``--json``."""
        sizes = {"parts": self.sizes.parts, "vision_tower": self.sizes.vision_tower, "lora": self.sizes.lora}
        totals = {"adapters": self.sizes.adapters, "total": self.sizes.total}
        rest = {n: getattr(self, n) for n in ("preset", "sources", "used", "dropped", "initialised", "written")}
        return rest | {"sizes": sizes | totals}

    def text(self) -> str:
        """Format as a few lines."""
        lines = [f"{part:9} {source}" for part, source in self.sources.items()]
        lines += [f"used      {count:4} tensors of {part}" for part, count in self.used.items()]
        lines += [f"dropped   {len(names):4} tensors: {reason}" for reason, names in self.dropped.items()]
        lines += [f"drawn     {len(names):4} tensors: {reason}" for reason, names in self.initialised.items()]
        lines.append(f"written   {', '.join(self.written)}")
        return "\n".join(lines)


def assemble(
    preset: str | Path,
    out: Path,
    sources: Mapping[str, str] | None = None,
    options: WriteOptions | None = None,
) -> Assembly:
    """Write a model directory.

    Args:
        preset: Name or path of a model recipe.
        out: Folder to write, empty or absent.
        sources: Part -> directory, file or hub id in place of the recipe's own.
        options: The options.

    Raises:
        CheckpointError: A backbone cannot be found or read, or does not fit.
        RecipeError: The recipe is not one, or does not fit a backbone.
    """
    options = options or WriteOptions()
    limit, dtype = parse_size(options.max_shard_size), _dtype(options.dtype)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} exists and is not an empty folder: name another one")
    recipe, places = _places(load_preset(preset), dict(sources or {}), options.random)
    processor = _processor(recipe, places, options)
    config = processor.config
    table = tensor_table(config)
    report = Assembly(str(preset), {p: str(at or "random") for p, at in places.items()}, model_sizes(config))
    plan = _plan(config, table, {} if options.random else places, options, report)
    out.mkdir(parents=True, exist_ok=True)
    try:
        write_shards(plan, table, out, dtype, limit)
        config.save_pretrained(out)
        processor.save_pretrained(out)
    except BaseException:
        shutil.rmtree(out)  # half a model looks like a whole one
        raise
    report.written = sorted(f.name for f in out.iterdir())
    return report


def parse_size(text: str) -> int:
    """Read ``2GB`` or ``500MB`` as bytes."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise CheckpointError(f"max shard size {text!r} is no size: write 2GB or 500MB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise CheckpointError(f"dtype {name!r} is unknown: choose {', '.join(DTYPES)}")
    return DTYPES[name]


# ---------------------------------------------------------------- configuration and words


def _places(recipe: ModelRecipe, sources: dict[str, str], random: bool) -> tuple[ModelRecipe, dict[str, Path | None]]:
    """Find every backbone, and put ids given by the user into the recipe."""
    places: dict[str, Path | None] = {}
    for part in recipe.parts():
        source = sources.get(part) or recipe.backbones.get(part)
        if source is None and not (random and "encoder" in recipe.section(part)):
            sizes = " (--random takes the sizes from there)" if random else ""
            raise CheckpointError(
                f"the recipe names no backbone for {part}: give --{option(part)} DIRECTORY_OR_ID{sizes}"
            )
        here = source is not None and Path(source).expanduser().exists()
        places[part] = locate(source) if source is not None and (here or not random) else None
    if surplus := sorted(set(sources) - set(places)):
        raise CheckpointError(f"this recipe has no {', '.join(surplus)} part, so its backbone cannot be given")
    ids = {p: s for p, s in sources.items() if not Path(s).expanduser().exists()}
    return recipe.model_copy(update={"backbones": recipe.backbones | ids}), places


def _processor(recipe: ModelRecipe, places: Mapping[str, Path | None], options: WriteOptions) -> NanoEmoXProcessor:
    """Build configuration, tokenizer and feature extractor."""
    found = {part: place for part, place in places.items() if place is not None}
    encoders = {part: _backbone_config(place) for part, place in found.items() if (place / CONFIG).is_file()}
    sections = {
        part: BRANCHES[part].fit_backbone(recipe.section(part), encoders.get(part), place)
        for part, place in found.items()
        if part != TEXT
    }
    tokenizer = _tokenizer(places[TEXT], options.random)
    config = model_config(
        recipe.model_copy(update=sections),
        encoders,
        trained_branches=[],
        placeholder=PLACEHOLDER if options.random else None,
        architectures=[NanoEmoXForConditionalGeneration.__name__],
        **{f"{b}_token_id": id_ for b, id_ in add_placeholders(tokenizer).items()},
    )
    config.dtype = _dtype(options.dtype)
    _check_vocabulary(tokenizer, config)
    extractors = (BRANCHES[part].load_extractor(config, place) for part, place in found.items() if part != TEXT)
    extractor = next((e for e in extractors if e is not None), None)
    templates = for_tokenizer(load_templates(layout=recipe.templates), tokenizer)
    return NanoEmoXProcessor(extractor, tokenizer, config, templates)


def _backbone_config(place: Path) -> PreTrainedConfig:
    """Read a backbone's configuration; of a model of pictures and words, that of the pictures."""
    try:
        config = AutoConfig.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{place / CONFIG}: not a configuration that transformers knows: {error}") from error
    return getattr(config, "vision_config", config)


def _tokenizer(place: Path | None, random: bool) -> Any:
    if place is None or (random and not (place / "tokenizer_config.json").is_file()):
        tokenizer = NanoEmoXProcessor.from_pretrained(str(shipped_model(EMBEDDED))).tokenizer
    else:
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{place}: no usable tokenizer: {error}") from error
    return tokenizer


def add_placeholders(tokenizer: Any) -> dict[str, int]:
    """Add a placeholder of each branch after a tokenizer's own tokens, and padding where it has none.

    The embeddings keep their size: an embedding is never read at a placeholder, so its id may lie past them.

    Returns:
        Branch -> id of its placeholder.
    """
    names = {branch: f"<|{branch}|>" for branch in PAPER_BRANCHES}
    tokenizer.add_tokens([n for n in names.values() if n not in tokenizer.get_vocab()], special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return {branch: tokenizer.convert_tokens_to_ids(name) for branch, name in names.items()}


def _check_vocabulary(tokenizer: Any, config: NanoEmoXConfig) -> None:
    """Raise if a token has no embedding; placeholders need none."""
    placeholders, rows = set(config.placeholder_token_ids.values()), int(config.text_config.vocab_size)
    if beyond := [i for i in tokenizer.get_vocab().values() if i >= rows and i not in placeholders]:
        raise CheckpointError(
            f"the tokenizer has ids up to {max(beyond)}, the language model only {rows} embeddings: they do not belong "
            "together"
        )


# ---------------------------------------------------------------- weights


def _plan(
    config: NanoEmoXConfig,
    table: Mapping[str, Tensor],
    places: Mapping[str, Path | None],
    options: WriteOptions,
    report: Assembly,
) -> dict[str, Reader]:
    """Return the source of every tensor of the model, and fill the report."""
    adapters = _fresh_adapters(config, options.seed)
    plan: dict[str, Reader] = {n: constant(t) for n, t in adapters.items()}
    initialised = {"adapters and fusion, untrained": sorted(adapters)}
    for part, place in places.items():
        assert place is not None
        found: Match = match(part, open_weights(place), table, config)
        plan |= found.used
        report.origins |= {ours: f"{part}: {theirs}" for ours, theirs in found.origins.items()}
        report.used |= Counter(n.partition(".")[0] for n in found.used)
        for reason, names in found.dropped.items():
            report.dropped.setdefault(reason, []).extend(f"{part}: {n}" for n in sorted(names))
        initialised |= {reason: sorted(names) for reason, names in found.initialised.items()}
    drawn = [n for n in table if n not in plan]
    dtype = _dtype(options.dtype)
    plan |= {n: partial(draw, n, table[n], dtype, options.seed) for n in drawn}
    if options.random:
        initialised["at random, a placeholder"] = [n for n in drawn if n.startswith(tuple(map(prefix_of, places)))]
    report.initialised = initialised
    return plan


def _fresh_adapters(config: NanoEmoXConfig, seed: int) -> dict[str, Tensor]:
    """Initialise adapters and fusion as the model itself does, in float32; the rest of it is never allocated."""
    with torch.device("meta"):
        shell = NanoEmoXForConditionalGeneration(config)
    out: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, part in shell.named_children():
            if not (name.endswith("_adapter") or name == "fusion"):
                continue
            part.to_empty(device="cpu").float()
            for parameter in part.parameters():
                torch.nn.init.constant_(parameter, float("nan"))
            part.apply(shell._init_weights)
            out |= {f"{name}.{n}": t for n, t in part.state_dict().items()}
    if bare := [n for n, t in out.items() if not bool(torch.isfinite(t).all())]:
        raise AssertionError(f"not initialised by the model: {bare}")
    return out
