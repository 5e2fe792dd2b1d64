"""Checks of lines, labels and words of a manifest, before any clip is opened."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from nanoemox.data.corpora.releases import family
from nanoemox.data.doctor.findings import Finding
from nanoemox.data.manifest import ClosedLabels, OpenLabels, ReplyLabels, Sample, TextLabels
from nanoemox.recipes import describe
from nanoemox.tasks import LABEL_SETS, MSA, TASKS, format_label

RARE: Final = 0.05
"""A label this rare, compared with a similar one, counts as a misspelling of it."""
_CONTROL: Final = re.compile("[\u0080-\u009f]")
_CURLY: Final = re.compile("[‘’“”]")
# A lead byte of UTF-8 and its followers, each as Windows-1252 shows it.
_TWICE: Final = re.compile("[Â-ô][\u0080-¿ŒœŠšŸŽžƒˆ˜–-…‰‹›€™]{1,3}")
_LOST: Final = re.compile("\ufffd|锟斤拷|ï¿½")


def read_lines(path: Path) -> tuple[list[Sample], list[Finding]]:
    """Read a manifest, skipping invalid lines; return the samples and every mistake."""
    raw = path.read_bytes()
    found: list[Finding] = []
    if raw.startswith(b"\xef\xbb\xbf"):
        found.append(Finding("encoding", "error", f"{path.name}:1", "begins with a byte order mark (save without BOM)"))
        raw = raw[3:]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found.append(Finding("encoding", "error", f"{path.name}:{line}", f"not UTF-8 at byte {error.start}"))
        text = raw.decode("utf-8", errors="replace")
    samples: list[Sample] = []
    seen: dict[tuple[str, str, str], int] = {}
    for number, line_text in enumerate(text.split("\n"), 1):
        if not line_text.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            row = json.loads(line_text)
            sample = Sample.model_validate(row)
        except json.JSONDecodeError as error:
            found.append(Finding("line", "error", where, f"not JSON: {error}"))
        except ValidationError as error:
            found.append(_invalid(row, where, describe(error)))
        else:
            key = (sample.corpus, sample.id, sample.task)
            if key in seen:
                what = f"id {sample.id!r} of task {sample.task!r} was on line {seen[key]}"
                found.append(Finding("line", "error", where, what))
            else:
                seen[key] = number
                samples.append(sample)
    return samples, found


def _invalid(row: Any, where: str, message: str) -> Finding:
    """Distinguish a label outside its candidates from other mistakes."""
    labels = row.get("labels") if isinstance(row, dict) else None
    if isinstance(labels, dict) and isinstance(labels.get("label"), str):
        candidates = [c for c in labels.get("candidates") or () if isinstance(c, str)]
        label = labels["label"]
        if candidates and label not in candidates:
            near = nearest(label, candidates)
            hint = f", but near {near!r}" if near else f" ({', '.join(candidates)})"
            return Finding("label", "error", where, f"label {label!r} is none of its candidates{hint}")
    return Finding("line", "error", where, message)


def nearest(label: str, known: Sequence[str]) -> str | None:
    """Return the label that a misspelt one probably means: ``hapy`` or ``happiness`` for ``happy``."""
    folded = format_label(label)
    for one in known:
        if folded == format_label(one) or family(folded) == family(one):
            return one
    close = get_close_matches(folded, known, 1, 0.72)
    return close[0] if close else None


def check_labels(samples: Sequence[Sample]) -> Iterator[Finding]:
    """Find labels and candidates that the corpus does not have, and rare ones that resemble frequent ones."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    examples: dict[tuple[str, str, str], str] = {}
    offered: dict[tuple[str, str, str], str] = {}
    for sample in samples:
        labels = sample.labels
        words: tuple[str, ...] = (labels.label,) if isinstance(labels, ClosedLabels) else ()
        words = labels.labels if isinstance(labels, OpenLabels) else words
        counts.setdefault((sample.corpus, sample.task), Counter()).update(words)
        for word in words:
            examples.setdefault((sample.corpus, sample.task, word), sample.id)
        if isinstance(labels, ClosedLabels):
            for word in labels.candidates:
                offered.setdefault((sample.corpus, sample.task, word), sample.id)
    for (corpus, task), counter in counts.items():
        listed = None if TASKS[task].form == "labels" else LABEL_SETS.get(corpus)
        known = LABEL_SETS["sentiment"] if task == MSA.key else listed
        if known is None or not _fits(counter, known):
            yield from _rare(corpus, task, counter, examples)
            continue
        unknown = {w: i for (c, t, w), i in (offered | examples).items() if (c, t) == (corpus, task)}
        for word, where in sorted(unknown.items()):
            if word not in known:
                near = nearest(word, known)
                meant = f"near {near!r}" if near else f"they are {', '.join(known)}"
                what = f"{word!r} ({counter[word]} samples) is no {task} label of {corpus}: {meant}"
                yield Finding("label", "error" if near else "warning", where, what)


def _fits(counter: Counter[str], known: Sequence[str]) -> bool:
    """Return whether the corpus' label set belongs to this task: most samples must have a label of it."""
    return sum(counter[word] for word in known) * 2 > sum(counter.values())


def _rare(
    corpus: str, task: str, counter: Counter[str], examples: dict[tuple[str, str, str], str]
) -> Iterator[Finding]:
    frequent = [word for word, _ in counter.most_common()]
    for word in frequent[1:]:
        often = [other for other in frequent if counter[word] <= RARE * counter[other]]
        close = get_close_matches(word, often, 1, 0.8)
        if close:
            what = f"{word!r} ({counter[word]} samples) resembles {close[0]!r} ({counter[close[0]]} samples)"
            yield Finding("label", "warning", examples[corpus, task, word], what)


def check_words(samples: Iterable[Sample]) -> Iterator[Finding]:
    """Find words that were read in a wrong encoding, or lost characters to one."""
    curly = 0
    example = ""
    for sample in samples:
        for text in texts_of(sample):
            if _LOST.search(text):
                yield Finding("encoding", "error", sample.id, f"characters are lost: {_around(text, _LOST)!r}")
            elif (wrong := misread(text)) is not None:
                yield Finding(
                    "encoding", "error", sample.id, f"{wrong[0]!r} should be {wrong[1]!r}: UTF-8 read as other"
                )
            elif _CONTROL.search(text):
                what = f"control characters of Windows-1252: {_around(text, _CONTROL)!r}"
                yield Finding("encoding", "error", sample.id, what)
            elif "\ufeff" in text:
                yield Finding("encoding", "warning", sample.id, "a byte order mark inside of the words")
            if _CURLY.search(text):
                curly, example = curly + 1, example or sample.id
    if curly:
        what = f"{curly} texts have curly quotes; they are kept, words are compared without them"
        yield Finding("encoding", "note", example, what)


def misread(text: str) -> tuple[str, str] | None:
    """Return characters that are UTF-8 read as Windows-1252 or Latin-1, and what they should be."""
    for match in _TWICE.finditer(text):
        for end in range(len(match[0]), 1, -1):
            part = match[0][:end]
            try:
                meant = b"".join(_byte(c) for c in part).decode("utf-8")
            except UnicodeError:
                continue
            return part, meant
    return None


def _byte(character: str) -> bytes:
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:  # five bytes have no character there and are read as control characters
        return character.encode("latin-1")


def _around(text: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(text)
    at = found.start() if found else 0
    return text[max(0, at - 12) : at + 12]


def texts_of(sample: Sample) -> Iterator[str]:
    """Yield every text of a sample."""
    if sample.subtitle:
        yield sample.subtitle
    yield from (turn.text for turn in sample.history)
    if isinstance(sample.labels, ReplyLabels):
        yield sample.labels.reply
    elif isinstance(sample.labels, TextLabels):
        yield sample.labels.text
