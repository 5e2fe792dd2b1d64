"""Empathetic response generation: a reply, optionally after a chain of four thoughts (paper, ERG).

The chain is line based, so that a small model spends its tokens on content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Final

from nanoemox.tasks.task import Form, Task
from nanoemox.tasks.text import CLOSE, OPEN, TAGS
from nanoemox.types import Reading, Think


@dataclass(frozen=True, slots=True)
class ReplyTask(Task):
    """A task whose answer is a reply, with or without the chain before it."""

    form: ClassVar[Form] = "reply"

    def read(self, raw: str, text: str, labels: Sequence[str]) -> Reading:
        """Read chain and reply; a chain that lacks one of its four fields is None, and its reply stays."""
        think, reply = parse_chain(text)
        return Reading(self.key, raw, think=think, reply=reply)

    def columns(self) -> list[str]:
        """The reply and the chain."""
        return [f"{self.key}_reply", f"{self.key}_think"]

    def cells(self, reading: Reading) -> dict[str, object]:
        """Return the reply, and the chain as JSON."""
        chain = "" if reading.think is None else json.dumps(asdict(reading.think), ensure_ascii=False)
        return {f"{self.key}_reply": reading.reply, f"{self.key}_think": chain}


def format_chain(think: Think, reply: str) -> str:
    """Return the answer of the empathy task: the chain, one field a line, then the reply."""
    lines = [f"{name}: {' '.join(getattr(think, name).split())}" for name in CHAIN_FIELDS]
    return "\n".join(["<think>", *lines, "</think>", reply.strip()])


CHAIN_FIELDS: Final = ("scenario", "emotion", "cause", "goal")
_FIELD = re.compile(
    r"^[ \t]*(?:[-*•#]{1,4}[ \t]*|\d+[.)][ \t]*)?\*{0,3}(scenario|emotion|cause|goal)\*{0,3}[ \t]*[:：]\*{0,3}",
    re.IGNORECASE | re.MULTILINE,
)
_STEP = re.compile(
    r"(?:^[ \t]*|(?<=[.!?;][ \t]))(first|second|third|fourth|final|last)(?:ly\b\s*[,:，]?|\s*[,:，])",
    re.IGNORECASE | re.MULTILINE,
)
_STEP_FIELD: Final = {
    "first": "scenario", "second": "emotion", "third": "cause", "fourth": "goal", "final": "goal", "last": "goal",
}  # fmt: skip
_LEAD_IN = re.compile(
    r"^(?:the\s+)?(?:[\w']+\s+){0,3}?(?:scenario|emotion|cause|goal)s?(?:\s+[\w']+){0,5}?\s+(?:is|was)\s*:?\s+(?:that\s+)?",
    re.IGNORECASE,
)
_REPLY_HEAD = re.compile(r"^[\W_]{0,4}(?:empathetic )?(?:reply|response)[*_ ]{0,4}:[*_]{0,4}", re.IGNORECASE)


def parse_chain(text: str) -> tuple[Think | None, str]:
    """Return the chain (None unless its four fields are there) and the reply of the empathy task.

    A missing ``<think>`` is tolerated. In a thought that is never closed, the lines after its last field are the
    reply; without any field it is a thought cut short, and the reply is empty.
    """
    opening = OPEN.search(text)
    closing = CLOSE.search(text, opening.end() if opening else 0)
    if closing:
        thought, reply = text[opening.end() if opening else 0 : closing.start()], text[closing.end() :]
        fields, _ = _segments(thought, last_is_line=False)
    elif opening or _complete(_segments(text, last_is_line=True)[0]):
        fields, reply = _segments(text[opening.end() if opening else 0 :], last_is_line=True)
    else:
        fields, reply = {}, text
    reply = re.sub(r"<think>.*?</think>", "", reply, flags=re.DOTALL | re.IGNORECASE)
    return (Think(**fields) if _complete(fields) else None), _reply(reply)


def _complete(fields: Mapping[str, str]) -> bool:
    return all(fields.get(name) for name in CHAIN_FIELDS)


def _segments(thought: str, *, last_is_line: bool) -> tuple[dict[str, str], str]:
    """Split a thought at its field names, or at the authors' ordinals; return fields and what follows the last line."""
    named = list(_FIELD.finditer(thought))
    marks = named or list(_STEP.finditer(thought))
    fields: dict[str, str] = {}
    rest = ""
    for i, mark in enumerate(marks):
        end = marks[i + 1].start() if i + 1 < len(marks) else len(thought)
        value = thought[mark.end() : end].strip()
        if last_is_line and i + 1 == len(marks):
            value, _, rest = value.partition("\n")
        name = mark.group(1).lower()
        name = _STEP_FIELD.get(name, name)
        value = " ".join(value.split()).strip(" *")
        if not named:  # only the authors' sentences announce their field ("the emotion of the speaker is sad")
            value = _LEAD_IN.sub("", value, count=1)
        fields.setdefault(name, value.strip(" .\"'") if name == "emotion" else value)
    return fields, rest


def _reply(text: str) -> str:
    """Drop tags, a heading such as ``Reply:``, and quotes around the whole."""
    text = _REPLY_HEAD.sub("", TAGS.sub("", text).strip(), count=1).strip()
    if len(text) >= 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        text = text[1:-1].strip()
    return text


ERG: Final = ReplyTask("erg", "empathetic response generation", "reply", 3, "[Interaction]")
