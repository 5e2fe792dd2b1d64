"""The six affective tasks: identifiers, label sets, answer formats, parsers.

The only module that knows what a task is; the wording of questions lives in ``templates.yaml``. Answers are bare
(a closed task answers with its label, nothing else), and the chain of an empathetic reply is line based, so that
a small model spends its tokens on content. The parsers read these formats, the sentences of the paper's authors,
and the disorder that language models add to both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from nanoemox.types import NanoEmoXError, Reading, Think


@dataclass(frozen=True, slots=True)
class Task:
    """One of the six tasks.

    Attributes:
        key: Short name used everywhere in code, files and options.
        name: Name for people.
        level: 1 perception, 2 understanding, 3 interaction.
        identifier: Tag that starts every question (plain text, not a special token).
        closed: Whether the answer is one of a given list of labels.
    """

    key: str
    name: str
    level: int
    identifier: str
    closed: bool


TASKS: Final[Mapping[str, Task]] = MappingProxyType(
    {
        task.key: task
        for task in (
            Task("msa", "multimodal sentiment analysis", 1, "[Recognition]", closed=True),
            Task("mer", "multimodal emotion recognition", 1, "[Recognition]", closed=True),
            # Paper: the table of identifiers writes `[Recog_OV]`, the template `[Recogn_OV]`; we follow the template.
            Task("ovmer", "open-vocabulary emotion recognition", 1, "[Recogn_OV]", closed=False),
            Task("mir", "multimodal intent recognition", 2, "[Intent]", closed=True),
            Task("eri", "emotion reason inference", 2, "[Inference]", closed=False),
            Task("erg", "empathetic response generation", 3, "[Interaction]", closed=False),
        )
    }
)
ALL_TASKS: Final[tuple[str, ...]] = tuple(TASKS)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


LABEL_SETS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "sentiment": _words("positive, negative, neutral"),
        "crema_d": _words("anger, disgust, fear, happy, neutral, sad"),
        "m3ed": _words("anger, disgust, fear, happy, neutral, sad, surprise"),
        "caer": _words("anger, disgust, fear, happy, neutral, sad, surprise"),
        "ferv39k": _words("happy, sad, neutral, angry, surprise, disgust, fear"),
        "mer2023": _words("happy, angry, worried, sad, surprise, neutral"),
        "mer2024": _words("happy, angry, worried, sad, surprise, neutral"),
        "meld": _words("anger, joy, sadness, neutral, disgust, fear, surprise"),
        "iemocap": _words("happy, sad, neutral, anger"),
        "merr": _words("neutral, sad, angry, happy, worried, surprise, fear, doubt, contempt"),
        "mintrec": _words(
            "complain, praise, apologise, thank, criticize, agree, taunt, flaunt, joke, oppose, comfort, care, inform, "
            "advise, arrange, introduce, leave, prevent, greet, ask for help"
        ),
        "mintrec2": _words(
            "acknowledge, advise, agree, apologise, arrange, ask for help, asking for opinions, care, comfort, "
            "complain, confirm, criticize, doubt, emphasize, explain, flaunt, greet, inform, introduce, invite, joke, "
            "leave, oppose, plan, praise, prevent, refuse, taunt, thank, warn"
        ),
        # AvaMERG annotates the speaker's emotion with the 32 situation words of EmpatheticDialogues ...
        "avamerg": _words(
            "afraid, angry, annoyed, anticipating, anxious, apprehensive, ashamed, caring, confident, content, "
            "devastated, disappointed, disgusted, embarrassed, excited, faithful, furious, grateful, guilty, hopeful, "
            "impressed, jealous, joyful, lonely, nostalgic, prepared, proud, sad, sentimental, surprised, terrified, "
            "trusting"
        ),
        # ... and scores its hit rate after folding them into the eight classes of MEAD.
        "mead": _words("neutral, happy, surprised, angry, fear, sad, disgusted, contempt"),
        # The candidate list that the authors print in a question that is asked but never trained on.
        "avamerg_candidates": _words(
            "conflicted, sadness, weary, upset, frustrated, disappointment, uneasy, confused, stressed, burdened, "
            "worry, nervous, confusion, helpless, overwhelm, surprised, proud, lonely, guilty, hopeful, anxious, "
            "nostalgic, content, caring, ashamed"
        ),
        "ravdess": _words("neutral, calm, happy, sad, angry, fearful, disgust, surprised"),
        "facial_expressions": _words("anger, contempt, disgust, fear, happiness, neutral, sadness, surprise"),
        "goemotions_ekman": _words("anger, disgust, fear, joy, neutral, sadness, surprise"),
    }
)
"""Data set -> its labels; the order is the index order of the set's own label files where it has one."""

DEFAULT_LABELS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"msa": LABEL_SETS["sentiment"], "mer": LABEL_SETS["ravdess"], "mir": LABEL_SETS["mintrec"]}
)
"""Closed task -> candidates used where the user names none."""


def get_task(key: str) -> Task:
    """Return the task called ``key``, or raise with the list of tasks."""
    try:
        return TASKS[key]
    except KeyError:
        raise NanoEmoXError(f"unknown task {key!r}; the tasks are {', '.join(ALL_TASKS)}") from None


def format_label(label: str) -> str:
    """Return the answer of a closed task: the bare label, lower case, single spaces."""
    return " ".join(label.replace("_", " ").split()).lower()


def format_labels(labels: Iterable[str]) -> str:
    """Return the answer of the open-vocabulary task (and a candidate list in a question): ``a, b, c``."""
    return ", ".join(dict.fromkeys(filter(None, map(format_label, labels))))


def format_chain(think: Think, reply: str) -> str:
    """Return the answer of the empathy task: the chain, one field a line, then the reply."""
    lines = [f"{name}: {' '.join(getattr(think, name).split())}" for name in CHAIN_FIELDS]
    return "\n".join(["<think>", *lines, "</think>", reply.strip()])


def valence(probabilities: Mapping[str, float]) -> float:
    """Return P(positive) - P(negative), in -1..1; an absent label counts as 0."""
    return float(probabilities.get("positive", 0.0)) - float(probabilities.get("negative", 0.0))


def parse(task: str, raw: str, labels: Sequence[str] | None = None) -> Reading:
    """Read what a model wrote.

    Args:
        task: Task key.
        raw: The generated text; our formats, the authors' formats, or either in disorder.
        labels: Candidates of a closed task (default: ``DEFAULT_LABELS``); the label is returned in this spelling.

    Returns:
        The reading. A closed answer that names no candidate has ``label=None``; a chain that lacks one of its four
        fields has ``think=None`` and keeps its reply; ``labels``, ``text`` and ``reply`` of their own tasks are
        never None.
    """
    spec = get_task(task)
    text = _clean(raw)
    if spec.closed:
        return Reading(task, raw, label=parse_label(text, DEFAULT_LABELS[task] if labels is None else labels))
    if task == "ovmer":
        return Reading(task, raw, labels=parse_labels(text))
    if task == "eri":
        return Reading(task, raw, text=_after_think(text))
    think, reply = parse_chain(text)
    return Reading(task, raw, think=think, reply=reply)


# --- Shared by the parsers -------------------------------------------------------------------------------------------

_STOPS = re.compile(r"<\|(?:im_end|endoftext|eot_id)\|>|</s>|###\s*(?:Human\b|$)", re.IGNORECASE)
_LEAD = re.compile(r"^\s*(?:<\|im_start\|>\s*assistant\s*|(?:#+\s*)?assistant\s*:\s*)", re.IGNORECASE)
_IDENTIFIERS = re.compile("|".join(re.escape(task.identifier) for task in TASKS.values()))
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})
_OPEN, _CLOSE = re.compile(r"<\s*think\s*>", re.IGNORECASE), re.compile(r"<\s*/\s*think\s*>", re.IGNORECASE)
_TAGS = re.compile(r"</?\s*(?:think|answer)\s*>", re.IGNORECASE)
# "The most likely label is X", "The character's emotional state is a, b", "the emotion of the speaker is X",
# "sentiment: X" (MMLA), "Answer: X".
_CUE = re.compile(
    r"\b(?:label|labels|emotion|emotions|emotional states?|feelings?|sentiment|intent|intention|answer)"
    r"\b[\w' ]{0,40}?(?:\s+(?:is|are)\b|\s*\**\s*:)",
    re.IGNORECASE,
)


def _clean(raw: str) -> str:
    """Cut at the first terminator, drop a role header and an echoed identifier, straighten curly quotes."""
    text = unicodedata.normalize("NFC", raw).translate(_QUOTES)
    text = _LEAD.sub("", text, count=1)
    return _IDENTIFIERS.sub("", _STOPS.split(text, maxsplit=1)[0]).strip()


def _after_think(text: str) -> str:
    """Return what follows a thought; a thought that is never closed counts as the answer itself."""
    tail = _CLOSE.split(text)[-1].strip()
    return _TAGS.sub("", tail or text).strip()


# --- Closed tasks ----------------------------------------------------------------------------------------------------

# Neither side of a label may touch a letter or digit; scripts written without spaces have no such border.
_LETTER = r"[^\W_぀-ヿ一-鿿가-힣]"
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|without|hardly|\w+n't)\s+(?:(?:a|an|the|very|really|at all)\s+){0,2}$"
)


def _fold(text: str) -> str:
    """Fold case, width, hyphens, underscores and runs of space."""
    folded = unicodedata.normalize("NFKC", text).translate(_QUOTES).casefold()
    return re.sub(r"[\s_\-‐‑]+", " ", folded).strip()


def parse_label(text: str, labels: Sequence[str]) -> str | None:
    """Return the candidate that ``text`` names, in the spelling of ``labels``, or None.

    Whole words only, the longest candidate first, so labels that share a start cannot be taken for one another. An
    announced label (``the most likely label is X``) wins over words around it, the last announcement over earlier
    ones; otherwise the first candidate that is not negated.
    """
    spelling = {_fold(label): label for label in reversed(labels) if _fold(label)}
    if not spelling:
        return None
    text = _after_think(text)
    alternatives = "|".join(re.escape(key) for key in sorted(spelling, key=len, reverse=True))
    pattern = re.compile(f"(?<!{_LETTER})(?:{alternatives})(?!{_LETTER})")
    for segment in (*(text[cue.end() :] for cue in reversed(list(_CUE.finditer(text)))), text):
        folded = _fold(segment)
        for match in pattern.finditer(folded):
            if not _NEGATION.search(folded, max(0, match.start() - 32), match.start()):
                return spelling[match.group()]
    return None


# --- Open vocabulary -------------------------------------------------------------------------------------------------

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_SEPARATOR = re.compile(r"[,;/|\n、，；&]|\.\s|\band\b", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•+]\s+|\d+[.)]\s+)")
_EDGE = " \t\r\n.,;:!?\"'`*[](){}<>。"
_FILLER = re.compile(
    r"^(?:(?:the|a|an|also|possibly|maybe|some|feeling|feels|feel|is|are|both|as well as|and|or)\s+)+", re.IGNORECASE
)
MAX_LABEL_WORDS: Final = 4
"""Longer items of a list are clauses, not emotion words."""
_NOTHING: Final = frozenset({"", "none", "n/a", "null", "unknown", "etc"})


def parse_labels(text: str) -> tuple[str, ...]:
    """Return the emotion words of a list in the order written: lower case, without repeats, possibly none."""
    text = _after_think(text)
    brackets = _BRACKETS.findall(text)
    cues = list(_CUE.finditer(text))
    if brackets:
        text = brackets[-1]
    elif cues:
        text = text[cues[-1].end() :]
    found: dict[str, None] = {}
    for item in _SEPARATOR.split("\n".join(_BULLET.sub("", line) for line in text.splitlines())):
        word = _FILLER.sub("", item.strip(_EDGE)).strip(_EDGE)
        word = " ".join(word.replace("_", " ").split()).lower()
        if word not in _NOTHING and len(word.split()) <= MAX_LABEL_WORDS:
            found[word] = None
    return tuple(found)


# --- The chain of empathy --------------------------------------------------------------------------------------------

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
    opened = _OPEN.search(text)
    closed = _CLOSE.search(text, opened.end() if opened else 0)
    if closed:
        thought, reply = text[opened.end() if opened else 0 : closed.start()], text[closed.end() :]
        fields, _ = _segments(thought, last_is_line=False)
    elif opened or _complete(_segments(text, last_is_line=True)[0]):
        fields, reply = _segments(text[opened.end() if opened else 0 :], last_is_line=True)
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
    text = _REPLY_HEAD.sub("", _TAGS.sub("", text).strip(), count=1).strip()
    if len(text) >= 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        text = text[1:-1].strip()
    return text
