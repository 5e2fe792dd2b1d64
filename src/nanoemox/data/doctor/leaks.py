"""Leaks between training and evaluation data, by clip name, content, speaker and words.

A leak is a pair of a training and a held-out sample. Annotation files of others do not say what
they are for: against a training sample they count as held out; against a held-out one they give a warning.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from nanoemox.data.corpora.messages import SAID
from nanoemox.data.corpora.mintrec import clip_name
from nanoemox.data.doctor.findings import Finding, Level
from nanoemox.data.manifest import ReplyLabels
from nanoemox.data.opening import SampleSource
from nanoemox.data.overlap import MIN_WORDS, TEXT_FIELDS, annotation_fields, normalise

Role = Literal["train", "held out", "unknown"]
Trait = Literal["name", "content", "speaker", "words"]
_FILE_FIELDS: Final = frozenset({"videos", "audios", "video", "audio", "video_name", "file", "wav", "name", "names"})


@dataclass(frozen=True, slots=True)
class Trace:
    """A trait by which one sample, or one field of an annotation file, can be recognised.

    Attributes:
        trait: Kind of trait.
        value: Normalised value.
        role: Split of the sample.
        where: Source and sample, for the message.
        source: The source alone.
        media: Whether it has a clip.
    """

    trait: Trait
    value: tuple[str, ...]
    role: Role
    where: str
    source: str
    media: bool = False


def traces(source: SampleSource, contents: Mapping[str, str]) -> Iterator[Trace]:
    """Yield the traits of samples.

    Args:
        source: The samples.
        contents: Absolute path of a media file -> SHA-256, where it is there.
    """
    for sample in source.samples:
        role: Role = "train" if sample.split == "train" else "held out"
        where, media = f"{source.name}: {sample.id}", bool(sample.media or sample.audio)
        yield Trace("name", (sample.corpus, sample.id), role, where, source.name, media)
        if sample.speaker:
            yield Trace("speaker", (sample.corpus, sample.speaker), role, where, source.name, media)
        for path in (sample.media, sample.audio):
            key = contents.get(os.path.abspath(source.root / path)) if path else None
            if key is not None:
                yield Trace("content", (key,), role, where, source.name, media)
        reply = sample.labels.reply if isinstance(sample.labels, ReplyLabels) else None
        for text in filter(None, (sample.subtitle, reply)):
            words = long_enough(text)
            if words:
                yield Trace("words", (words,), role, where, source.name, media)


def long_enough(text: str) -> str | None:
    """Return normalised words, or None if they are too few to identify a clip."""
    words = normalise(text)
    return words if words.count(" ") + 1 >= MIN_WORDS else None


def annotation_traces(path: Path) -> Iterator[Trace]:
    """Yield words and clip names of any JSON, CSV or TSV file: every field with a known name."""
    source = "/".join(path.parts[-2:])
    for field, value in annotation_fields(path):
        said = SAID.search(value) if field in {"value", "query"} or field in TEXT_FIELDS else None
        if said or field in TEXT_FIELDS:
            words = long_enough(said["text"] if said else value)
            if words:
                yield Trace("words", (words,), "unknown", source, source)
        elif field in _FILE_FIELDS:
            name = clip_name(os.path.splitext(value.replace("\\", "/"))[0]).removeprefix("MUStARD_")
            yield Trace("name", ("", name), "unknown", f"{source}: {value.rsplit('/', 1)[-1]}", source)


def find_leaks(own: Sequence[Trace], others: Iterable[Trace]) -> Iterator[Finding]:
    """Compare a source with itself and with others; one finding a sample, trait and other source (speakers: once)."""
    table: dict[tuple[Trait, tuple[str, ...]], list[Trace]] = {}
    for trace in others:
        kept = table.setdefault((trace.trait, trace.value), [])
        if all((t.source, t.role) != (trace.source, trace.role) for t in kept):  # one of each is enough
            kept.append(trace)
    for trace in own:
        kept = table.setdefault((trace.trait, trace.value), [])
        if all((t.source, t.role) != (trace.source, trace.role) for t in kept):
            kept.append(trace)
    seen: set[tuple[str, ...]] = set()
    for trace in own:
        same = list(table[trace.trait, trace.value])
        if trace.trait == "name":  # annotation files do not name their corpus
            same += table.get(("name", ("", trace.value[1])), [])
        for other in same:
            level = _level(trace, other)
            who = (*trace.value, trace.role) if trace.trait == "speaker" else (trace.where,)
            if level is None or (*who, trace.trait, other.source) in seen:
                continue
            seen.add((*who, trace.trait, other.source))
            yield Finding(f"leak by {trace.trait}", level, trace.where, _message(trace, other))


def _level(trace: Trace, other: Trace) -> Level | None:
    """Return the level of a trait that two samples share; None if it is no leak."""
    if trace.source == other.source:
        # Reported once, at the training sample; acted corpora repeat their sentences in every part by design.
        if (trace.role, other.role) != ("train", "held out"):
            return None
        if trace.trait == "words" and trace.media and other.media:
            return "note"
        return "warning" if trace.trait == "speaker" else "error"
    if trace.role == other.role:
        return "note"
    if trace.role == "held out" and other.role == "unknown":
        return "warning"
    return "warning" if trace.trait == "speaker" else "error"


def _message(trace: Trace, other: Trace) -> str:
    value = trace.value[-1]
    value = f"{value[:60]}..." if len(value) > 60 else value
    roles = {"train": "trains", "held out": "is held out", "unknown": "is listed"}
    return f"{value!r} {roles[trace.role]} here and {roles[other.role]} in {other.where}"
