"""ESConv: emotional support between strangers (CC BY-NC 4.0).

Without the release's large training file, the development file trains and the test file validates.

Every line of the files is a window of a dialogue that ends in the listener's reply, with the listener's strategy in
brackets. Talks in which help failed teach how people speak but not how to help, so only their replies that the
seeker rated 4 or 5 are used, and those say what the seeker's annotated emotion is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import find, find_or_none, read_json, read_text
from nanoemox.data.manifest import Chain, HistoryTurn, ReplyLabels, Sample, Split
from nanoemox.data.targets import chain

FOLDER: Final = Path("corpora/text/esconv")
HISTORY_TURNS: Final = 4
REPLY_WORDS: Final = range(4, 41)
SPEAKER, LISTENER = "speaker", "listener"
_TURN = re.compile(r"\s*[\d.]+ +\d+ +\d+ +(?:\[(?P<strategy>[A-Z][^\]]*)\] *)?(?P<text>.*)", re.DOTALL)
_FILE: Final = "{}WithStrategy_short.tsv"
_RELEASE: Final[tuple[tuple[str, Split], ...]] = (("train", "train"), ("dev", "validation"), ("test", "test"))
_WITHOUT_TRAIN: Final[tuple[tuple[str, Split], ...]] = (("dev", "train"), ("test", "validation"))
Utterance = tuple[str, str, str]
"""Role, text, strategy (empty for the speaker)."""


def read(root: Path) -> list[Sample]:
    """Return one sample for each reply that answers something; ``root`` holds the ``*WithStrategy_short.tsv``."""
    files = _WITHOUT_TRAIN if find_or_none(root, _FILE.format("train")) is None else _RELEASE
    out: list[Sample] = []
    for part, split in files:
        for number, line in enumerate(read_text(find(root, _FILE.format(part))).split("\n"), 1):
            if line.strip():
                turns = [_utterance(turn) for turn in line.split(" EOS ")]
                out += _sample(f"{part}-{number}", split, turns, None)
    failed = find_or_none(root, "FailedESConv.json")
    for number, talk in enumerate(read_json(failed) if failed else ()):
        out += _failed(number, talk)
    return out


def _utterance(turn: str) -> Utterance:
    match = _TURN.match(turn)
    strategy, text = (match["strategy"] or "", match["text"]) if match else ("", turn)
    return (LISTENER if strategy else SPEAKER), " ".join(text.split()), strategy


def _failed(number: int, talk: dict[str, Any]) -> list[Sample]:
    turns: list[Utterance] = []
    out: list[Sample] = []
    for i, turn in enumerate(talk["dialog"]):
        role = SPEAKER if turn["speaker"] == "speaker" else LISTENER
        text = " ".join(turn["content"].split())
        turns.append((role, text, turn["annotation"].get("strategy", "Other") if role == LISTENER else ""))
        rated = next((t["annotation"].get("feedback") for t in talk["dialog"][i + 1 :] if t["annotation"]), None)
        if role == LISTENER and rated in ("4", "5"):
            out += _sample(f"failed-{number}-{i}", "train", turns, talk["emotion_type"])
    return out


def _sample(key: str, split: Split, turns: list[Utterance], feeling: str | None) -> list[Sample]:
    """Build the sample whose reply is the last turn; none where the reply is too short, too long or answers nobody."""
    *before, (role, reply, strategy) = turns
    if role != LISTENER or len(reply.split()) not in REPLY_WORDS:
        return []
    merged: list[tuple[str, str]] = []
    for who, text, _ in before:
        if merged and merged[-1][0] == who:
            merged[-1] = (who, f"{merged[-1][1]} {text}")
        else:
            merged.append((who, text))
    # Listeners often write twice in a row: the reply then answers what was said before the first.
    while merged and merged[-1][0] == LISTENER:
        merged.pop()
    if not merged:
        return []
    *history, (_, subtitle) = merged[-1 - HISTORY_TURNS :]
    think = chain([text for who, text in merged if who == SPEAKER], strategy, feeling)
    source = Source(
        id=key,
        corpus="esconv",
        split=split,
        subtitle=subtitle,
        history=tuple(HistoryTurn(role=who, text=text) for who, text in history),
    )
    labels = ReplyLabels(
        think=Chain(scenario=think.scenario, emotion=think.emotion, cause=think.cause, goal=think.goal), reply=reply
    )
    return [source.sample("erg", labels)]
