"""Typed questions about a clip, and their answers: a statement's probability, a choice among options, a level.

The shapes are those of the decision services: what OpenAI's ``/v1/decisions`` takes in JSON, and a short form in one
line for the command line. Nothing here knows a model.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from nanoemox.tasks import format_label
from nanoemox.types import NanoEmoXError

Form = Literal["predicate", "choice", "score"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)
MAX_QUESTIONS: Final = 400
MAX_OPTIONS: Final = 255
MAX_CHARACTERS: Final = 8_000
"""Of a question with all its options; what a model can take may be less."""

_SHORT = "'predicate: Is it so?', 'choice: Which? one|other' or 'score: How much? little|some|much'"


@dataclass(frozen=True, slots=True)
class Option:
    """One possible answer; ``True`` and ``"true"`` are two."""

    value: str | bool
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question whose answer is a probability for each option. Made by one of the three constructors.

    Attributes:
        form: ``predicate`` (is it so?), ``choice`` (which?) or ``score`` (how much?).
        instructions: The question.
        options: ``predicate``: true, false. ``score``: the levels, lowest first. At least two.
        name: Optional name.
    """

    form: Form
    instructions: str
    options: tuple[Option, ...]
    name: str | None = None

    @classmethod
    def predicate(
        cls, instructions: str, *, if_true: str | None = None, if_false: str | None = None, name: str | None = None
    ) -> Question:
        """Ask how likely it is that something is so; ``if_true`` and ``if_false`` say what yes and no would mean."""
        return cls("predicate", instructions, (Option(True, if_true), Option(False, if_false)), name)

    @classmethod
    def choice(cls, instructions: str, options: Iterable[str | bool | Option], *, name: str | None = None) -> Question:
        """Ask which of some options it is; the order in which they are given makes no difference."""
        return cls("choice", instructions, _options(options), name)

    @classmethod
    def score(cls, instructions: str, levels: Iterable[str | Option], *, name: str | None = None) -> Question:
        """Ask how much, on levels from the lowest to the highest."""
        return cls("score", instructions, _options(levels), name)

    def __post_init__(self) -> None:
        """Check the question.

        Raises:
            NanoEmoXError: There is no question, there are too few or too many options, or two that are the same.
        """
        what = f"question {self.name or self.instructions[:60]!r}"
        if self.form not in FORMS:
            raise NanoEmoXError(f"{what}: form {self.form!r} is unknown: choose {', '.join(FORMS)}")
        if not self.instructions.strip():
            raise NanoEmoXError(f"{what}: no question: give instructions")
        if not 2 <= len(self.options) <= MAX_OPTIONS:
            raise NanoEmoXError(f"{what}: {len(self.options)} option(s): give between 2 and {MAX_OPTIONS}")
        if any(isinstance(o.value, str) and not o.value.strip() for o in self.options):
            raise NanoEmoXError(f"{what}: an option is empty: name each")
        counts = Counter((type(o.value), o.value) for o in self.options)
        if twice := sorted(str(value) for (_, value), n in counts.items() if n > 1):
            raise NanoEmoXError(f"{what}: option(s) given twice: {', '.join(twice)}")
        length = len(self.instructions) + sum(len(str(o.value)) + len(o.description or "") for o in self.options)
        if length > MAX_CHARACTERS:
            raise NanoEmoXError(f"{what}: {length} characters with its options, limit {MAX_CHARACTERS}: shorten it")

    @property
    def texts(self) -> tuple[str, ...]:
        """What a model would answer for each option: ``yes`` and ``no``, or the option as the six tasks write labels.

        Where two would be written the same (``true`` and ``"true"``, ``Yes`` and ``yes``), all are written as JSON.
        """
        if self.form == "predicate":
            return ("yes", "no")
        written = [format_label(json.dumps(o.value) if isinstance(o.value, bool) else o.value) for o in self.options]
        if len(set(written)) < len(written):
            written = [json.dumps(o.value, ensure_ascii=False) for o in self.options]
        return tuple(written)

    def to_dict(self) -> dict[str, Any]:
        """Return the question as OpenAI's ``/v1/decisions`` takes it."""
        head = {"type": self.form, "instructions": self.instructions} | ({"name": self.name} if self.name else {})
        if self.form == "predicate":
            return head
        key, word = ("choices", "value") if self.form == "choice" else ("levels", "label")
        described = [{word: o.value} | ({"description": o.description} if o.description else {}) for o in self.options]
        return head | {key: described}


def _options(given: Iterable[str | bool | Option]) -> tuple[Option, ...]:
    if isinstance(given, str):
        raise NanoEmoXError(f"options={given!r}: give a list of options, not one string")
    return tuple(o if isinstance(o, Option) else Option(o) for o in given)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one question.

    Attributes:
        question: The question.
        probabilities: Probability of each option, in order; they sum to 1.
        uncalibrated: The same before calibration; None if the model has none for this form.
    """

    question: Question
    probabilities: tuple[float, ...]
    uncalibrated: tuple[float, ...] | None = None

    @property
    def raw(self) -> tuple[float, ...]:
        """Probabilities before calibration."""
        return self.probabilities if self.uncalibrated is None else self.uncalibrated

    @property
    def probability(self) -> float:
        """Of a predicate: that it is so."""
        return self.probabilities[0]

    @property
    def choice(self) -> str | bool:
        """The most probable option."""
        return self.question.options[self._best].value

    @property
    def score(self) -> float:
        """Of a score: the expected level, 0 the lowest."""
        return sum(level * p for level, p in enumerate(self.probabilities))

    @property
    def confidence(self) -> float:
        """How far from even, in 0..1, as the System One services define it.

        A choice: 0 where all options are equally likely. A score: 0 where the mean distance to the most probable level
        is that of an even spread, or more.
        """
        n, best = len(self.probabilities), self._best
        if self.question.form != "score":
            return max(0.0, (self.probabilities[best] - 1 / n) / (1 - 1 / n))
        distance = sum(p * abs(level - best) for level, p in enumerate(self.probabilities))
        even = sum(abs(level - (n - 1) / 2) for level in range(n)) / n
        return max(0.0, 1 - distance / even)

    @property
    def _best(self) -> int:
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as OpenAI's ``/v1/decisions`` gives it, with ``raw`` for each probability."""
        head: dict[str, Any] = {"type": self.question.form, "name": self.question.name}
        if self.question.form == "predicate":
            return head | {"probability": self.probability, "raw": self.raw[0]}
        rows = list(zip(self.question.options, self.probabilities, self.raw, strict=True))
        if self.question.form == "choice":
            shares = [{"value": o.value, "probability": p, "raw": r} for o, p, r in rows]
            return head | {"choice": self.choice, "confidence": self.confidence, "probabilities": shares}
        levels = [{"label": o.value, "value": i, "probability": p, "raw": r} for i, (o, p, r) in enumerate(rows)]
        return head | {"score": self.score, "confidence": self.confidence, "probabilities": levels}


# ---------------------------------------------------------------- reading questions


def as_question(given: Question | str | Mapping[str, Any]) -> Question:
    """Return a question from itself, from its short form, or from the JSON object of ``/v1/decisions``.

    Raises:
        NanoEmoXError: It is none of these; the message shows the form.
    """
    if isinstance(given, Question):
        return given
    return _from_line(given) if isinstance(given, str) else _from_object(given)


def check_questions(given: Sequence[Question | str | Mapping[str, Any]]) -> tuple[Question, ...]:
    """Return the questions, or raise where there are none or more than 400."""
    if isinstance(given, str | Mapping | Question):
        given = [given]
    if not 1 <= len(given) <= MAX_QUESTIONS:
        raise NanoEmoXError(f"{len(given)} questions: ask between 1 and {MAX_QUESTIONS} at once")
    return tuple(as_question(q) for q in given)


def read_questions(path: Path) -> tuple[Question, ...]:
    """Read a file of questions: JSON as ``/v1/decisions`` takes them, or short forms, one a line (``#``: a comment).

    Raises:
        NanoEmoXError: The file cannot be read or holds something else; the message says what and where.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise NanoEmoXError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    except UnicodeDecodeError as error:
        raise NanoEmoXError(f"{path.name}: not UTF-8 text: write JSON, or one question a line") from error
    if not text.lstrip().startswith(("[", "{")):
        lines = [line.strip() for line in text.splitlines()]
        return tuple(_from_line(line) for line in lines if line and not line.startswith("#"))
    try:
        found = json.loads(text)
    except ValueError as error:
        raise NanoEmoXError(f"{path.name}: not valid JSON: {error}") from error
    found = found.get("questions") if isinstance(found, dict) else found
    if not isinstance(found, list):
        raise NanoEmoXError(f'{path.name}: give a list of questions, or {{"questions": [...]}}')
    return tuple(as_question(q) for q in found)


def _from_line(line: str) -> Question:
    form, colon, rest = line.partition(":")
    form, rest = form.strip().lower(), rest.strip()
    if not colon or form not in FORMS or not rest:
        raise NanoEmoXError(f"question {line!r}: write {_SHORT}")
    if form == "predicate":
        return Question.predicate(rest)
    # The options begin after the last mark that can end a question before the first bar.
    ends = [m.end() for m in re.finditer(r"[?？:：]", rest.partition("|")[0])]
    options = [part.strip() for part in rest[ends[-1] :].split("|")] if ends and "|" in rest else []
    if not options:
        raise NanoEmoXError(f"question {line!r}: options follow the question mark with bars between: write {_SHORT}")
    instructions = rest[: ends[-1]].strip()
    return Question.choice(instructions, options) if form == "choice" else Question.score(instructions, options)


def _from_object(given: Mapping[str, Any]) -> Question:
    if not isinstance(given, Mapping):
        raise NanoEmoXError(f"question {given!r}: write {_SHORT}, or a JSON object with type and instructions")
    form, instructions, name = given.get("type"), given.get("instructions"), given.get("name")
    if form not in FORMS or not isinstance(instructions, str) or not isinstance(name, str | None):
        raise NanoEmoXError(
            f"question {name or instructions or dict(given)!r}: needs type ({', '.join(FORMS)}) and instructions as "
            "text, and may have a name"
        )
    fields = {"predicate": (), "choice": ("choices",), "score": ("levels",)}[form]
    if unknown := sorted(set(given) - {"type", "instructions", "name", *fields}):
        raise NanoEmoXError(f"question {name or instructions!r}: {', '.join(unknown)} is no part of a {form}")
    if form == "predicate":
        return Question.predicate(instructions, name=name)
    word = "value" if form == "choice" else "label"
    kinds = (str, bool) if form == "choice" else (str,)
    options = given.get(fields[0])
    if not isinstance(options, list):
        raise NanoEmoXError(f"question {name or instructions!r}: a {form} needs {fields[0]}, a list")
    made = []
    for option in options:
        value = option if isinstance(option, str | bool) else dict(option).get(word) if _plain(option, word) else None
        if not isinstance(value, kinds):
            raise NanoEmoXError(f"question {name or instructions!r}: {option!r} in {fields[0]} needs {word} as text")
        made.append(Option(value, option.get("description") if isinstance(option, Mapping) else None))
    return Question(form, instructions, tuple(made), name)


def _plain(option: object, word: str) -> bool:
    """Whether an option is an object of a value and perhaps a description."""
    return (
        isinstance(option, Mapping)
        and set(option) <= {word, "description"}
        and isinstance(option.get("description"), str | None)
    )
