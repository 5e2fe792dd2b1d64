"""Options of reading clips and answering questions, keyword arguments of the engine's methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nanoemox.inference.decoding import GenerationOptions


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How questions are answered.

    Attributes:
        think: ``erg``: write the chain of empathy before the reply. A reply lost in its chain is written again without
            one (not in a stream, which has sent the chain already).
        explain: Add the evidence.
        generation: Generation of open answers; greedy by default.
    """

    think: bool = True
    explain: bool = False
    generation: GenerationOptions = field(default_factory=GenerationOptions)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a clip is read.

    Attributes:
        face_index: Which person, 0 the largest (of an OpenFace table: the one seen most often).
        hear: Transcribe clips without a transcript, if ``small`` was pulled with its recogniser; other
            languages are translated into English. The transcript is kept in ``Clip.heard``.
        asr_model: Directory of another Whisper to recognise speech with.
    """

    face_index: int = 0
    hear: bool = True
    asr_model: str | Path | None = None
