"""The single way from a clip to answers, for evaluation, command line, server and demo.

A clip is encoded once and its prompt runs through the language model once; every task then only adds its question
(:mod:`nanoemox.inference.decoding`). Closed tasks are scored over their candidates, open tasks are written out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import torch

from nanoemox.faces.tracks import NO_FACE, with_face
from nanoemox.faces.vectors import with_face_vectors
from nanoemox.inference.answers import answer_batch
from nanoemox.inference.batch import (
    ClipBatch,
    Labels,
    Plan,
    clip_of,
    make_plan,
    untrained_branches,
)
from nanoemox.inference.checkpoints import load_checkpoint
from nanoemox.inference.decide import Decisions, decide_clips
from nanoemox.inference.decoding import GenerationOptions
from nanoemox.inference.embedding import Embedding, embed_clip
from nanoemox.inference.pieces import written_pieces
from nanoemox.inference.questions import Question, check_questions
from nanoemox.inference.stretches import heard_between, rolling_stretches, spoken_stretches
from nanoemox.inference.transcribe import find_listener, listen
from nanoemox.media.decode import MediaOptions
from nanoemox.media.load import load_clip, media_duration_s
from nanoemox.media.subtitles import read_sidecar
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.tasks import ALL_TASKS
from nanoemox.types import SAMPLE_RATE_HZ, Answer, Clip, MediaError, NanoEmoXError, Turn

NO_ANSWER = "no answer for this window"
"""How the warning of a window begins that could not be answered."""


class Engine:
    """A loaded model that answers questions about clips.

    Args:
        model: The model, in eval mode on its device.
        processor: Its processor.
        name: What to call the model in answers.
    """

    def __init__(
        self, model: NanoEmoXForConditionalGeneration, processor: NanoEmoXProcessor, name: str = "model"
    ) -> None:
        self.model, self.processor, self.name = model, processor, name

    @classmethod
    def from_pretrained(
        cls, path_or_id: str | Path | None = None, *, device: str = "auto", dtype: torch.dtype | None = None
    ) -> Engine:
        """Load ``small``, ``mini``, a directory or a hub id; None takes ``small`` where it was pulled, else ``mini``.

        Args:
            path_or_id: Only a hub id may touch the network.
            device: ``auto`` takes CUDA where there is one, or ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
            dtype: By default bfloat16 on CUDA, float32 elsewhere.

        Raises:
            CheckpointError: There is no usable model; the message says what is missing.
        """
        return cls(*load_checkpoint(path_or_id, device=device, dtype=dtype))

    def load(
        self,
        source: str | Path | bytes | BinaryIO,
        *,
        subtitle: str | None = None,
        history: Sequence[Turn] = (),
        face_index: int = 0,
        hear: bool = True,
        asr_model: str | Path | None = None,
        span_s: tuple[float, float] | None = None,
        face_vectors: str | Path | npt.NDArray[Any] | None = None,
    ) -> Clip:
        """Read a clip as this model needs it: its number of frames, and the face that is to be read.

        Args:
            source: Path, bytes or file object.
            subtitle: The words; None takes those beside or in the file; empty for none.
            history: Earlier turns of the dialogue, oldest first.
            face_index: Which person, 0 the largest.
            hear: Where there are no words, listen for them with the recogniser that came with ``small`` (if it was
                pulled) and put what was heard into ``Clip.heard``; other languages are translated into English.
            asr_model: Directory of another Whisper to listen with.
            span_s: Read only from here to there, in seconds.
            face_vectors: For a model of ``face.kind: precomputed``: OpenFace's ``.csv`` of the whole recording, or a
                ``.npy`` or float[N, F] whose rows are evenly spread over it.

        Raises:
            MediaError: A file cannot be read.
            NanoEmoXError: Face vectors for a model that looks at the face itself.
        """
        clip = load_clip(
            source,
            num_frames=self.processor.config.vision.num_frames,
            subtitle=subtitle,
            history=tuple(history),
            start_s=span_s[0] if span_s else 0.0,
            end_s=span_s[1] if span_s else None,
            options=MediaOptions(frame_sampling=self.processor.config.vision.frame_sampling),
        )
        if face_vectors is not None:
            whole_s = None
            if span_s is not None and isinstance(source, str | Path):
                whole_s = media_duration_s(source)
            clip = self.with_face_vectors(
                clip, face_vectors, face_index, start_s=span_s[0] if span_s else 0.0, recording_s=whole_s
            )
        return self.complete(clip, face_index=face_index, hear=hear and subtitle is None, asr_model=asr_model)

    def complete(
        self, clip: Clip, *, face_index: int = 0, hear: bool = True, asr_model: str | Path | None = None
    ) -> Clip:
        """Do to a clip that was read elsewhere what :meth:`load` does to a file: find words and face."""
        heard = self._with_words(clip, hear and not clip.subtitle, asr_model)
        return self._with_face(heard, face_index)

    def with_face_vectors(
        self,
        clip: Clip,
        face_vectors: str | Path | npt.NDArray[Any],
        face_index: int = 0,
        *,
        start_s: float = 0.0,
        recording_s: float | None = None,
    ) -> Clip:
        """Return the clip with face vectors at the times of its frames, for a model of ``face.kind: precomputed``.

        Args:
            clip: The clip.
            face_vectors: As in :meth:`load`.
            face_index: Which person of an OpenFace table, 0 the one seen most often.
            start_s: Where the clip starts in the recording that the vectors are of, in seconds.
            recording_s: Length of that recording; by default the clip's.

        Raises:
            MediaError: The vectors cannot be read, or are of another width than the model's.
            NanoEmoXError: The model looks at the face itself.
        """
        config = self.processor.config
        if not config.reads_face_vectors:
            kind = config.face.kind if "face" in config.branches else "none"
            raise NanoEmoXError(f"this model takes no face vectors (face.kind: {kind}): leave them out")
        return with_face_vectors(
            clip,
            Path(face_vectors) if isinstance(face_vectors, str | Path) else face_vectors,
            width=config.face.vector_size,
            groups=config.face.vector_columns,
            num_frames=config.vision.num_frames,
            start_s=start_s,
            source_s=recording_s,
            index=face_index,
        )

    def _with_words(self, clip: Clip, wanted: bool, asr_model: str | Path | None) -> Clip:
        """Listen to a clip without words where a recogniser is there."""
        listener = find_listener(asr_model, self.model.device) if wanted else None
        return clip if listener is None else listen(clip, listener)

    def _with_face(self, clip: Clip, index: int = 0) -> Clip:
        """Look for the face unless that was done or the model has no use for it."""
        config = self.processor.config
        reads = "face" in config.branches and "face" not in untrained_branches(config)
        wanted = reads and config.face.kind != "precomputed" and config.face.crop == "detector"
        looked = clip.face is not None or NO_FACE in clip.warnings
        return with_face(clip, index) if wanted and not looked else clip

    def answer(
        self,
        clip: Clip | str | Path | None = None,
        tasks: Sequence[str] = ALL_TASKS,
        labels: Labels | None = None,
        think: bool = True,
        *,
        text: str | None = None,
        history: Sequence[Turn] = (),
        frames: npt.NDArray[np.uint8] | None = None,
        fps: float | None = None,
        waveform: npt.NDArray[Any] | None = None,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        explain: bool = False,
        generation: GenerationOptions | None = None,
    ) -> Answer:
        """Answer some or all of the six tasks about one clip.

        Args:
            clip: A clip, whose face is looked for if nobody has, or a file that is read with :meth:`load`.
            tasks: Task keys, in the order wanted.
            labels: Candidates of the closed task asked, or task -> candidates; the usual lists by default.
            think: ``erg``: write the chain of empathy before the reply.
            text: The words, alone or with a clip, a file or arrays.
            history: Earlier turns of the dialogue, oldest first.
            frames: In place of a clip: uint8[N, H, W, 3] RGB.
            fps: Their frames per second.
            waveform: In place of a clip or beside ``frames``: float[S] or float[C, S] in -1..1, or int16.
            sample_rate_hz: Its rate.
            explain: Add what the model looked at.
            generation: How open answers are written; greedy by default.

        Raises:
            MediaError: The clip cannot be read or holds nothing that this model can use.
            NanoEmoXError: Unknown task, or labels that fit none.
        """
        plan = make_plan(tasks, labels, think, explain, generation)
        if clip is None or text is not None or history or frames is not None or waveform is not None:
            arrays = {"frames": frames, "fps": fps, "waveform": waveform, "sample_rate_hz": sample_rate_hz}
            clip = clip_of(self.load, self.processor.config.vision.num_frames, clip, text, history, arrays)
        return self._answer([clip], plan)[0]

    def decide(
        self,
        clip: Clip | str | Path | None,
        questions: Sequence[Question | str | Mapping[str, Any]],
        *,
        text: str | None = None,
        history: Sequence[Turn] = (),
    ) -> Decisions:
        """Answer 1 to 400 questions of your own about one clip: a probability for every option.

        The clip is encoded and its prompt read once; the answers are those of one question at a time, in any order.

        Args:
            clip: A clip, a file, or None with ``text``.
            questions: Each a :class:`~nanoemox.inference.questions.Question`, its short form (``"choice: Is the
                speaker sincere? yes|no|unclear"``) or an object of OpenAI's ``/v1/decisions``.
            text: The words, alone or with a clip.
            history: Earlier turns of the dialogue, oldest first.

        Raises:
            MediaError: The clip cannot be read or holds nothing that this model can use.
            NanoEmoXError: A question that cannot be asked; the message says which and why.
        """
        asked = check_questions(questions)
        if clip is None or text is not None or history:
            arrays = {"frames": None, "fps": None, "waveform": None, "sample_rate_hz": SAMPLE_RATE_HZ}
            clip = clip_of(self.load, self.processor.config.vision.num_frames, clip, text, history, arrays)
        begin = time.perf_counter()
        read = self._read(clip)
        load_s = time.perf_counter() - begin
        found = decide_clips(self.model, self.processor, [read], [asked], self.name)[0]
        timing = {"load": round(load_s, 4)} | found.timing_s
        return replace(found, timing_s=timing | {"total": round(timing["total"] + load_s, 4)})

    def embed(self, clip: Clip | str | Path) -> Embedding:
        """Return the tokens of each branch of a clip and their means, float32 of the language model's width.

        Raises:
            MediaError: The clip cannot be read or has no media that this model reads.
        """
        return embed_clip(self.model, self.processor, self._read(clip))

    def answer_many(
        self,
        clips: Iterable[Clip | str | Path],
        tasks: Sequence[str] = ALL_TASKS,
        labels: Labels | None = None,
        think: bool = True,
        *,
        explain: bool = False,
        generation: GenerationOptions | None = None,
        batch_size: int = 8,
        on_error: Callable[[int, NanoEmoXError], None] | None = None,
    ) -> Iterator[Answer]:
        """Answer about many clips, lazily and in order; arguments as in :meth:`answer`.

        ``batch_size`` clips are read ahead and run together; the answers are those of one clip at a time. A clip that
        cannot be answered raises, or is left out and told to ``on_error`` with its position among ``clips``.
        """
        plan = make_plan(tasks, labels, think, explain, generation)
        if self.processor.config.speech.normalise == "batch":
            batch_size = 1  # Reference: such features depend on the other clips of the batch
        return self._answer_all(iter(clips), plan, max(1, batch_size), on_error)

    def timeline(
        self,
        path: str | Path,
        every_s: float = 3.0,
        window_s: float = 10.0,
        tasks: Sequence[str] = ALL_TASKS,
        labels: Labels | None = None,
        *,
        think: bool = True,
        explain: bool = False,
        generation: GenerationOptions | None = None,
        subtitle: str | None = None,
        history: Sequence[Turn] = (),
        face_index: int = 0,
        hear: bool = True,
        asr_model: str | Path | None = None,
        face_vectors: str | Path | npt.NDArray[Any] | None = None,
        by: Literal["window", "utterance"] = "window",
    ) -> Iterator[Answer]:
        """Answer along a long clip, lazily: one answer per window or utterance, with ``span_s`` set.

        A window that cannot be answered (a pause, a gap) gives an answer without tasks whose warning says why. A still
        picture is one window from 0 to 0 s.

        Args:
            path: The file.
            every_s: Hop between windows in seconds.
            window_s: Length of a window in seconds, at least the hop.
            tasks: This and the next four as in :meth:`answer`.
            labels: Candidates.
            think: Chain of empathy.
            explain: Add evidence.
            generation: How open answers are written.
            subtitle: This and the rest as in :meth:`load`.
            history: Earlier turns.
            face_index: Which person.
            hear: Whether to listen where there are no words.
            asr_model: Directory of another Whisper to listen with.
            face_vectors: Of the whole recording.
            by: ``utterance`` cuts where what is said ends (timed subtitles beside the clip, else what is heard), and
                gives each stretch its own words; ``every_s`` and ``window_s`` are not used then.

        Raises:
            MediaError: Nothing in the file can be read, or ``by="utterance"`` where nothing timed is written or heard.
            NanoEmoXError: A hop or window that cannot be meant, a prompt that is too long, or as in :meth:`answer`.
        """
        plan = make_plan(tasks, labels, think, explain, generation)
        spoken = by == "utterance"
        if spoken:
            whole = load_clip(path, num_frames=1, subtitle=subtitle)
            if not read_sidecar(Path(path)):
                whole = replace(whole, subtitle=None)  # words without times do not say where to cut
            whole = self._with_words(whole, hear, asr_model)
        for span, words in spoken_stretches(whole, path) if spoken else rolling_stretches(path, every_s, window_s):
            try:
                clip = self.load(
                    path,
                    subtitle=words if subtitle is None else subtitle,
                    history=history,
                    face_index=face_index,
                    hear=hear and not spoken,
                    asr_model=asr_model,
                    span_s=span,
                    face_vectors=face_vectors,
                )
                answer = self._answer([clip], plan)[0]
            except MediaError as error:
                reason = str(error).removeprefix(f"{Path(path).name}: ")
                answer = Answer(Path(path).name, self.name, {}, warnings=(f"{NO_ANSWER}: {reason}",))
            if spoken and span is not None:
                answer = replace(answer, heard=heard_between(whole, span))
            yield replace(answer, span_s=(span.start_s, span.end_s) if span else (0.0, 0.0))

    def stream(
        self,
        clip: Clip | str | Path,
        task: str,
        labels: Labels | None = None,
        think: bool = True,
        *,
        generation: GenerationOptions | None = None,
    ) -> Iterator[str]:
        """Yield one answer in pieces as it is written; joined they are the ``raw`` text of :meth:`answer`.

        A closed task comes as one piece.
        """
        plan = make_plan((task,), labels, think, generation=generation)
        batch = ClipBatch(self.model, self.processor, [self._read(clip)], plan)
        if plan.closed:
            yield batch.closed()[0][task].raw
            return
        yield from written_pieces(batch, held=len(self.processor.terminator_ids) - 1)

    def _answer_all(
        self,
        clips: Iterator[Clip | str | Path],
        plan: Plan,
        batch_size: int,
        on_error: Callable[[int, NanoEmoXError], None] | None,
    ) -> Iterator[Answer]:
        numbered = enumerate(clips)
        while batch := list(islice(numbered, batch_size)):
            try:
                answers = self._answer([clip for _, clip in batch], plan)
            except NanoEmoXError:
                if on_error is None:
                    raise
                answers = self._answer_each(batch, plan, on_error)
            yield from answers

    def _answer_each(
        self,
        batch: Sequence[tuple[int, Clip | str | Path]],
        plan: Plan,
        on_error: Callable[[int, NanoEmoXError], None],
    ) -> list[Answer]:
        """Answer one by one where a batch failed, so that one bad clip does not take its neighbours along."""
        answers = []
        for i, clip in batch:
            try:
                answers += self._answer([clip], plan)
            except NanoEmoXError as error:
                on_error(i, error)
        return answers

    def _read(self, source: Clip | str | Path) -> Clip:
        return self._with_face(source) if isinstance(source, Clip) else self.load(source)

    def _answer(self, sources: Sequence[Clip | str | Path], plan: Plan) -> list[Answer]:
        """Answer about some clips together; all seconds but those of loading are shared out evenly."""
        clips, load_s = [], []
        for source in sources:
            begin = time.perf_counter()
            clips.append(self._read(source))
            load_s.append(time.perf_counter() - begin)
        return answer_batch(ClipBatch(self.model, self.processor, clips, plan), self.name, load_s)
