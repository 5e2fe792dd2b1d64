"""How clips are read and questions answered; every method of the engine takes these by keyword."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nanoemox.inference.decoding import GenerationOptions


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How questions are answered.

    Attributes:
        think: ``erg``: write the chain of empathy before the reply.
        explain: Add what the model looked at.
        generation: How open answers are written; greedy by default.
    """

    think: bool = True
    explain: bool = False
    generation: GenerationOptions = field(default_factory=GenerationOptions)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a clip is read.

    Attributes:
        face_index: Which person, 0 the largest (of an OpenFace table: the one seen most often).
        hear: Where there are no words, recognise the speech, if ``small`` was pulled with its recogniser; other
            languages are translated into English. What was heard is kept in ``Clip.heard``.
        asr_model: Directory of another Whisper to recognise speech with.
    """

    face_index: int = 0
    hear: bool = True
    asr_model: str | Path | None = None
