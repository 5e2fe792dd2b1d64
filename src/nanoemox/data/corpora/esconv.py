"""ESConv: emotional support between strangers (CC BY-NC 4.0); the development file trains, the test file validates.

Every line of the files is a window of a dialogue that ends in the listener's reply, with the listener's strategy in
brackets. Talks in which help failed teach how people speak but not how to help, so only their replies that the
seeker rated 4 or 5 are used, and those say what the seeker's annotated emotion is.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from nanoemox.data.manifest import Chain, HistoryTurn, ReplyLabels, Sample, Split
from nanoemox.data.targets import chain

FOLDER: Final = Path("corpora/text/esconv")
HISTORY_TURNS: Final = 4
REPLY_WORDS: Final = range(4, 41)
SPEAKER, LISTENER = "speaker", "listener"
_TURN = re.compile(r"\s*[\d.]+ +\d+ +\d+ +(?:\[(?P<strategy>[A-Z][^\]]*)\] *)?(?P<text>.*)", re.DOTALL)
_FILES: Final[tuple[tuple[str, Split], ...]] = (
    ("devWithStrategy_short.tsv", "train"),
    ("testWithStrategy_short.tsv", "validation"),
)
Utterance = tuple[str, str, str]
"""Role, text, strategy (empty for the speaker)."""


def read(data_root: Path) -> list[Sample]:
    """Return one sample for each reply that answers something."""
    out: list[Sample] = []
    for file, split in _FILES:
        for number, line in enumerate((data_root / FOLDER / file).read_text("utf-8").split("\n"), 1):
            if line.strip():
                turns = [_utterance(turn) for turn in line.split(" EOS ")]
                out += _sample(f"{file[:4].strip('W')}-{number}", split, turns, None)
    for number, talk in enumerate(json.loads((data_root / FOLDER / "FailedESConv.json").read_text("utf-8"))):
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
    return [
        Sample(
            id=key,
            corpus="esconv",
            split=split,
            task="erg",
            labels=ReplyLabels(
                think=Chain(scenario=think.scenario, emotion=think.emotion, cause=think.cause, goal=think.goal),
                reply=reply,
            ),
            subtitle=subtitle,
            history=tuple(HistoryTurn(role=who, text=text) for who, text in history),
        )
    ]
