"""Nano-EmoX: from a clip of a talking person to six affective answers.

The public names load on first use, so ``import nanoemox`` stays instant. The Auto classes of transformers know the
model from this import on, whichever of the two packages is imported first; they load it on first use, too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nanoemox.model.auto_hook import install

if TYPE_CHECKING:
    from nanoemox.benchmarks.compare import compare
    from nanoemox.benchmarks.evaluate import evaluate
    from nanoemox.benchmarks.score import score
    from nanoemox.faces.tracks import with_face
    from nanoemox.inference.decide import Decisions
    from nanoemox.inference.decoding import GenerationOptions
    from nanoemox.inference.embedding import Embedding
    from nanoemox.inference.engine import Engine
    from nanoemox.inference.options import AnswerOptions, LoadOptions
    from nanoemox.inference.questions import Decision, Option, Question
    from nanoemox.inference.timeline import TimelineOptions
    from nanoemox.media.load import clip_from_arrays, load_clip
    from nanoemox.model.configuration import NanoEmoXConfig
    from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
    from nanoemox.model.processing import Ask, NanoEmoXProcessor
    from nanoemox.tasks import ALL_TASKS, LABEL_SETS, TASKS, parse
    from nanoemox.types import (
        Answer,
        CheckpointError,
        Clip,
        Evidence,
        FaceTrack,
        MediaArrays,
        MediaError,
        NanoEmoXError,
        Reading,
        RecipeError,
        Think,
        Turn,
        answer_schema,
    )

    __version__: str

__all__ = [
    "ALL_TASKS",
    "LABEL_SETS",
    "TASKS",
    "Answer",
    "AnswerOptions",
    "Ask",
    "CheckpointError",
    "Clip",
    "Decision",
    "Decisions",
    "Embedding",
    "Engine",
    "Evidence",
    "FaceTrack",
    "GenerationOptions",
    "LoadOptions",
    "MediaArrays",
    "MediaError",
    "NanoEmoXConfig",
    "NanoEmoXError",
    "NanoEmoXForConditionalGeneration",
    "NanoEmoXProcessor",
    "Option",
    "Question",
    "Reading",
    "RecipeError",
    "Think",
    "TimelineOptions",
    "Turn",
    "__version__",
    "answer_schema",
    "clip_from_arrays",
    "compare",
    "evaluate",
    "load_clip",
    "parse",
    "score",
    "with_face",
]

_HOMES = {
    "benchmarks.compare": ("compare",),
    "benchmarks.evaluate": ("evaluate",),
    "benchmarks.score": ("score",),
    "model.configuration": ("NanoEmoXConfig",),
    "inference.decide": ("Decisions",),
    "inference.decoding": ("GenerationOptions",),
    "inference.embedding": ("Embedding",),
    "inference.engine": ("Engine",),
    "inference.options": ("AnswerOptions", "LoadOptions"),
    "inference.questions": ("Decision", "Option", "Question"),
    "inference.timeline": ("TimelineOptions",),
    "faces.tracks": ("with_face",),
    "media.load": ("clip_from_arrays", "load_clip"),
    "model.modeling": ("NanoEmoXForConditionalGeneration",),
    "model.processing": ("Ask", "NanoEmoXProcessor"),
    "tasks": ("ALL_TASKS", "LABEL_SETS", "TASKS", "parse"),
    "types": (
        "Answer",
        "CheckpointError",
        "Clip",
        "Evidence",
        "FaceTrack",
        "MediaArrays",
        "MediaError",
        "NanoEmoXError",
        "Reading",
        "RecipeError",
        "Think",
        "Turn",
        "answer_schema",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODEL_SIDE = (
    "inference.decide",
    "inference.embedding",
    "inference.engine",
    "model.configuration",
    "model.modeling",
    "model.processing",
)


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name == "__version__":
        from importlib.metadata import version

        return version("nanoemox")
    if name not in _HOME:
        raise AttributeError(f"module 'nanoemox' has no attribute {name!r}")
    if _HOME[name] in _MODEL_SIDE:
        import_module("nanoemox.model.auto")
    return getattr(import_module(f"nanoemox.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})


install()
