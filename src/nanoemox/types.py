"""The values that pass between packages: clips, readings, answers.

Every type is frozen and slotted, holds numpy arrays or plain Python values, and writes the shape of each
array beside its field. Letters: ``T`` frames, ``S`` waveform samples, ``H``/``W`` pixels, ``F`` vector width.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

Modality = str
"""What a clip offers: one of ``MODALITIES``, or the name of a signal."""
MODALITIES: Final[tuple[Modality, ...]] = ("vision", "speech", "face", "text")

SAMPLE_RATE_HZ: Final = 16_000
"""Sampling rate of every waveform inside the package."""
ANSWER_VERSION: Final = 1
"""Version of the JSON object of an answer (:func:`answer_schema`)."""
_NO_OTHER_FIELDS: Final = {"extra": "forbid"}
"""Configuration of pydantic where a type is part of a file."""


class NanoEmoXError(ValueError):
    """A user's mistake or an unusable input; the message names the value, the limit and the remedy."""


class MediaError(NanoEmoXError):
    """A clip that cannot be read."""


class CheckpointError(NanoEmoXError):
    """A model directory or weight file that does not fit."""


class RecipeError(NanoEmoXError):
    """An invalid recipe or manifest."""


@contextmanager
def needs_extra(extra: str, what: str, error: type[NanoEmoXError] = NanoEmoXError) -> Iterator[None]:
    """Raise ``error`` with the extra to install for ``what``, if an import inside the block fails."""
    try:
        yield
    except ImportError as missing:
        raise error(f"{what} needs {missing.name}: pip install 'nanoemox[{extra}]'") from missing


def check_output(option: str, file: Path, *endings: str) -> None:
    """Raise if the name of a file to write is that of a folder, or of another kind of file, such as a user's clip."""
    if os.path.isdir(file):
        raise NanoEmoXError(f"{option} {file}: a folder: give a file in it that ends in {endings[0]}")
    if file.suffix.lower() not in endings:
        raise NanoEmoXError(f"{option} {file}: give a name that ends in {endings[0]}")


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance of a dialogue; a manifest holds it with no other fields."""

    __pydantic_config__: ClassVar = _NO_OTHER_FIELDS
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Word:
    """One word and when it is said, in seconds from the start of the clip."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """The transcript of a clip by the speech recogniser.

    Attributes:
        text: The words, in English.
        language: Code of the language spoken, such as ``en`` or ``zh``.
        language_probability: Of that language, in 0..1.
        task: ``transcribe``, or ``translate`` where another language than English is spoken.
        confidence: Geometric mean of the tokens' probabilities, in 0..1.
        no_speech_probability: Probability that there is no speech, in 0..1.
        words: The words with their times; approximate for a translation.
    """

    text: str
    language: str
    language_probability: float
    task: Literal["transcribe", "translate"]
    confidence: float
    no_speech_probability: float
    words: tuple[Word, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        names = ("text", "language", "language_probability", "task", "confidence", "no_speech_probability")
        words = [{"start_s": w.start_s, "end_s": w.end_s, "text": w.text} for w in self.words]
        return {n: getattr(self, n) for n in names} | {"words": words}


@dataclass(frozen=True, slots=True, eq=False)
class FaceTrack:
    """One person's face through the frames of a clip.

    Attributes:
        boxes: float32[T, 4], ``x0, y0, x1, y1`` in pixels of the frame; square, enlarged, smoothed over time;
            may reach past the frame's edge.
        detected: bool[T], whether a detector saw the face in that frame (elsewhere the nearest box is repeated).
        index: Rank of this track by size and length, 0 the largest.
        num_tracks: Number of people found in the clip.
    """

    boxes: npt.NDArray[np.float32]
    detected: npt.NDArray[np.bool_]
    index: int = 0
    num_tracks: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Signal:
    """The measurements of a sensor besides picture and sound.

    Attributes:
        times_s: float64[N], ascending, in seconds from the start of the clip.
        values: float32[N, C], one row a time; NaN where a channel has no value.
        channels: Names of the C columns, with their units.
    """

    times_s: npt.NDArray[np.float64]
    values: npt.NDArray[np.float32]
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A clip of a talking person as the model sees it.

    Attributes:
        name: What to call the clip in answers and messages (a file name, never a full path).
        frames: uint8[T, H, W, 3] RGB, or None without a picture.
        frame_times_s: float64[T], presentation time of each frame in seconds from the start of the clip.
        waveform: float32[S] in -1..1, mono, 16 kHz, or None without sound.
        duration_s: Length of the clip in seconds; 0.0 for a still picture.
        fps: Mean frame rate of the source, or None.
        subtitle: The words, or None where they are unknown.
        history: Earlier turns of the dialogue, oldest first.
        face: The face that is read, or None where none was looked for or found.
        face_vectors: float32[T, F] precomputed face vectors (landmarks, action units), or None.
        warnings: Sentences for the user: what is missing, partial or guessed.
        heard: What a speech recogniser heard, where ``subtitle`` comes from it.
        signals: Name -> what a sensor measured; the branch of that name reads it.
    """

    name: str
    frames: npt.NDArray[np.uint8] | None = None
    frame_times_s: npt.NDArray[np.float64] | None = None
    waveform: npt.NDArray[np.float32] | None = None
    duration_s: float = 0.0
    fps: float | None = None
    subtitle: str | None = None
    history: tuple[Turn, ...] = ()
    face: FaceTrack | None = None
    face_vectors: npt.NDArray[np.float32] | None = None
    warnings: tuple[str, ...] = ()
    heard: Transcript | None = None
    signals: Mapping[str, Signal] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What this clip offers, in the order of ``MODALITIES``, signals last."""
        has = {
            "vision": self.frames is not None,
            "speech": self.waveform is not None,
            "face": self.face is not None or self.face_vectors is not None,
            "text": bool(self.subtitle) or bool(self.history),
        }
        return (*(m for m in MODALITIES if has[m]), *self.signals)

    @property
    def missing(self) -> tuple[Modality, ...]:
        """What this clip lacks, in the order of ``MODALITIES``."""
        present = self.modalities
        return tuple(m for m in MODALITIES if m not in present)


@dataclass(frozen=True, slots=True, eq=False)
class MediaArrays:
    """Media that are decoded already (camera, microphone, another library): what the engine takes in place of a file.

    Attributes:
        frames: uint8[N, H, W, 3] RGB, or None.
        fps: Frames per second; needed with more than one frame.
        waveform: float[S] or float[C, S] in -1..1, or int16 of the same shape, or None.
        sample_rate_hz: Rate of ``waveform``.
    """

    frames: npt.NDArray[np.uint8] | None = None
    fps: float | None = None
    waveform: npt.NDArray[Any] | None = None
    sample_rate_hz: int = SAMPLE_RATE_HZ


ClipSource = Clip | MediaArrays | str | Path | bytes | BinaryIO | Callable[[], Clip]
"""What the engine answers questions about: a clip, arrays, a file, or a function that reads a clip."""


@dataclass(frozen=True, slots=True)
class Think:
    """The four steps of the chain of empathy (paper, ERG): what was understood before replying."""

    __pydantic_config__: ClassVar = _NO_OTHER_FIELDS
    scenario: str
    emotion: str
    cause: str
    goal: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer to one task. Which fields are set depends on the task (design: six tasks).

    Attributes:
        task: Task key, one of ``nanoemox.tasks.TASKS``.
        raw: What the model wrote (closed tasks: the winning candidate).
        label: Closed tasks: the most probable candidate; None where free text named none.
        probabilities: Closed tasks: candidate -> probability in 0..1, summing to 1.
        uncalibrated: Closed tasks: the same before calibration; None where the model carries none.
        valence: ``msa`` only: P(positive) - P(negative), in -1..1.
        labels: ``ovmer`` only: emotion words in the order written.
        text: ``eri`` only: the explanation.
        think: ``erg`` only: the chain; None if it was not requested, is incomplete, or lost the reply (which was then
            written again without it).
        reply: ``erg`` only: the empathetic reply.
    """

    task: str
    raw: str
    label: str | None = None
    probabilities: Mapping[str, float] | None = None
    valence: float | None = None
    labels: tuple[str, ...] | None = None
    text: str | None = None
    think: Think | None = None
    reply: str | None = None
    uncalibrated: Mapping[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the task object of the JSON answer: only the keys that this task defines."""
        if self.labels is not None:
            return {"labels": list(self.labels), "raw": self.raw}
        if self.text is not None:
            return {"text": self.text, "raw": self.raw}
        if self.reply is not None:
            think = self.think
            chain = (
                None
                if think is None
                else {
                    "scenario": think.scenario,
                    "emotion": think.emotion,
                    "cause": think.cause,
                    "goal": think.goal,
                }
            )
            return {"think": chain, "reply": self.reply, "raw": self.raw}
        out: dict[str, Any] = {"label": self.label}
        if self.probabilities is not None:
            out["probabilities"] = dict(self.probabilities)
        if self.uncalibrated is not None:
            out["uncalibrated"] = dict(self.uncalibrated)
        if self.valence is not None:
            out["valence"] = self.valence
        out["raw"] = self.raw
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the model looked at (``--explain``).

    Attributes:
        frame_times_s: float64[T], times of the frames.
        frame_attention: float32[T] summing to 1, share of the vision adapter's attention, or None.
        window_spans_s: float64[W, 2], start and end of each speech window.
        window_attention: float32[W] summing to 1, share of the speech adapter's attention, or None.
        face_boxes: float32[T, 4] in pixels, or None.
    """

    frame_times_s: npt.NDArray[np.float64] | None = None
    frame_attention: npt.NDArray[np.float32] | None = None
    window_spans_s: npt.NDArray[np.float64] | None = None
    window_attention: npt.NDArray[np.float32] | None = None
    face_boxes: npt.NDArray[np.float32] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists for JSON."""
        pairs = {
            "frame_times_s": self.frame_times_s,
            "frame_attention": self.frame_attention,
            "window_spans_s": self.window_spans_s,
            "window_attention": self.window_attention,
            "face_boxes": self.face_boxes,
        }
        return {k: None if v is None else np.round(v.astype(np.float64), 4).tolist() for k, v in pairs.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The answers about one clip.

    Attributes:
        clip: The clip's name.
        model: Name of the model that answered.
        tasks: Task key -> reading, in the requested order.
        modalities: What the model was given.
        gate: Fusion gate weights, one per expert, summing to 1; None where nothing was fused.
        warnings: Sentences for the user.
        timing_s: Stage -> seconds.
        evidence: Evidence of the answer, if requested.
        span_s: Start and end of the window in the source, for a timeline.
        heard: What a speech recogniser heard, where the words come from it.
    """

    clip: str
    model: str
    tasks: Mapping[str, Reading]
    modalities: tuple[Modality, ...] = ()
    gate: tuple[float, ...] | None = None
    warnings: tuple[str, ...] = ()
    timing_s: Mapping[str, float] = field(default_factory=dict)
    evidence: Evidence | None = None
    span_s: tuple[float, float] | None = None
    heard: Transcript | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the command line and the server; :func:`answer_schema` describes it."""
        out: dict[str, Any] = {
            "version": ANSWER_VERSION,
            "clip": self.clip,
            "model": self.model,
            "tasks": {k: r.to_dict() for k, r in self.tasks.items()},
            "modalities": list(self.modalities),
            "gate": None if self.gate is None else list(self.gate),
            "warnings": list(self.warnings),
            "timing_s": dict(self.timing_s),
        }
        if self.span_s is not None:
            out["span_s"] = list(self.span_s)
        if self.heard is not None:
            out["heard"] = self.heard.to_dict()
        if self.evidence is not None:
            out["evidence"] = self.evidence.to_dict()
        return out


def answer_schema() -> dict[str, Any]:
    """Return the JSON schema of :meth:`Answer.to_dict` (draft 2020-12)."""
    schema: dict[str, Any] = json.loads((files("nanoemox") / "answer.schema.json").read_text("utf-8"))
    return schema
