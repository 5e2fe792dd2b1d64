"""Declared shapes are true, and the import hook of the test suite rejects others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, get_type_hints

import pytest
import torch
from jaxtyping import TypeCheckError, jaxtyped
from torch import nn

from nanoemox.model.adapters import TokenAdapter, VectorAdapter
from nanoemox.model.branches.face import FaceBranchConfig, FaceEncoder
from nanoemox.model.branches.speech import SpeechEncoder
from nanoemox.model.branches.vision import VisionEncoder
from nanoemox.model.fusion import build_fusion
from nanoemox.model.processing import Ask
from nanoemox.model.qformer import QFormer
from nanoemox.model.splice import holders, splice
from tests.tiny import WHISPER_TINY, tiny_clip, tiny_config, tiny_model, tiny_processor

KINDS: dict[str, dict[str, Any]] = {
    "experts": {},
    "attention": {"fusion": {"kind": "attention", "num_tokens": 2}},
    "cross": {"fusion": {"pairing": "cross"}},
    "grid": {"vision": {"frame_tokens": "grid2"}},
    "whisper": {"speech": {"encoder": WHISPER_TINY}},
}


def agrees(output: tuple[Any, ...]) -> bool:
    """Whether the fields of a named tuple have the shapes that its class declares, with one size a letter."""
    hints = get_type_hints(type(output), include_extras=True)
    with jaxtyped("context"):
        return all(isinstance(value, hints[name]) for name, value in output._asdict().items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_have_the_declared_shapes(kind: str, dtype: torch.dtype) -> None:
    config = tiny_config(**KINDS[kind])
    model, seen = tiny_model(config).to(dtype), set()

    def look(part: nn.Module, _: Any, output: Any) -> None:
        if hasattr(output, "_asdict"):
            assert agrees(output), f"{type(part).__name__}: { ({k: v.shape for k, v in output._asdict().items()}) }"
            seen.add(type(output).__name__)

    for part in model.modules():
        part.register_forward_hook(look)
    with torch.no_grad():
        model(**tiny_processor(config)([tiny_clip(0), tiny_clip(1)], [Ask("msa"), Ask("mer")]))
    assert seen == {"Levels", "QFormerOutput", "AdapterOutput", "FusionOutput"}


def test_field_of_another_shape_is_a_mismatch() -> None:
    levels = VisionEncoder(tiny_config().vision)(torch.zeros(2, 3, 3, 32, 32))
    assert agrees(levels)
    assert not agrees(levels._replace(last=levels.last[:, :2]))
    assert not agrees(levels._replace(last=levels.last.long()))


def vectors() -> FaceEncoder:
    """A face encoder that passes on what it is given, so that nothing but the signature can refuse."""
    return FaceEncoder(FaceBranchConfig(kind="precomputed", vector_size=20))


def fusion(**fields: Any) -> nn.Module:
    return build_fusion(tiny_config(fusion=fields))


F = torch.zeros
IDS = torch.zeros(2, 5, dtype=torch.int64)
# One axis too few or too many, a size that must be another's, a type that is no such number.
WRONG: dict[str, tuple[Callable[[], Callable[..., Any]], tuple[Any, ...]]] = {
    "frames without a batch": (lambda: VisionEncoder(tiny_config().vision), (F(3, 3, 32, 32),)),
    "frames in bytes": (lambda: VisionEncoder(tiny_config().vision), (F(1, 3, 3, 32, 32).byte(),)),
    "frames of four colours": (lambda: VisionEncoder(tiny_config().vision), (F(1, 3, 4, 32, 32),)),
    "one window": (lambda: SpeechEncoder(tiny_config().speech), (F(2, 2000),)),
    "vectors without a batch": (vectors, (F(3, 20),)),
    "crops of one colour": (vectors, (F(2, 3, 1, 32, 32),)),
    "a face without frames": (lambda: VectorAdapter(tiny_config().face, 32), (F(2, 32),)),
    "features without a batch": (lambda: TokenAdapter(tiny_config().vision, 32), (F(3, 32),)),
    "features with heads": (lambda: QFormer(tiny_config().vision), (F(2, 2, 3, 32),)),
    "taps that do not pair up": (lambda: fusion(pairing="cross"), (F(2, 2, 4, 32), F(2, 3, 4, 32))),
    "levels without taps": (lambda: fusion(kind="attention"), (F(2, 4, 32), F(2, 4, 32))),
    "clips that do not pair up": (fusion, (F(1, 3, 4, 32), F(2, 3, 4, 32))),
    "one prompt": (lambda: partial(holders, placeholder_id=1), (IDS[0],)),
    "prompts in floats": (lambda: partial(holders, placeholder_id=1), (IDS.float(),)),
    "words of other prompts": (lambda: splice, (F(2, 4, 8), IDS, {}, {})),
    "tokens of another width": (lambda: splice, (F(2, 5, 8), IDS, {"face": F(2, 2, 4)}, {"face": 1})),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_shape_is_refused(name: str) -> None:
    make, arguments = WRONG[name]
    part = make()
    with pytest.raises(TypeCheckError, match=r"checking the parameters of nanoemox\.model\."), torch.no_grad():
        part(*arguments)


class FirstOfBatch(nn.Module):
    """A gate that forgets all samples but one."""

    def forward(self, joined: torch.Tensor) -> torch.Tensor:
        return joined[:1, :3]


def test_wrong_output_shape_is_refused() -> None:
    part = fusion()
    part.gate = FirstOfBatch()
    with pytest.raises(TypeCheckError, match=r"checking the return value of .*ExpertFusion\.sequence"), torch.no_grad():
        part(F(2, 3, 4, 32), F(2, 3, 4, 32))
