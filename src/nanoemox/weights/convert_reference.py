"""Names of the authors' checkpoints and of torchvision's Swin, mapped to ours. The only place that knows them.

A conversion is strict: every tensor is renamed, or dropped for a stated reason, or it is an error, and every part of
our model that it touches is complete and of the right shapes afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from nanoemox.model.branches import BRANCHES
from nanoemox.model.configuration import NanoEmoXConfig
from nanoemox.model.fusion import build_fusion
from nanoemox.model.lora import TARGETS
from nanoemox.types import CheckpointError

HEAD = "llama_model.base_model.model.lm_head.weight"
DROPPED: tuple[tuple[str, str], ...] = (
    (r"facial_encoder\.lynorm\.(weight|bias)", "created, never called"),
    (r"image_llama_proj\.(weight|bias)", "no image branch in any phase"),
    (r"multi_(audio|video)_embs\.(weight|bias)", "belongs to the attention fusion, never called"),
    (r".*\.position_ids", "a counting buffer, checked"),
    (r".*\.relative_position_index", "a counting buffer, checked"),
    (re.escape(HEAD), "tied to the word embeddings"),
    (r"visual_encoder\.model\.(logit_scale|text_.*|visual_projection\.weight)", "CLIP's text side, never called"),
    (r"facial_encoder\.facexformer\.backbone\.1\.(weight|bias)", "norm after the last stage, which is read before it"),
    (r"(features\.head|head|norm)\.(weight|bias)", "classifier of the face backbone"),
)
"""Pattern of an official name -> why it is not carried over."""

_FUSION = "multi_multiscale_fusion."
_RENAMED: tuple[tuple[str, str], ...] = (
    # adapters
    (r"audio_query_tokens", "speech_adapter.qformer.queries"),
    (r"video_query_tokens", "vision_adapter.qformer.queries"),
    (r"audio_position_embedding\.", "speech_adapter.positions."),
    (r"video_frame_position_embedding\.", "vision_adapter.positions."),
    (r"audio_llama_proj\.", "speech_adapter.projection."),
    (r"(video_proj|video_llama_proj)\.", "vision_adapter.projection."),
    (r"audio_Qformer\.bert\.embeddings\.LayerNorm\.", "speech_adapter.qformer.norm."),
    (r"video_Qformer\.bert\.embeddings\.LayerNorm\.", "vision_adapter.qformer.norm."),
    (r"audio_Qformer\.bert\.encoder\.layer\.", "speech_adapter.qformer.layers."),
    (r"video_Qformer\.bert\.encoder\.layer\.", "vision_adapter.qformer.layers."),
    # face
    (r"facial_encoder\.query$", "face_adapter.queries"),
    (r"facial_encoder\.attn\.", "face_adapter.attention."),
    (r"facial_encoder\.face_proj\.", "face_adapter.projector."),
    (r"facial_encoder\.facexformer\.linear_c\.(\d+)\.proj\.", r"face_encoder.projections.\1."),
    (r"facial_encoder\.facexformer\.linear_fuse\.", "face_encoder.fuse."),
    # fusion
    (re.escape(_FUSION) + r"audio_proj\.", "fusion.speech_projections.0."),
    (re.escape(_FUSION) + r"visual_proj\.", "fusion.vision_projections.0."),
    (re.escape(_FUSION) + r"cross_attns\.(\d+)\.", r"fusion.experts.\1.attention."),
    (re.escape(_FUSION) + r"ffns\.(\d+)\.0\.", r"fusion.experts.\1.norm."),
    (re.escape(_FUSION) + r"ffns\.(\d+)\.1\.", r"fusion.experts.\1.up."),
    (re.escape(_FUSION) + r"ffns\.(\d+)\.4\.", r"fusion.experts.\1.down."),
    (re.escape(_FUSION) + r"gate_mlp\.", "fusion.gate."),
    (r"multi_llama_proj\.", "fusion.projection."),
    # encoders and language model
    (r"visual_encoder\.model\.vision_model\.", "vision_encoder.encoder."),
    (r"acoustic_encoder\.model\.", "speech_encoder.encoder."),
    (r"llama_model\.base_model\.model\.", "language_model."),
)
_QFORMER: tuple[tuple[str, str], ...] = (
    (r"\.attention\.self\.", ".self_attention."),
    (r"\.attention\.output\.dense\.", ".self_attention.out."),
    (r"\.attention\.output\.LayerNorm\.", ".self_attention.norm."),
    (r"\.crossattention\.self\.", ".cross_attention."),
    (r"\.crossattention\.output\.dense\.", ".cross_attention.out."),
    (r"\.crossattention\.output\.LayerNorm\.", ".cross_attention.norm."),
    (r"\.intermediate_query\.dense\.", ".up."),
    (r"\.output_query\.dense\.", ".down."),
    (r"\.output_query\.LayerNorm\.", ".norm."),
)
_SWIN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "attn.relative_position_bias_table": "attention.relative_position_bias.relative_position_bias_table",
    "mlp.0": "mlp.fc1",
    "mlp.3": "mlp.fc2",
}
_LORA = (".lora_A.default.weight", ".lora_B.default.weight")
_FACE_BACKBONE = "facial_encoder.facexformer.backbone.0."


def convert_state(
    official: Mapping[str, Tensor],
    config: NanoEmoXConfig,
    lora_scale: float | None = None,
    parts: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """Rename an official state dict, or any part of one, to the names of our model.

    Args:
        official: Name -> tensor in the authors' layout.
        config: The model that receives it; vision blocks deeper than it reads are left out.
        lora_scale: alpha / r: LoRA matrices are added to the base weights, which must be there. None keeps them under
            the names that ``save_adapters`` writes (official files hold no base weights).
        parts: Attributes of our model to fill, all of them whole, e.g. ``("speech_adapter",)`` for a file of phase 1-1,
            which leaks half a face adapter. By default every part that the file touches.

    Raises:
        CheckpointError: Names that no rule covers, a part that stays incomplete, a shape that the configuration does
            not give, a counting buffer with other numbers, a head that is not tied; all are listed.
    """
    _check_buffers(official)
    if HEAD in official and (words := official.get(HEAD.replace("lm_head", "model.embed_tokens"))) is not None:
        check_tied_head(official[HEAD], words)
    kept = _merge_lora({n: t for n, t in official.items() if drop_reason(n) is None}, lora_scale)
    swin = {n.removeprefix(_FACE_BACKBONE): t for n, t in kept.items() if n.startswith(_FACE_BACKBONE)}
    out = {f"face_encoder.backbone.model.{n}": t for n, t in convert_swin(swin, prefix="").items()}
    unknown = []
    for name, tensor in kept.items():
        if name.startswith(_FACE_BACKBONE) or _too_deep(name, config):
            continue
        new = our_name(name)
        if new is None:
            unknown.append(name)
        else:
            out[new] = tensor
    if unknown:
        raise CheckpointError(f"{len(unknown)} tensor(s) of no known name: {sorted(unknown)}")
    wanted = {_part(n) for n in out} if parts is None else set(parts)
    out = {n: t for n, t in out.items() if _part(n) in wanted}
    _check_complete(out, config, wanted)
    return out


def drop_reason(name: str) -> str | None:
    """Say why an official tensor is not carried over, or None if it is."""
    return next((why for pattern, why in DROPPED if re.fullmatch(pattern, name)), None)


def new_names(name: str) -> list[str]:
    """Name what an official tensor becomes in our model: one tensor, three of a joint matrix, none if unknown."""
    if name.startswith(_FACE_BACKBONE):
        return [f"face_encoder.backbone.model.{n}" for n in _swin_names(name.removeprefix(_FACE_BACKBONE)) or []]
    renamed = our_name(name)
    return [] if renamed is None else [renamed]


def convert_swin(state: Mapping[str, Tensor], prefix: str = "features.") -> dict[str, Tensor]:
    """Rename torchvision's Swin to the library's ``SwinModel`` (joint query-key-value matrices are split).

    Args:
        state: Name -> tensor; classifier and counting buffers are dropped.
        prefix: What precedes the index of a torchvision feature.
    """
    _check_buffers(state)
    out: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        if drop_reason(name) is not None:
            continue
        parts = _swin_names(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if parts is None:
            unknown.append(name)
        elif len(parts) == 1:
            out[parts[0]] = tensor
        else:
            out.update(zip(parts, (p.contiguous() for p in tensor.chunk(3)), strict=True))
    if unknown:
        raise CheckpointError(f"{len(unknown)} tensor(s) that torchvision's Swin has not: {sorted(unknown)}")
    return out


def _swin_names(name: str) -> list[str] | None:
    """New names of one torchvision tensor: one, or three for a joint query-key-value."""
    if match := re.fullmatch(r"0\.(0|2)\.(weight|bias)", name):
        part = {"0": "patch_embeddings.projection", "2": "norm"}[match[1]]
        return [f"embeddings.{part}.{match[2]}"]
    if match := re.fullmatch(r"([246])\.(norm|reduction)\.(weight|bias)", name):
        return [f"encoder.layers.{int(match[1]) // 2 - 1}.downsample.{match[2]}.{match[3]}"]
    if not (match := re.fullmatch(r"([1357])\.(\d+)\.(.+)", name)):
        return None
    block, rest = f"encoder.layers.{int(match[1]) // 2}.blocks.{match[2]}", match[3]
    if found := re.fullmatch(r"attn\.qkv\.(weight|bias)", rest):
        return [f"{block}.attention.{p}_proj.{found[1]}" for p in "qkv"]
    for old, new in _SWIN_BLOCK.items():
        if rest == old or rest.startswith(old + "."):
            return [f"{block}.{new}{rest.removeprefix(old)}"]
    return None


def our_name(name: str) -> str | None:
    """Return the name in our model of an official tensor, None if it has none."""
    for pattern, new in _RENAMED:
        if re.match(pattern, name):
            renamed = re.sub(pattern, new, name, count=1).replace(".base_layer.", ".")
            if ".qformer.layers." in renamed:
                for old, ours in _QFORMER:
                    renamed = re.sub(old, ours, renamed)
            return renamed
    return None


def _too_deep(name: str, config: NanoEmoXConfig) -> bool:
    """Whether a vision block lies past the deepest one that is read."""
    match = re.match(r"visual_encoder\.model\.vision_model\.encoder\.layers\.(\d+)\.", name)
    return match is not None and int(match[1]) >= max(config.vision.last, *config.vision.taps)


def check_tied_head(head: Tensor, words: Tensor) -> None:
    """Refuse a head float[V, H] that is not the word embeddings float[V, H], up to rounding to half precision."""
    rows = 8192  # 50 MB at a time
    if head.shape != words.shape or not all(
        torch.allclose(h.float(), w.float(), rtol=2**-7, atol=1e-6)
        for h, w in zip(head.split(rows), words.split(rows), strict=True)
    ):
        raise CheckpointError(
            f"lm_head.weight {tuple(head.shape)} of the checkpoint differs from embed_tokens.weight "
            f"{tuple(words.shape)}: it was trained with another language model (the authors': Qwen2.5-1.5B-Instruct)"
        )


def _check_buffers(official: Mapping[str, Tensor]) -> None:
    """Raise if index buffers have other values: the weights would have another meaning."""
    counted: dict[str, Callable[[int], Tensor]] = {
        "position_ids": torch.arange,
        "relative_position_index": window_index,
    }
    wrong = [
        name
        for name, tensor in official.items()
        if (count := counted.get(name.rpartition(".")[2])) is not None
        and not torch.equal(tensor.flatten().cpu().long(), count(tensor.numel()))
    ]
    if wrong:
        raise CheckpointError(f"counting buffer(s) that do not count as usual: {sorted(wrong)}")


def window_index(count: int) -> Tensor:
    """Row of the bias table for each pair of places in a square window of count^(1/4) a side: int64[side^4]."""
    side = round(count**0.25)
    row, column = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
    down, right = (at[:, None] - at[None, :] + side - 1 for at in (row, column))
    return (down * (2 * side - 1) + right).flatten()


def _part(name: str) -> str:
    return name.partition(".")[0]


def _check_complete(state: Mapping[str, Tensor], config: NanoEmoXConfig, parts: Iterable[str]) -> None:
    """Compare what was converted with the parts that the configuration builds, shapes included."""
    found = {n: t.shape for n, t in state.items() if ".lora_" not in n}
    # Official files hold LoRA without the weights that it changes.
    parts = [p for p in parts if p != "language_model" or any(_part(n) == p for n in found)]
    own = {n: shape for part in parts for n, shape in expected_shapes(part, config).items()}
    missing, surplus = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    shapes = [
        f"{n}: file {tuple(found[n])}, model {tuple(own[n])}"
        for n in sorted(own.keys() & found.keys())
        if own[n] != found[n]
    ]
    if missing or surplus or shapes:
        raise CheckpointError(
            f"the checkpoint does not fit the configuration (is it the preset `reference`?): missing {missing}, "
            f"unknown to the model {surplus}, shapes {shapes}"
        )


def expected_shapes(part: str, config: NanoEmoXConfig) -> dict[str, torch.Size]:
    """Names and shapes of one part of our model; nothing is allocated."""
    builders: dict[str, Callable[[], nn.Module]] = {
        **{f"{name}_encoder": partial(of.build_encoder, config) for name, of in BRANCHES.items()},
        **{f"{name}_adapter": partial(of.build_adapter, config) for name, of in BRANCHES.items()},
        "fusion": lambda: build_fusion(config),
        "language_model": lambda: AutoModelForCausalLM.from_config(config.text_config),
    }
    if part not in builders:
        raise CheckpointError(f"{part!r} is no part of the model; parts: {sorted(builders)}")
    with torch.device("meta"):
        state = builders[part]().state_dict()
    if part == "language_model" and config.text_config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    return {f"{part}.{n}": t.shape for n, t in state.items()}


def _merge_lora(state: Mapping[str, Tensor], scale: float | None) -> dict[str, Tensor]:
    """Add LoRA to the base weights, where there is a scale; half a pair is an error in any case."""
    stems = {n.removesuffix(end) for n in state for end in _LORA if n.endswith(end)}
    needed = {s + end for s in stems for end in _LORA} | {f"{s}.base_layer.weight" for s in stems if scale is not None}
    if absent := sorted(needed - state.keys()):
        raise CheckpointError(
            f"LoRA of {len(stems)} layer(s) lacks {absent}; where only base weights are missing, convert with "
            "lora_scale=None and load the result onto a base with LoRA attached"
        )
    if scale is None:
        return dict(state)
    out = {n: t for n, t in state.items() if not n.endswith(_LORA)}
    for stem in stems:
        base, (down, up) = f"{stem}.base_layer.weight", (state[stem + end] for end in _LORA)
        out[base] = fold_pair(out[base], down, up, scale)
    return out


def fold_pair(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """Return W + scale * B @ A in the precision of W float[out, in]; A float[r, in], B float[out, r]."""
    return (weight.double() + scale * (up.double() @ down.double())).to(weight.dtype)


def lora_pairs(state: Mapping[str, Tensor], config: NanoEmoXConfig) -> dict[str, tuple[Tensor, Tensor]]:
    """Collect the LoRA of a converted state: layer of our language model -> (A, B), all layers or none.

    Raises:
        CheckpointError: Layers are missing or unknown, or sizes differ from the configuration's or among each other.
    """
    stems = {n.removesuffix(_LORA[0]) for n in state if n.endswith(_LORA[0])}
    if not stems:
        return {}
    own = {n.removesuffix(".weight"): shape for n, shape in expected_shapes("language_model", config).items()}
    targets = {n for n in own if re.fullmatch(TARGETS, n)}
    pairs = {stem: (state[stem + _LORA[0]], state[stem + _LORA[1]]) for stem in sorted(stems)}
    rank = len(next(iter(pairs.values()))[0])
    shapes = [
        f"{stem}: A {tuple(down.shape)}, B {tuple(up.shape)}, layer {tuple(own[stem])}"
        for stem, (down, up) in pairs.items()
        if stem in targets and (down.shape != (rank, own[stem][1]) or up.shape != (own[stem][0], rank))
    ]
    if stems != targets or shapes:
        raise CheckpointError(
            f"LoRA does not fit the language model: missing {sorted(targets - stems)}, "
            f"unknown {sorted(stems - targets)}, shapes {shapes}"
        )
    return pairs
