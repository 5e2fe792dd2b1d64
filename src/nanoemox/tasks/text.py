"""Shared by the parsers: quotation marks, thoughts, tags, and the phrases that introduce an answer."""

from __future__ import annotations

import re

QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})
OPEN, CLOSE = re.compile(r"<\s*think\s*>", re.IGNORECASE), re.compile(r"<\s*/\s*think\s*>", re.IGNORECASE)
TAGS = re.compile(r"</?\s*(?:think|answer)\s*>", re.IGNORECASE)
# "The most likely label is X", "The character's emotional state is a, b", "the emotion of the speaker is X",
# "sentiment: X" (MMLA), "Answer: X".
CUE = re.compile(
    r"\b(?:label|labels|emotion|emotions|emotional states?|feelings?|sentiment|intent|intention|answer)"
    r"\b[\w' ]{0,40}?(?:\s+(?:is|are)\b|\s*\**\s*:)",
    re.IGNORECASE,
)


def after_think(text: str) -> str:
    """Return what follows a thought; a thought that is never closed counts as the answer itself."""
    tail = CLOSE.split(text)[-1].strip()
    return TAGS.sub("", tail or text).strip()
