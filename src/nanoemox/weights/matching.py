"""Which tensor of a public backbone becomes which of ours: strictly, each used, dropped for a reason, or an error."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.types import CheckpointError
from nanoemox.weights.convert_reference import check_tied_head, convert_state, convert_swin, drop_reason, new_names
from nanoemox.weights.presets import Part
from nanoemox.weights.sources import Weights
from nanoemox.weights.writer import Reader

OURS: dict[Part, str] = {
    "vision": "vision_encoder.encoder.",
    "speech": "speech_encoder.encoder.",
    "face": "face_encoder.backbone.model.",
    "text": "language_model.",
}
"""Part -> where its backbone lies in our model."""

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
_DROPPED: dict[Part, tuple[tuple[str, str], ...]] = {
    "vision": (
        (r"(.*\.)?(text_.*|logit_(scale|bias)|visual_projection\..*)", "CLIP's text side, never loaded"),
        (r"(.*\.)?(post_layernorm|layernorm|head|pooler|classifier)\..*", "stands after the last block"),
        _COUNTED,
    ),
    "speech": (
        (r"(.*\.)?decoder\..*|proj_out\..*", "the decoder, never run"),
        (r"(.*\.)?(lm_head|classifier|projector|final_proj|quantizer|project_q|project_hid)\..*",
         "a head of the encoder's own training"),
        (r"(.*\.)?(layer_weights|label_embeddings_concat)", "a head of the encoder's own training"),
        _COUNTED,
    ),
    "face": (
        (r"(.*\.)?(layernorm|norm)\.(weight|bias)", "norm after the last stage, which is read before it"),
        (r"(.*\.)?(classifier|head|pooler|fc)\..*", "classifier of the face backbone"),
        (r"(face_decoder|pe_layer)\..*", "FaceXFormer's decoder, never run"),
        _COUNTED,
    ),
    "text": (_COUNTED,),
}  # fmt: skip
_OPTIONAL = (
    (r".*\.hidden_states_norms\..*", "norm of a stage, in no public file: starts as the identity"),
    (r".*\.masked_spec_embed", "only read while a speech encoder is trained"),
    (r"face_encoder\.(projections|fuse|norms)\..*", "fuses the stages, not in this file: drawn at random"),
)
_FACEX = "facial_encoder.facexformer."
_POSITIONS = "speech_encoder.encoder.embed_positions.weight"
_HEAD, _WORDS = "lm_head.weight", "model.embed_tokens.weight"


@dataclass(slots=True)
class Match:
    """What becomes of one backbone's tensors.

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


def match(part: Part, weights: Weights, table: Mapping[str, Tensor], config: NanoEmoXConfig) -> Match:
    """Match one backbone with our model.

    Args:
        part: Which.
        weights: Its tensors.
        table: Name -> meta tensor of our whole model.
        config: Its configuration.

    Raises:
        CheckpointError: A tensor of the file is of no known use, one of ours is missing, or shapes differ; all listed.
    """
    if part == "face" and weights.place.is_file():
        out, shapes, unknown = _match_face_file(weights, config)
    else:
        out, shapes, unknown = _match_names(part, weights, table, config)
    encoder = OURS[part].partition(".")[0] + "."
    missing = []
    for name in (n for n in table if n.startswith(encoder) and n not in shapes):
        why = _reason(_OPTIONAL, name)
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
    part: Part, weights: Weights, table: Mapping[str, Tensor], config: NanoEmoXConfig
) -> tuple[Match, dict[str, tuple[int, ...]], list[str]]:
    prefix = OURS[part]
    targets = {n.removeprefix(prefix) for n in table if n.startswith(prefix)}
    pairs = _pairs(weights.shapes, targets)
    shapes = {prefix + ours: tuple(weights.shapes[theirs]) for ours, theirs in pairs.items()}
    out = Match({prefix + ours: _reader(weights, theirs) for ours, theirs in pairs.items()})
    out.origins = {prefix + ours: theirs for ours, theirs in pairs.items()}
    if part == "speech" and _POSITIONS in shapes and len(table[_POSITIONS]) < shapes[_POSITIONS][0]:
        # Whisper's positions are a fixed sinusoid: a shorter window reads the first of them.
        out.used[_POSITIONS] = _reader(weights, pairs[_POSITIONS.removeprefix(prefix)], len(table[_POSITIONS]))
        shapes[_POSITIONS] = (len(table[_POSITIONS]), *shapes[_POSITIONS][1:])
    unknown = []
    for name in weights.shapes.keys() - set(pairs.values()):
        why = _reason(_DROPPED[part], name) or _too_deep(name, targets)
        if part == "text" and name.endswith(_HEAD) and config.text_config.tie_word_embeddings:
            if _WORDS in pairs:
                check_tied_head(weights.read(name), weights.read(pairs[_WORDS]))
            why = "tied to the word embeddings"
        if why is None:
            unknown.append(name)
        else:
            out.dropped[why].append(name)
    return out, shapes, sorted(unknown)


def _pairs(names: Iterable[str], targets: set[str]) -> dict[str, str]:
    """Our name -> theirs, under that wrapper of theirs (``vision_model.``, ``hubert.``, none ...) that fits best."""
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
    """Say that a block lies past the deepest one that is built."""
    layer = re.compile(r"(?:^|\.)layers?\.(\d+)\.(.+)")
    built = [m for m in map(layer.search, targets) if m]
    found = layer.search(name)
    deeper = found and found[2] in {m[2] for m in built} and int(found[1]) > max(int(m[1]) for m in built)
    return "block deeper than the deepest state that is read" if deeper else None


def _match_face_file(weights: Weights, config: NanoEmoXConfig) -> tuple[Match, dict[str, tuple[int, ...]], list[str]]:
    """FaceXFormer's own file, or torchvision's Swin alone."""
    if config.face.kind != "swin":
        raise CheckpointError(
            f"{weights.place}: a file gives a Swin, but face.kind is {config.face.kind}: name a folder"
        )
    out, unknown, official = Match(), [], {}
    for theirs in weights.shapes:
        name = re.sub(r"^features\.", "backbone.0.", re.sub(r"^module\.", "", theirs))
        kept = re.match(r"backbone\.0\.|linear_(c|fuse)\.", name)
        why = (
            drop_reason(_FACEX + name) if kept else _reason(_DROPPED["face"], re.sub(r"^backbone\.1\.", "norm.", name))
        )
        if kept:
            official[_FACEX + name] = weights.read(theirs)
            out.origins |= dict.fromkeys(new_names(_FACEX + name), theirs)
        if why is not None:
            out.dropped[why].append(theirs)
        elif not kept:
            unknown.append(theirs)
    if any(n.startswith(f"{_FACEX}linear_") for n in official):
        state = convert_state(official, config, parts=("face_encoder",))
    else:
        swin = {n.removeprefix(f"{_FACEX}backbone.0."): t for n, t in official.items()}
        state = {OURS["face"] + n: t for n, t in convert_swin(swin, prefix="").items()}
    out.used = {n: _holder(t) for n, t in state.items()}
    out.origins = {n: theirs for n, theirs in out.origins.items() if n in state}
    return out, {n: tuple(t.shape) for n, t in state.items()}, sorted(unknown)


def _reason(rules: Iterable[tuple[str, str]], name: str) -> str | None:
    return next((why for pattern, why in rules if re.fullmatch(pattern, name)), None)


def _reader(weights: Weights, name: str, rows: int | None = None) -> Callable[[], Tensor]:
    return lambda: weights.read(name)[:rows] if rows else weights.read(name)


def _holder(tensor: Tensor) -> Callable[[], Tensor]:
    return lambda: tensor
