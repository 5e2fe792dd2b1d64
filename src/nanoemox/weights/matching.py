"""Map the tensors of a public backbone to ours: each is used, dropped for a reason, or an error."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from nanoemox.model.branches import BRANCHES
from nanoemox.model.branches.branch import Backbone
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.types import CheckpointError
from nanoemox.weights.convert_reference import check_tied_head, convert_state, convert_swin, drop_reason, new_names
from nanoemox.weights.presets import TEXT
from nanoemox.weights.sources import Weights
from nanoemox.weights.writer import Reader, constant

# Published files keep names that the library has changed since.
_ALIASES: tuple[tuple[str, str], ...] = (
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"\.attention\.self\.query\.", ".attention.q_proj."),
    (r"\.attention\.self\.key\.", ".attention.k_proj."),
    (r"\.attention\.self\.value\.", ".attention.v_proj."),
    (r"\.attention\.self\.relative_position_bias_table$",
     ".attention.relative_position_bias.relative_position_bias_table"),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)  # fmt: skip
_COUNTED = (r"(.*\.)?(position_ids|relative_position_index|inv_freq)", "a buffer that is computed")
_FACEX = "facial_encoder.facexformer."
_HEAD, _WORDS = "lm_head.weight", "model.embed_tokens.weight"


@dataclass(slots=True)
class Match:
    """The mapping of one backbone's tensors.

    Attributes:
        used: Name in our model -> how to read it.
        origins: Name in our model -> name in the file.
        dropped: Reason -> names in the file.
        initialised: Reason -> names in our model that no tensor of the file fills.
    """

    used: dict[str, Reader] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    initialised: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def prefix_of(part: str) -> str:
    """Return where a part's backbone lies in our model."""
    return "language_model." if part == TEXT else f"{part}_encoder.{_backbone(part).prefix}"


def _backbone(part: str) -> Backbone:
    """Return what is known of a part's public weights; nothing particular of the language model's."""
    return (None if part == TEXT else BRANCHES[part].backbone) or Backbone("")


def match(part: str, weights: Weights, table: Mapping[str, Tensor], config: NanoEmoXConfig) -> Match:
    """Match one backbone with our model.

    Args:
        part: Which.
        weights: Its tensors.
        table: Name -> meta tensor of our whole model.
        config: Its configuration.

    Raises:
        CheckpointError: A tensor of the file is of no known use, one of ours is missing, or shapes differ; all listed.
    """
    if _backbone(part).swin_file and weights.place.is_file():
        out, shapes, unknown = _match_swin_file(part, weights, config)
    else:
        out, shapes, unknown = _match_names(part, weights, table, config)
    encoder = prefix_of(part).partition(".")[0] + "."
    missing = []
    for name in (n for n in table if n.startswith(encoder) and n not in shapes):
        why = _reason(_backbone(part).optional, name.removeprefix(encoder))
        if why is None:
            missing.append(name)
        else:
            out.initialised[why].append(name)
    wrong = [
        f"{n}: file {tuple(s)}, model {tuple(table[n].shape) if n in table else 'none'}"
        for n, s in shapes.items()
        if n not in table or table[n].shape != s
    ]
    if missing or unknown or wrong:
        raise CheckpointError(
            f"{weights.place} does not fit the {part} part of the model: missing {missing}, unknown {unknown}, "
            f"shapes {wrong}"
        )
    return out


def _match_names(
    part: str, weights: Weights, table: Mapping[str, Tensor], config: NanoEmoXConfig
) -> tuple[Match, dict[str, tuple[int, ...]], list[str]]:
    backbone, prefix = _backbone(part), prefix_of(part)
    targets = {n.removeprefix(prefix) for n in table if n.startswith(prefix)}
    pairs = _pairs(weights.shapes, targets)
    shapes = {prefix + ours: tuple(weights.shapes[theirs]) for ours, theirs in pairs.items()}
    out = Match({prefix + ours: _reader(weights, theirs) for ours, theirs in pairs.items()})
    out.origins = {prefix + ours: theirs for ours, theirs in pairs.items()}
    if backbone.shortened in pairs:
        ours = prefix + backbone.shortened
        rows, (available, *rest) = len(table[ours]), shapes[ours]
        if rows < available:
            out.used[ours] = _reader(weights, pairs[backbone.shortened], rows)
            shapes[ours] = (rows, *rest)
    unknown = []
    for name in weights.shapes.keys() - set(pairs.values()):
        why = _reason((*backbone.dropped, _COUNTED), name) or _too_deep(name, targets)
        if part == TEXT and name.endswith(_HEAD) and config.text_config.tie_word_embeddings:
            if _WORDS in pairs:
                check_tied_head(weights.read(name), weights.read(pairs[_WORDS]))
            why = "tied to the word embeddings"
        if why is None:
            unknown.append(name)
        else:
            out.dropped[why].append(name)
    return out, shapes, sorted(unknown)


def _pairs(names: Iterable[str], targets: set[str]) -> dict[str, str]:
    """Our name -> theirs, for the wrapper (``vision_model.``, ``hubert.``, none ...) that fits best."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        for alias in dict.fromkeys((name, _alias(name))):
            for cut in (0, *(m.end() for m in re.finditer(r"\.", alias))):
                if alias[cut:] in targets:
                    found[alias[:cut]].setdefault(alias[cut:], name)
    return max(found.items(), key=lambda item: (len(item[1]), -len(item[0])))[1] if found else {}


def _alias(name: str) -> str:
    for old, new in _ALIASES:
        name = re.sub(old, new, name)
    return name


def _too_deep(name: str, targets: set[str]) -> str | None:
    """Return the reason if a block is deeper than the deepest one that is built."""
    layer = re.compile(r"(?:^|\.)layers?\.(\d+)\.(.+)")
    built = [m for m in map(layer.search, targets) if m]
    found = layer.search(name)
    deeper = found and found[2] in {m[2] for m in built} and int(found[1]) > max(int(m[1]) for m in built)
    return "block deeper than the deepest state that is read" if deeper else None


def _match_swin_file(
    part: str, weights: Weights, config: NanoEmoXConfig
) -> tuple[Match, dict[str, tuple[int, ...]], list[str]]:
    """FaceXFormer's own file, or torchvision's Swin alone."""
    kind = getattr(config, part).kind
    if kind != "swin":
        raise CheckpointError(f"{weights.place}: a file gives a Swin, but {part}.kind is {kind}: name a folder")
    out, unknown, official = Match(), [], {}
    dropped = (*_backbone(part).dropped, _COUNTED)
    for theirs in weights.shapes:
        name = re.sub(r"^features\.", "backbone.0.", re.sub(r"^module\.", "", theirs))
        kept = re.match(r"backbone\.0\.|linear_(c|fuse)\.", name)
        why = drop_reason(_FACEX + name) if kept else _reason(dropped, re.sub(r"^backbone\.1\.", "norm.", name))
        if kept:
            official[_FACEX + name] = weights.read(theirs)
            out.origins |= dict.fromkeys(new_names(_FACEX + name), theirs)
        if why is not None:
            out.dropped[why].append(theirs)
        elif not kept:
            unknown.append(theirs)
    if any(n.startswith(f"{_FACEX}linear_") for n in official):
        state = convert_state(official, config, parts=(f"{part}_encoder",))
    else:
        swin = {n.removeprefix(f"{_FACEX}backbone.0."): t for n, t in official.items()}
        state = {prefix_of(part) + n: t for n, t in convert_swin(swin, prefix="").items()}
    out.used = {n: constant(t) for n, t in state.items()}
    out.origins = {n: theirs for n, theirs in out.origins.items() if n in state}
    return out, {n: tuple(t.shape) for n, t in state.items()}, sorted(unknown)


def _reason(rules: Iterable[tuple[str, str]], name: str) -> str | None:
    return next((why for pattern, why in rules if re.fullmatch(pattern, name)), None)


def _reader(weights: Weights, name: str, rows: int | None = None) -> Reader:
    return lambda: weights.read(name)[:rows] if rows else weights.read(name)
