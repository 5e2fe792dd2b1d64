"""Text of strangers made harmless: file names, subtitles and answers reach terminals, logs, tables and pages.

Unprintable are control characters, halves of surrogate pairs, what turns the direction of writing and what has no width
(:meth:`str.isprintable`).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

_UNPRINTABLE: Final = re.compile("[\\x7f-\\x9f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ud800-\\udfff\\ufeff]")
"""What JSON does not escape by itself."""
_FORMULA: Final = tuple("=+-@＝＋－＠")


def printable(text: str) -> str:
    """Put a space in place of every unprintable character but line breaks, and strip."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip()


def one_line(text: str) -> str:
    """Return printable text in one line."""
    return " ".join(printable(text).split())


def escaped(text: str, keep: str = "") -> str:
    """Write every unprintable character as an escape, but for those in ``keep``."""
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def json_text(value: Any, indent: int | None = None, *, ascii_only: bool = False) -> str:
    """Return JSON in which nothing steers a terminal or ends a line for any reader."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def no_formula(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would evaluate."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
