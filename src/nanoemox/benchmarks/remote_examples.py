"""Few-shot examples for served models: never from the evaluated split, chosen by hash, transcript and answer only.

Images and audio of examples are not sent: many servers accept media in one message only, and three example clips would
cost more than the clip in question.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.remote_prompts import Message, example_messages
from nanoemox.data.manifest import ReplyLabels, Sample, Split, target_text
from nanoemox.tasks import parse_label
from nanoemox.types import Clip, NanoEmoXError

_PARTS: Final[tuple[Split, ...]] = ("train", "validation")
_WORD: Final = re.compile(r"[^\W\d_]+")


def pool(benchmark: Benchmark, corpus: Sequence[Sample]) -> list[Sample]:
    """Return the samples with a transcript that may serve as examples, ordered by hash.

    They come from the training split, else from the validation split, and never from the evaluated split. A reply
    needs its chain, as the requested format has one.
    """
    for part in _PARTS:
        found = [s for s in corpus if s.split == part != benchmark.split and _fits(s, benchmark)]
        if found:
            return sorted(found, key=lambda s: hashlib.sha256(s.id.encode()).digest())
    return []


def draw_examples(benchmark: Benchmark, corpus: Sequence[Sample], num: int) -> tuple[Sample, ...]:
    """Return ``num`` examples, the same for every clip; a smaller number is a prefix of a larger one.

    Raises:
        NanoEmoXError: There are fewer.
    """
    found = pool(benchmark, corpus)[:num]
    if len(found) < num:
        raise NanoEmoXError(
            f"--shots {num}: corpus {benchmark.corpus} has {len(found)} samples with words outside of the part that "
            f"{benchmark.id} asks; give --shots {len(found)}, or bring the training part"
        )
    return tuple(found)


def example_dialogue(samples: Sequence[Sample], benchmark: Benchmark) -> list[Message]:
    """Return examples as messages, each with its answer in the form of the question."""
    return [message for s in samples for message in example_messages(s, benchmark, target_text(s))]


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A reply from the training split.

    Attributes:
        said: The words replied to.
        reply: The reply.
        emotion: Emotion of the person.
        known: Distinct words of ``said`` and of the history.
    """

    said: str
    reply: str
    emotion: str
    known: frozenset[str]


class ExemplarIndex:
    """Replies of the training split, retrieved by emotion and word overlap."""

    def __init__(self, benchmark: Benchmark, corpus: Sequence[Sample]) -> None:
        self._exemplars = [_exemplar(s, s.labels) for s in pool(benchmark, corpus) if isinstance(s.labels, ReplyLabels)]

    def nearest(self, reading: str, clip: Clip, labels: Sequence[str], num: int) -> list[tuple[str, str]]:
        """Return the words and replies of the nearest exemplars.

        Args:
            reading: What the first step wrote.
            clip: Whose words are compared: the share of common words among all (Jaccard).
            labels: Emotions; exemplars of the one that the reading names come first.
            num: How many.
        """
        emotion = parse_label(reading, labels)
        wanted = _known(clip.subtitle, [turn.text for turn in clip.history])
        ranked = sorted(
            self._exemplars,
            key=lambda e: (e.emotion != emotion, -len(wanted & e.known) / max(1, len(wanted | e.known))),
        )
        return [(e.said, e.reply) for e in ranked[:num]]


def _fits(sample: Sample, benchmark: Benchmark) -> bool:
    if sample.task != benchmark.task or not sample.subtitle:
        return False
    return not isinstance(sample.labels, ReplyLabels) or sample.labels.think is not None


def _exemplar(sample: Sample, labels: ReplyLabels) -> Exemplar:
    known = _known(sample.subtitle, [turn.text for turn in sample.history])
    return Exemplar(sample.subtitle or "", labels.reply, labels.think.emotion if labels.think else "", known)


def _known(said: str | None, before: Sequence[str]) -> frozenset[str]:
    return frozenset(_WORD.findall(" ".join([*before, said or ""]).casefold()))
