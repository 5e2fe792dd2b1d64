"""Any number of typed questions about clips from one encoding and one prefill each.

The questions branch off after the clip's prompt, and each question's options after the question:
one token tree (:mod:`nanoemox.inference.decoding`), cut into pieces where it would take too much memory. A node sees
its ancestors only, so an answer depends neither on the other questions nor on their order. Options are shown in
alphabetical order; the levels of a score are shown from the lowest up, which is their
meaning.

Letters: ``B`` clips, ``V`` vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nanoemox.inference.answers import warnings_of
from nanoemox.inference.batch import ClipBatch, Plan, used_modalities
from nanoemox.inference.calibrating import calibrate
from nanoemox.inference.decoding import Choice, Prefix, score
from nanoemox.inference.options import AnswerOptions
from nanoemox.inference.questions import Decision, Question
from nanoemox.model.modeling import NanoEmoXForConditionalGeneration
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.types import Clip, Modality, NanoEmoXError

MAX_NODES = 512
"""Tokens of questions and options in one forward pass: its mask has as many rows and columns."""
MAX_LOGITS = 2**26
"""Logits of one forward pass, B x tokens x V: 256 MB."""
_NOTHING_ELSE = Plan((), AnswerOptions())


@dataclass(frozen=True, slots=True)
class Decisions:
    """The answers to all questions about one clip.

    Attributes:
        clip: The clip's name.
        model: Name of the model that answered.
        answers: One per question, in order.
        modalities: Modalities that were used.
        warnings: Warnings for the user.
        timing_s: Stage -> seconds.
        input_tokens: Tokens of the prompt, the questions and the options; shared ones are counted once.
    """

    clip: str
    model: str
    answers: tuple[Decision, ...]
    modalities: tuple[Modality, ...] = ()
    warnings: tuple[str, ...] = ()
    timing_s: dict[str, float] = field(default_factory=dict)
    input_tokens: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the command line."""
        asked = [a.to_dict() | {"instructions": a.question.instructions} for a in self.answers]
        return {
            "clip": self.clip,
            "model": self.model,
            "answers": asked,
            "modalities": list(self.modalities),
            "warnings": list(self.warnings),
            "timing_s": dict(self.timing_s),
        }


def decide_clips(
    model: NanoEmoXForConditionalGeneration,
    processor: NanoEmoXProcessor,
    clips: Sequence[Clip],
    questions: Sequence[Sequence[Question]],
    name: str = "model",
) -> list[Decisions]:
    """Answer each clip's own questions; the clips are encoded together, the answers are those of one clip at a time.

    Args:
        model: The model, in eval mode.
        processor: Its processor.
        clips: The clips.
        questions: The questions of each clip.
        name: Name of the model.

    Raises:
        MediaError: A clip holds nothing that the model can read.
        NanoEmoXError: A question does not fit behind its clip's prompt.
    """
    batch = ClipBatch(model, processor, clips, _NOTHING_ELSE)
    begin = time.perf_counter()
    found: list[tuple[Decision, ...]] = [()] * len(clips)
    tokens = [0] * len(clips)
    # Clips with the same questions are scored together.
    for asked in dict.fromkeys(tuple(q) for q in questions):
        rows = [i for i, q in enumerate(questions) if tuple(q) == asked]
        prefix = batch.prefix.rows(rows)
        choices = [choice_of(processor, q) for q in asked]
        _check_room(model, prefix, asked, choices)
        size = sum(len(c.question) + sum(map(len, c.candidates)) for c in choices)
        for i, answers in zip(rows, _answers(model, processor, prefix, asked, choices), strict=True):
            found[i], tokens[i] = answers, int(batch.prefix.lengths[i]) + size
    ask_s = (time.perf_counter() - begin) / len(clips)
    timing = {"encode": batch.encode_s, "ask": ask_s, "total": batch.encode_s + ask_s}
    return [
        Decisions(
            clip.name,
            name,
            found[i],
            used_modalities(clip, batch.branches[i]),
            warnings_of(batch, i),
            {k: round(v, 4) for k, v in timing.items()},
            tokens[i],
        )
        for i, clip in enumerate(clips)
    ]


def choice_of(processor: NanoEmoXProcessor, question: Question) -> Choice:
    """Tokenise a question: ids of the question, and of each option in the question's order."""
    texts = question.texts
    shown = list(zip(texts, question.options, strict=True))
    if question.form == "choice":
        shown.sort(key=lambda pair: pair[0])
    listed = [f"{text} ({o.description})" if o.description else text for text, o in shown]
    ids = processor.decision_ids(question.form, question.instructions, listed)
    return Choice(ids, [processor.option_ids(text) for text in texts])


def score_in_pieces(
    model: Any, prefix: Prefix, choices: Sequence[Choice], max_nodes: int = MAX_NODES, max_logits: int = MAX_LOGITS
) -> list[Tensor]:
    """Equal :func:`~nanoemox.inference.decoding.score`, in as many forward passes as the bounds require.

    Args:
        model: The model.
        prefix: B prompts.
        choices: The questions.
        max_nodes: Tokens in one pass; a single option behind a longer question is still one pass.
        max_logits: Logits in one pass.
    """
    vocabulary = int(model.config.get_text_config().vocab_size)
    widest = max(1, max_logits // (vocabulary * len(prefix.keep)))
    parts: list[list[Tensor]] = [[] for _ in choices]
    for piece in _pieces(choices, max_nodes, widest):
        scores = score(model, prefix, [Choice(choices[k].question, candidates) for k, candidates in piece])
        for (k, _), found in zip(piece, scores, strict=True):
            parts[k].append(found)
    return [torch.cat(found, dim=1) for found in parts]


Piece = list[tuple[int, list[Sequence[int]]]]


def _pieces(choices: Sequence[Choice], max_nodes: int, max_sources: int) -> Iterator[Piece]:
    """Cut the tree: each piece names questions by their index, with some of their options."""
    piece: Piece = []
    nodes = sources = 0
    for k, choice in enumerate(choices):
        for ids in choice.candidates:
            begun = bool(piece) and piece[-1][0] == k
            more = len(ids) + (0 if begun else len(choice.question))
            if piece and (nodes + more > max_nodes or sources + len(ids) > max_sources):
                yield piece
                piece, nodes, sources, begun = [], 0, 0, False
                more = len(ids) + len(choice.question)
            if not begun:
                piece.append((k, []))
            piece[-1][1].append(ids)
            nodes, sources = nodes + more, sources + len(ids)
    if piece:
        yield piece


def _check_room(model: Any, prefix: Prefix, questions: Sequence[Question], choices: Sequence[Choice]) -> None:
    limit = int(model.config.text_config.max_position_embeddings)
    longest = int(prefix.lengths.max())
    for question, choice in zip(questions, choices, strict=True):
        total = longest + len(choice.question) + max(map(len, choice.candidates))
        if total > limit:
            raise NanoEmoXError(
                f"question {question.name or question.instructions[:60]!r} needs {total} tokens behind the clip's "
                f"prompt of {longest}, the model takes {limit}: shorten it, its options, the subtitle or the history"
            )


def _answers(
    model: Any,
    processor: NanoEmoXProcessor,
    prefix: Prefix,
    questions: Sequence[Question],
    choices: Sequence[Choice],
) -> list[tuple[Decision, ...]]:
    """Score the same questions for B clips: one tuple of decisions for each clip."""
    scores = [s.double() for s in score_in_pieces(model, prefix, choices)]
    corrections = [processor.calibration.forms.get(q.form) for q in questions]
    corrected = calibrate(model, processor, corrections, choices, scores, score_in_pieces)
    columns = []
    for question, raw, better in zip(questions, scores, corrected, strict=True):
        shares = raw.softmax(dim=1).tolist()
        final = shares if better is None else better.softmax(dim=1).tolist()
        columns.append(
            [
                Decision(question, tuple(f), None if better is None else tuple(s))
                for f, s in zip(final, shares, strict=True)
            ]
        )
    return list(zip(*columns, strict=True))
