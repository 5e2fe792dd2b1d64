"""The manifest: strict JSON lines, one sample per line.

A sample is one question about one clip with its answer. Media are paths relative to a data root (or to the
manifest's own folder), or absent in text. A file named under ``audio`` replaces the sound of ``media``: so a
voice and a picture of different files make one sample, which must then name the corpus ``composed``, because no such
person exists.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nanoemox.data.files import write_text
from nanoemox.recipes import describe
from nanoemox.tasks import TASKS, format_chain, format_label, format_labels
from nanoemox.tasks.task import Form
from nanoemox.types import RecipeError, Think, Turn

COMPOSED = "composed"
PATHS: Final = ("media", "audio", "face_vectors")
"""Fields of a sample that name a file."""
PARTS: Final = ("speech", "face", "text")
"""Modalities that an explanation may cite, in this order."""
Split = Literal["train", "validation", "test"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClosedLabels(_Strict):
    """Answer of a closed task: the right label and the candidates in the order of the corpus."""

    label: str
    candidates: tuple[str, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.label not in self.candidates:
            raise ValueError(f"label {self.label!r} is not among the candidates {list(self.candidates)}")
        return self


class OpenLabels(_Strict):
    """Answer of the open-vocabulary task: emotion words."""

    labels: tuple[str, ...] = Field(min_length=1)


class TextLabels(_Strict):
    """Answer of the explanation task.

    Attributes:
        text: The whole explanation.
        parts: Modality -> the sentence that cites it. Where given, a clip whose voice is withheld in training is
            explained without its voice.
        conclusion: The sentence that closes an explanation made of parts.
    """

    text: str = Field(min_length=1)
    parts: dict[Literal["speech", "face", "text"], str] = {}
    conclusion: str | None = None


class ReplyLabels(_Strict):
    """Answer of the empathy task: the chain, or null where there is none, and the reply."""

    think: Think | None = None
    reply: str = Field(min_length=1)


_KIND: dict[Form, type[_Strict]] = {"labels": OpenLabels, "text": TextLabels, "reply": ReplyLabels}


class Sample(_Strict):
    """One line of a manifest.

    Attributes:
        id: Unique in its corpus; never a full path.
        corpus: Name of the corpus; ``composed`` where voice and picture come from different recordings.
        split: Which part of the corpus.
        task: Task key.
        labels: The answer, in the shape that the task asks for.
        media: Video, picture or sound file.
        audio: Sound file that replaces the sound of ``media``.
        face_vectors: Vectors computed by another program, ``.csv`` of OpenFace or ``.npy``; models of
            ``face.kind: precomputed`` read them, others the picture.
        subtitle: The words, where they are known.
        history: Earlier turns, oldest first.
        speaker: Who speaks, for splits by person.
        language: ISO 639-1 code.
    """

    id: str = Field(min_length=1)
    corpus: str = Field(min_length=1)
    split: Split
    task: str
    labels: ClosedLabels | OpenLabels | TextLabels | ReplyLabels
    media: str | None = None
    audio: str | None = None
    face_vectors: str | None = None
    subtitle: str | None = None
    history: tuple[Turn, ...] = ()
    speaker: str | None = None
    language: str = "en"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.task not in TASKS:
            raise ValueError(f"task {self.task!r} is none of {', '.join(TASKS)}")
        wanted: type[_Strict] = ClosedLabels if TASKS[self.task].closed else _KIND[TASKS[self.task].form]
        if not isinstance(self.labels, wanted):
            fields = ", ".join(wanted.model_fields)
            raise ValueError(f"labels of task {self.task!r} must have the fields {fields}")
        if not (self.paths or self.subtitle or self.history):
            raise ValueError(f"a sample needs {', '.join(PATHS)}, a subtitle or history")
        if self.media and self.audio and self.corpus != COMPOSED:
            raise ValueError(f"voice and picture of different files: the corpus must be {COMPOSED!r}")
        return self

    @property
    def paths(self) -> dict[str, str]:
        """Field -> path of each file that the sample names."""
        return {name: path for name in PATHS if (path := getattr(self, name))}


def explain(parts: Mapping[str, str], conclusion: str, present: Collection[str] = PARTS) -> str:
    """Join the sentences that cite the modalities present, in the order of :data:`PARTS`, and the conclusion."""
    return " ".join([*(parts[m] for m in PARTS if m in parts and m in present), conclusion])


def target_text(sample: Sample, present: Collection[str] = PARTS, *, think: bool = True) -> str:
    """Return the answer as the model is to write it.

    Args:
        sample: The sample.
        present: Modalities that the model gets to see; an explanation cites no others.
        think: ``erg``: with the chain before the reply, where the sample has one.
    """
    labels = sample.labels
    if isinstance(labels, ClosedLabels):
        return format_label(labels.label)
    if isinstance(labels, OpenLabels):
        return format_labels(labels.labels)
    if isinstance(labels, TextLabels):
        if not labels.parts or labels.conclusion is None:
            return labels.text
        return explain({str(m): text for m, text in labels.parts.items()}, labels.conclusion, present)
    if labels.think is None or not think:
        return labels.reply
    return format_chain(labels.think, labels.reply)


def read_manifest(path: Path) -> list[Sample]:
    """Read and check a manifest.

    Raises:
        RecipeError: A line is not JSON, a field does not fit, or an id comes twice; the message names file, line,
            field and value.
    """
    samples: list[Sample] = []
    seen: dict[tuple[str, str, str], int] = {}
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            sample = Sample.model_validate(json.loads(line))
        except json.JSONDecodeError as error:
            raise RecipeError(f"{path}:{number}: not JSON: {error}") from error
        except ValidationError as error:
            raise RecipeError(f"{path}:{number}: {describe(error)}") from error
        key = (sample.corpus, sample.id, sample.task)
        if key in seen:
            raise RecipeError(f"{path}:{number}: id {sample.id!r} of task {sample.task!r} was on line {seen[key]}")
        seen[key] = number
        samples.append(sample)
    return samples


def write_manifest(samples: Iterable[Sample], path: Path) -> Path:
    """Write a manifest atomically; fields with their default value are omitted."""
    lines = (json.dumps(s.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False) for s in samples)
    write_text(path, "".join(line + "\n" for line in lines))
    return path
