"""The engine: from a clip to answers, for evaluation, command line, server and demo.

A clip is encoded once and its prompt runs through the language model once; every task then only adds its question
(:mod:`nanoemox.inference.decoding`). Closed tasks are scored over their candidates, open tasks are written out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt
import torch

from nanoemox.faces.vectors import FaceTable, face_table, with_face_vectors
from nanoemox.inference.answers import answer_batch, answer_in_batches, memory_as_error, written_pieces
from nanoemox.inference.batch import ClipBatch, Labels, Plan, make_plan, untrained_branches
from nanoemox.inference.checkpoints import load_checkpoint
from nanoemox.inference.decide import Decisions, decide_clips
from nanoemox.inference.embedding import Embedding, embed_clip
from nanoemox.inference.options import AnswerOptions, LoadOptions
from nanoemox.inference.questions import Question, check_questions
from nanoemox.inference.timeline import TimelineOptions, cut, no_answer
from nanoemox.inference.transcribe import add_transcript, find_transcriber
from nanoemox.media.decode import MediaOptions
from nanoemox.media.load import clip_from_arrays, load_clip, media_duration_s
from nanoemox.model.branches import present, read_branches, sidecars
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.tasks import ALL_TASKS
from nanoemox.types import Answer, Clip, ClipSource, MediaArrays, MediaError, NanoEmoXError, Turn


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
        cls,
        path_or_id: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: torch.dtype | None = None,
    ) -> Engine:
        """Load ``small``, ``mini``, a directory or a hub id; None takes ``small`` where it was pulled, else ``mini``.

        Args:
            path_or_id: Only a hub id may touch the network.
            device: ``auto`` takes CUDA where there is one, or ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
            dtype: By default bfloat16 on CUDA and, for weights stored so, on a CPU that multiplies it; else float32.

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
        span_s: tuple[float, float] | None = None,
        face_vectors: str | Path | FaceTable | npt.NDArray[Any] | None = None,
        options: LoadOptions | None = None,
    ) -> Clip:
        """Read a clip as this model needs it: its number of frames, and the selected face.

        Args:
            source: Path, bytes or file object.
            subtitle: The words; None takes those beside or in the file; empty for none.
            history: Earlier turns of the dialogue, oldest first.
            span_s: Read only from here to there, in seconds.
            face_vectors: For a model of ``face.kind: precomputed``: OpenFace's ``.csv`` of the whole recording, or a
                ``.npy`` or float[N, F] whose rows are evenly spread over it; or its table, read once for many spans.
            options: Which person's face is read, and whether speech is recognised.

        Raises:
            MediaError: A file cannot be read.
            NanoEmoXError: Face vectors for a model that looks at the face itself.
        """
        options = options or LoadOptions()
        start_s, end_s = span_s or (0.0, None)
        clip = load_clip(
            source,
            num_frames=self.processor.config.vision.num_frames,
            subtitle=subtitle,
            history=tuple(history),
            start_s=start_s,
            end_s=end_s,
            options=MediaOptions(frame_sampling=self.processor.config.vision.frame_sampling),
        )
        if face_vectors is not None:
            table = self._face_table(face_vectors, options.face_index)
            if span_s is not None and table.recording_s is None and isinstance(source, str | Path):
                table = replace(table, recording_s=media_duration_s(source))
            clip = self.with_face_vectors(clip, table, options.face_index, start_s=start_s)
        if subtitle is None:
            clip = self._with_words(clip, options)
        paths = {"media": str(source)} if isinstance(source, str | Path) else {}
        files = sidecars(self.processor.config, paths)
        return self._with_branches(clip, options.face_index, files, start_s)

    def complete(self, clip: Clip, *, options: LoadOptions | None = None) -> Clip:
        """Add words and face to a clip that was read elsewhere, as :meth:`load` does for a file."""
        options = options or LoadOptions()
        return self._with_branches(self._with_words(clip, options), options.face_index)

    def with_face_vectors(
        self,
        clip: Clip,
        face_vectors: str | Path | FaceTable | npt.NDArray[Any],
        face_index: int = 0,
        *,
        start_s: float = 0.0,
    ) -> Clip:
        """Return the clip with face vectors at the times of its frames, for a model of ``face.kind: precomputed``.

        Args:
            clip: The clip.
            face_vectors: As in :meth:`load`.
            face_index: Which person of an OpenFace table, 0 the one seen most often.
            start_s: Where the clip starts in the recording that the vectors are of, in seconds.

        Raises:
            MediaError: The vectors cannot be read, or are of another width than the model's.
            NanoEmoXError: The model looks at the face itself.
        """
        config = self.processor.config
        return with_face_vectors(
            clip,
            self._face_table(face_vectors, face_index),
            width=config.face.vector_size,
            groups=config.face.vector_columns,
            num_frames=config.vision.num_frames,
            start_s=start_s,
        )

    def _face_table(self, source: str | Path | FaceTable | npt.NDArray[Any], index: int) -> FaceTable:
        """Read face vectors in the format of this model."""
        config = self.processor.config
        if not config.reads_face_vectors:
            kind = config.face.kind if "face" in config.branches else "none"
            raise NanoEmoXError(f"this model takes no face vectors (face.kind: {kind}): leave them out")
        return face_table(Path(source) if isinstance(source, str) else source, config.face.vector_columns, index)

    def _with_words(self, clip: Clip, options: LoadOptions) -> Clip:
        """Recognise the speech of a clip without words, where that is wanted and a recogniser is there."""
        if clip.subtitle or not options.hear:
            return clip
        transcriber = find_transcriber(options.asr_model, self.model.device)
        return clip if transcriber is None else add_transcript(clip, transcriber)

    def _with_branches(
        self, clip: Clip, index: int = 0, files: Mapping[str, str] | None = None, start_s: float = 0.0
    ) -> Clip:
        """Add the other inputs of the active branches (face, signals), unless the clip has them."""
        config = self.processor.config
        return read_branches(clip, config, files, without=untrained_branches(config), start_s=start_s, person=index)

    def answer(
        self,
        clip: ClipSource | None = None,
        tasks: str | Sequence[str] = ALL_TASKS,
        labels: Labels | None = None,
        *,
        text: str | None = None,
        history: Sequence[Turn] = (),
        options: AnswerOptions | None = None,
    ) -> Answer:
        """Answer some or all of the six tasks about one clip.

        Args:
            clip: A clip (faces are detected unless that was done), arrays, or a file that is read with :meth:`load`.
            tasks: Task keys, in the order wanted.
            labels: Candidates of the one closed task, or task -> candidates; the usual lists by default.
            text: The words, alone or in place of those of the clip.
            history: Earlier turns of the dialogue, oldest first, in place of those of the clip.
            options: Whether to think and to explain, and how open answers are written.

        Raises:
            MediaError: The clip cannot be read or holds nothing that this model can use.
            NanoEmoXError: Unknown task, or labels that fit none.
        """
        return self._answer(clip, make_plan(tasks, labels, options), text, history)

    def decide(
        self,
        clip: ClipSource | None,
        questions: Sequence[Question | str | Mapping[str, Any]],
        *,
        text: str | None = None,
        history: Sequence[Turn] = (),
    ) -> Decisions:
        """Answer 1 to 400 questions of your own about one clip: a probability for every option.

        The clip is encoded and its prompt read once; the answers are those of one question at a time, in any order.

        Args:
            clip: A clip, arrays, a file, or None with ``text``.
            questions: Each a :class:`~nanoemox.inference.questions.Question`, its short form (``"choice: Is the
                speaker sincere? yes|no|unclear"``) or an object of OpenAI's ``/v1/decisions``.
            text: The words, alone or in place of those of the clip.
            history: Earlier turns of the dialogue, oldest first, in place of those of the clip.

        Raises:
            MediaError: The clip cannot be read or holds nothing that this model can use.
            NanoEmoXError: A question that cannot be asked; the message says which and why.
        """
        checked = check_questions(questions)
        read, load_s = self._timed_read(clip, text, history)
        with memory_as_error():
            decisions = decide_clips(self.model, self.processor, [read], [checked], self.name)[0]
        timing = {"load": round(load_s, 4)} | decisions.timing_s
        return replace(decisions, timing_s=timing | {"total": round(timing["total"] + load_s, 4)})

    def embed(self, clip: ClipSource) -> Embedding:
        """Return the tokens of each branch of a clip and their means, float32 of the language model's width.

        Raises:
            MediaError: The clip cannot be read or has no media that this model reads.
        """
        return embed_clip(self.model, self.processor, self._read(clip))

    def answer_many(
        self,
        clips: Iterable[ClipSource],
        tasks: str | Sequence[str] = ALL_TASKS,
        labels: Labels | None = None,
        *,
        options: AnswerOptions | None = None,
        batch_size: int = 8,
        on_error: Callable[[int, NanoEmoXError], None] | None = None,
    ) -> Iterator[Answer]:
        """Answer about many clips, lazily and in order; arguments as in :meth:`answer`.

        ``batch_size`` clips run together, while as many are read ahead in threads; the answers are those of one clip
        at a time. A clip may also be a function that reads it. One that cannot be answered raises; given ``on_error``,
        it is left out and ``on_error(position, error)`` is called.
        """
        plan = make_plan(tasks, labels, options)
        config = self.processor.config
        if any(branch.dependence(config) for branch in present(config).values()):
            batch_size = 1
        answer = partial(self._answer_read, plan=plan)
        return answer_in_batches(self._timed_read, answer, iter(clips), max(1, batch_size), on_error)

    def timeline(self, path: str | Path, options: TimelineOptions | None = None) -> Iterator[Answer]:
        """Answer along a long clip, lazily: one answer per window or utterance, with ``span_s`` set.

        A window that cannot be answered gives an answer without tasks and a warning; a still picture is one window.

        Args:
            path: The file.
            options: How it is cut and read, and the tasks; by default windows of 10 s every 3 s, and all tasks.

        Raises:
            MediaError: The file or the face vectors cannot be read; by utterance, nothing timed is written or heard.
            NanoEmoXError: A hop or window that is not allowed, a prompt that is too long, or as in :meth:`answer`.
        """
        options = options or TimelineOptions()
        plan = make_plan(options.tasks, options.labels, options.answer)
        table = options.face_vectors
        if table is not None:
            table = replace(self._face_table(table, options.load.face_index), recording_s=media_duration_s(path))
        load = partial(self.load, path, history=options.history, face_vectors=table)
        for segment in cut(path, options, partial(self._with_words, options=options.load)):
            try:
                how = replace(options.load, hear=segment.hear)
                clip = load(subtitle=segment.subtitle, span_s=segment.span, options=how)
                answer = self._answer(clip, plan)
            except MediaError as error:
                answer = no_answer(path, self.name, error)
            yield segment.place(answer)

    def stream(
        self,
        clip: ClipSource,
        task: str,
        labels: Labels | None = None,
        *,
        options: AnswerOptions | None = None,
    ) -> Iterator[str]:
        """Yield one answer in pieces as it is written; joined they are the ``raw`` text of :meth:`answer`.

        A closed task comes as one piece.
        """
        plan = make_plan((task,), labels, options)
        batch = ClipBatch(self.model, self.processor, [self._read(clip)], plan)
        if plan.closed:
            yield batch.closed()[0][task].raw
            return
        yield from written_pieces(batch, reserve=len(self.processor.terminator_ids) - 1)

    def _read(self, source: ClipSource | None, text: str | None = None, history: Sequence[Turn] = ()) -> Clip:
        """Make one clip of a source, words and history; the latter two replace those of the source."""
        if callable(source):
            source = source()
        if source is not None and not isinstance(source, Clip | MediaArrays):
            if not isinstance(source, str | Path | bytes) and not hasattr(source, "read"):
                raise MediaError(f"{type(source).__name__} is no clip: give a file, its bytes, MediaArrays or a Clip")
            return self.load(source, subtitle=text, history=history)
        words = (text or "").strip() or None
        if isinstance(source, Clip):
            words = source.subtitle if text is None else words
            clip = replace(source, subtitle=words, history=tuple(history) or source.history)
        else:
            name, arrays = ("words", MediaArrays()) if source is None else ("clip", source)
            clip = clip_from_arrays(
                arrays.frames,
                arrays.fps,
                arrays.waveform,
                arrays.sample_rate_hz,
                num_frames=self.processor.config.vision.num_frames,
                subtitle=words,
                history=history,
                name=name,
            )
            if text is None:
                return self.complete(clip)
        return self._with_branches(clip)

    def _answer(
        self, source: ClipSource | None, plan: Plan, text: str | None = None, history: Sequence[Turn] = ()
    ) -> Answer:
        """Answer about one clip."""
        return self._answer_read([self._timed_read(source, text, history)], plan)[0]

    def _timed_read(
        self, source: ClipSource | None, text: str | None = None, history: Sequence[Turn] = ()
    ) -> tuple[Clip, float]:
        begin = time.perf_counter()
        clip = self._read(source, text, history)
        return clip, time.perf_counter() - begin

    def _answer_read(self, clips: Sequence[tuple[Clip, float]], plan: Plan) -> list[Answer]:
        """Answer about some clips together; all seconds but those of reading are shared out evenly."""
        with memory_as_error():
            batch = ClipBatch(self.model, self.processor, [clip for clip, _ in clips], plan)
            return answer_batch(batch, self.name, [seconds for _, seconds in clips])
