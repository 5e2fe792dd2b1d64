"""ESConv: emotional support between strangers (CC BY-NC 4.0).

Without the release's large training file, the development file is used for training and the test file for validation.

Every line of the files is a window of a dialogue that ends with the listener's reply, the listener's strategy in
brackets. Of failed conversations only replies that the seeker rated 4 or 5 are used. The chain is not annotated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import find, find_or_none, read_json, read_text
from nanoemox.data.manifest import ReplyLabels, Sample, Split
from nanoemox.tasks import ERG
from nanoemox.types import Turn

HISTORY_TURNS: Final = 4
REPLY_WORDS: Final = range(4, 41)
SPEAKER, LISTENER = "speaker", "listener"
_TURN = re.compile(r"\s*[\d.]+ +\d+ +\d+ +(?:\[(?P<strategy>[A-Z][^\]]*)\] *)?(?P<text>.*)", re.DOTALL)
_FILE: Final = "{}WithStrategy_short.tsv"
_RELEASE: Final[tuple[tuple[str, Split], ...]] = (("train", "train"), ("dev", "validation"), ("test", "test"))
_WITHOUT_TRAIN: Final[tuple[tuple[str, Split], ...]] = (("dev", "train"), ("test", "validation"))
Utterance = tuple[str, str, str]
"""Role, text, strategy (empty for the speaker)."""


@dataclass(frozen=True, slots=True)
class SupportReply:
    """One reply of a listener.

    Attributes:
        source: The turn before the reply, with a history of up to four turns.
        reply: The reply.
        said: All previous turns of the seeker, oldest first.
        strategy: The listener's annotated strategy.
        emotion: The seeker's annotated emotion, if the file has it.
    """

    source: Source
    reply: str
    said: tuple[str, ...]
    strategy: str
    emotion: str | None = None


def read(root: Path) -> list[Sample]:
    """Return one sample per reply; ``root`` contains the ``*WithStrategy_short.tsv``."""
    return [found.source.sample(ERG.key, ReplyLabels(reply=found.reply)) for found in replies(root)]


def replies(root: Path) -> Iterator[SupportReply]:
    """Yield the replies of all files with their annotations."""
    files = _WITHOUT_TRAIN if find_or_none(root, _FILE.format("train")) is None else _RELEASE
    for part, split in files:
        for number, line in enumerate(read_text(find(root, _FILE.format(part))).split("\n"), 1):
            if line.strip():
                yield from _reply(f"{part}-{number}", split, [_utterance(turn) for turn in line.split(" EOS ")])
    failed = find_or_none(root, "FailedESConv.json")
    for number, conversation in enumerate(read_json(failed) if failed else ()):
        yield from _failed(number, conversation)


def _utterance(turn: str) -> Utterance:
    match = _TURN.match(turn)
    strategy, text = (match["strategy"] or "", match["text"]) if match else ("", turn)
    return (LISTENER if strategy else SPEAKER), " ".join(text.split()), strategy


def _failed(number: int, conversation: dict[str, Any]) -> Iterator[SupportReply]:
    turns: list[Utterance] = []
    for i, turn in enumerate(conversation["dialog"]):
        role = SPEAKER if turn["speaker"] == "speaker" else LISTENER
        text = " ".join(turn["content"].split())
        turns.append((role, text, turn["annotation"].get("strategy", "Other") if role == LISTENER else ""))
        later = conversation["dialog"][i + 1 :]
        rating = next((t["annotation"].get("feedback") for t in later if t["annotation"]), None)
        if role == LISTENER and rating in ("4", "5"):
            yield from _reply(f"failed-{number}-{i}", "train", turns, conversation["emotion_type"])


def _reply(key: str, split: Split, turns: list[Utterance], emotion: str | None = None) -> Iterator[SupportReply]:
    """Yield the last turn as a reply, unless it is too short, too long or has no previous turn."""
    *before, (role, reply, strategy) = turns
    if role != LISTENER or len(reply.split()) not in REPLY_WORDS:
        return
    merged: list[tuple[str, str]] = []
    for who, text, _ in before:
        if merged and merged[-1][0] == who:
            merged[-1] = (who, f"{merged[-1][1]} {text}")
        else:
            merged.append((who, text))
    # Listeners often write twice in a row: the reply then belongs to the turn before the first.
    while merged and merged[-1][0] == LISTENER:
        merged.pop()
    if not merged:
        return
    *history, (_, subtitle) = merged[-1 - HISTORY_TURNS :]
    source = Source(
        id=key,
        corpus="esconv",
        split=split,
        subtitle=subtitle,
        history=tuple(Turn(role=who, text=text) for who, text in history),
    )
    yield SupportReply(source, reply, tuple(text for who, text in merged if who == SPEAKER), strategy, emotion)
