"""Third-party annotation formats that cover several corpora.

Three formats: the Nano-EmoX authors' chat messages, MMLA's lists for LLaMA-Factory and Swift, and EmoBox's JSON lines.
Folders in their paths are specific to their authors' machines; only the file name is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nanoemox.data.corpora.releases import read_json, read_json_lines

SAID: Final = re.compile(r"the speaker says: (?P<text>.*?)\.? Based on the text", re.DOTALL)
"""The transcript in MMLA's prompts."""


@dataclass(frozen=True, slots=True)
class Message:
    """One annotated clip.

    Attributes:
        name: File name without folder and suffix.
        path: Path as listed, with ``/``.
        text: The transcript, possibly empty.
        answer: The label as written.
    """

    name: str
    path: str
    text: str
    answer: str


def _message(path: str, text: str, answer: str) -> Message:
    path = path.replace("\\", "/")
    name = re.sub(r"\.(mp4|avi|mkv|wav|flac|mp3)$", "", path.rsplit("/", 1)[-1])
    return Message(name, path, text.strip(), answer.strip())


def read_messages(path: Path) -> list[Message]:
    """Read the authors' JSON: ``{messages: [user: words, assistant: label], videos or audios: [path]}``."""
    return [
        _message((row.get("videos") or row["audios"])[0], row["messages"][0]["content"], row["messages"][1]["content"])
        for row in read_json(path)
    ]


def read_mmla(path: Path) -> list[Message]:
    """Read an MMLA list: ``.json`` in LLaMA-Factory's format, ``.jsonl`` in Swift's."""
    rows: list[Any] = read_json_lines(path) if path.suffix == ".jsonl" else read_json(path)
    out = []
    for row in rows:
        if "query" in row:
            prompt, answer = row["query"], row["response"]
        else:
            prompt, answer = row["conversations"][0]["value"], row["conversations"][1]["value"]
        said = SAID.search(prompt)
        out.append(_message(row["videos"][0], said["text"] if said else "", answer.split(":", 1)[-1]))
    return out


def read_emobox(path: Path) -> list[Message]:
    """Read EmoBox's JSON lines: ``{wav, emo}``, without text."""
    return [_message(row["wav"], "", row["emo"]) for row in read_json_lines(path)]
