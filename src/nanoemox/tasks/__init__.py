"""The six affective tasks, one file each: identifier, labels, answer format, parser, columns of a table.

The wording of questions lives in ``templates.yaml``. The parsers read our formats, the sentences of the paper's
authors, and common deviations of language models from both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from nanoemox.tasks.closed import ClosedTask, format_label, parse_label
from nanoemox.tasks.erg import CHAIN_FIELDS, ERG, format_chain, parse_chain
from nanoemox.tasks.eri import ERI
from nanoemox.tasks.labels import LABEL_SETS
from nanoemox.tasks.mer import MER
from nanoemox.tasks.mir import MIR
from nanoemox.tasks.msa import MSA
from nanoemox.tasks.ovmer import MAX_LABEL_WORDS, OVMER, format_labels, parse_labels
from nanoemox.tasks.task import Task
from nanoemox.tasks.text import QUOTES
from nanoemox.types import NanoEmoXError, Reading

__all__ = [
    "ALL_TASKS",
    "CHAIN_FIELDS",
    "DEFAULT_LABELS",
    "ERG",
    "ERI",
    "LABEL_SETS",
    "MAX_LABEL_WORDS",
    "MER",
    "MIR",
    "MSA",
    "OVMER",
    "TASKS",
    "ClosedTask",
    "Task",
    "format_chain",
    "format_label",
    "format_labels",
    "get_task",
    "parse",
    "parse_chain",
    "parse_label",
    "parse_labels",
]

TASKS: Final[dict[str, Task]] = {task.key: task for task in (MSA, MER, OVMER, MIR, ERI, ERG)}
"""Task key -> task, in display order. The only list of them: a line added here adds a task, and
its questions are in the model's ``templates.yaml``."""
ALL_TASKS: Final[tuple[str, ...]] = tuple(TASKS)
"""The six tasks, the default of every ``tasks`` argument."""
DEFAULT_LABELS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {task.key: task.labels for task in TASKS.values() if task.closed}
)
"""Closed task -> default candidates."""

_STOPS = re.compile(r"<\|(?:im_end|endoftext|eot_id)\|>|</s>|###\s*(?:Human\b|$)", re.IGNORECASE)
_LEAD = re.compile(r"^\s*(?:<\|im_start\|>\s*assistant\s*|(?:#+\s*)?assistant\s*:\s*)", re.IGNORECASE)


def get_task(key: str) -> Task:
    """Return the task called ``key``, or raise with the list of tasks."""
    try:
        return TASKS[key]
    except KeyError:
        raise NanoEmoXError(f"unknown task {key!r}; the tasks are {', '.join(TASKS)}") from None


def parse(task: str, raw: str, labels: Sequence[str] | None = None) -> Reading:
    """Read what a model wrote.

    Args:
        task: Task key.
        raw: The generated text; our formats, the authors' formats, or deviations from them.
        labels: Candidates of a closed task (default: its own); the label is returned in this spelling.

    Returns:
        The reading. A closed answer that names no candidate has ``label=None``; a chain that lacks one of its four
        fields has ``think=None`` and keeps its reply; ``labels``, ``text`` and ``reply`` of their own tasks are
        never None.
    """
    spec = get_task(task)
    return spec.read(raw, _clean(raw), spec.labels if labels is None else labels)


def _clean(raw: str) -> str:
    """Cut at the first terminator, drop a role header and an echoed identifier, straighten curly quotes."""
    text = unicodedata.normalize("NFC", raw).translate(QUOTES)
    text = _LEAD.sub("", text, count=1)
    text = _STOPS.split(text, maxsplit=1)[0]
    for task in TASKS.values():
        text = text.replace(task.identifier, "")
    return text.strip()
