"""The text around a clip: prompt sentences, questions and answer patterns, read from ``templates.yaml``.

A model directory carries its own ``templates.yaml``, because a checkpoint answers best in the words it was
trained with; the package's own files are the default (``chatml``), the same in fewer tokens (``compact``) and the
authors' layout (``reference``). A file is data: nothing in it is evaluated.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nanoemox.tasks import ALL_TASKS, TASKS
from nanoemox.types import CheckpointError

FILE_NAME = "templates.yaml"
Layout = Literal["chatml", "compact", "reference"]
_OWN: dict[Layout, str] = {
    "chatml": FILE_NAME,
    "compact": "templates_compact.yaml",
    "reference": "templates_reference.yaml",
}
_JINJA_ASKED = "{{ question.instructions if question.instructions is string else question.instructions|tojson }}"
_JINJA_OPTIONS = (
    "{% for label in question.labels %}{{ ', ' if not loop.first }}{{ label }}"
    "{% if question.type != 'noul' %} {{ question.options[loop.index0] if question.type == 'choice' }}{% endif %}"
    "{% if question.descriptions[loop.index0] %} ({{ question.descriptions[loop.index0] }}){% endif %}{% endfor %}"
)
_FIELD = re.compile(r"\{(?:label|labels|text|chain|reply)\}")
_NAMED = re.compile(r"\{[A-Za-z_]\w*\}")


def _check_fields(where: str, pattern: str, allowed: set[str], *, optional: bool = False) -> None:
    """Raise unless ``str.format`` can fill in the pattern and it holds each allowed field once (or, optional, none)."""
    try:
        parts = [(name, spec, how) for _, name, spec, how in Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        raise ValueError(
            f"{where}: {pattern!r} has braces that do not match ({error}); a literal one is {{{{"
        ) from error
    names = [name for name, _, _ in parts]
    if any(spec or how for _, spec, how in parts) or not set(names) <= allowed or len(names) != len(set(names)):
        raise ValueError(f"{where}: {pattern!r} may hold only {_listed(allowed)}, each once and plain")
    if not optional and set(names) != allowed:
        raise ValueError(f"{where}: {pattern!r} lacks {_listed(allowed - set(names))}")


def _listed(names: set[str]) -> str:
    return " and ".join(f"{{{name}}}" for name in sorted(names))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskTemplate(_Strict):
    """Questions of one task (the first is used at inference) and the pattern of its answer."""

    questions: tuple[str, ...] = Field(min_length=1)
    answer: str
    questions_no_think: tuple[str, ...] = ()
    answer_no_think: str | None = None


class DecisionTemplates(_Strict):
    """Patterns of free questions by form, with ``{instructions}`` and ``{options}``, joined by commas."""

    predicate: str = "[Recognition] {instructions} Choose one: {options}."
    choice: str = "[Recognition] {instructions} Choose one: {options}."
    score: str = "[Recognition] {instructions} Choose one, from the lowest to the highest: {options}."

    @model_validator(mode="after")
    def _check(self) -> Self:
        for form, pattern in self:
            _check_fields(f"decisions.{form}", pattern, {"instructions", "options"})
        return self


class Templates(_Strict):
    """The words around the placeholders: prompt, questions, answers.

    Attributes:
        prefix: Opens the prompt.
        media: Branch -> sentence with ``{tokens}``; the order of the mapping is the order in the prompt.
        history: Sentence with ``{history}``.
        history_turn: One turn, with ``{role}`` and ``{text}``.
        subtitle: Sentence with ``{subtitle}``.
        closing: Ends what all questions of a clip share.
        closing_history: The same where there is a dialogue; ``closing`` by default.
        reserved: Marks of the layout, which the user's text may not contain, besides special tokens.
        suffix: Text between the question and the answer.
        terminator: Ends every answer.
        sort_labels: Show candidates in alphabetical order, so that the order that
            a user chooses cannot change an answer.
        tasks: Task key -> its questions.
        decisions: Patterns of free questions.
    """

    version: int
    prefix: str
    media: dict[str, str]
    history: str
    history_turn: str
    subtitle: str
    closing: str = ""
    closing_history: str | None = None
    reserved: tuple[str, ...] = ()
    suffix: str
    terminator: str
    sort_labels: bool = False
    tasks: dict[str, TaskTemplate]
    decisions: DecisionTemplates = DecisionTemplates()

    @model_validator(mode="after")
    def _check(self) -> Self:
        missing = [t for t in ALL_TASKS if t not in self.tasks]
        if missing:
            raise ValueError(f"no template for task(s) {missing}")
        if not self.terminator:
            raise ValueError("terminator: it is empty, so that no answer would ever end")
        _check_fields("history", self.history, {"history"})
        _check_fields("history_turn", self.history_turn, {"role", "text"})
        _check_fields("subtitle", self.subtitle, {"subtitle"})
        for key, template in self.tasks.items():
            closed = key in TASKS and TASKS[key].closed
            for i, question in enumerate((*template.questions, *template.questions_no_think)):
                if closed:
                    _check_fields(f"tasks.{key}: question {i + 1}", question, {"labels"}, optional=True)
                elif found := _NAMED.findall(question):
                    raise ValueError(f"tasks.{key}: question {question!r} holds {found[0]}, which nothing fills in")
        for branch, sentence in self.media.items():
            if sentence.count("{tokens}") != 1:
                raise ValueError(f"media.{branch}: {sentence!r} must hold {{tokens}} once")
        for task, template in self.tasks.items():
            for pattern in (template.answer, template.answer_no_think or template.answer):
                if len(_FIELD.findall(pattern)) != 1:
                    raise ValueError(f"tasks.{task}: answer {pattern!r} must hold one of {_FIELD.pattern} once")
        return self

    def questions_of(self, task: str, *, think: bool = True) -> tuple[str, ...]:
        """Return the wordings of a task's question, that of inference first.

        Raises:
            CheckpointError: The templates have none of that task.
        """
        template = self.tasks.get(task)
        if template is None:
            raise CheckpointError(f"this model has no question for task {task!r}: add tasks.{task} to its {FILE_NAME}")
        return template.questions if think or not template.questions_no_think else template.questions_no_think

    def answer_of(self, task: str, text: str, *, think: bool = True) -> str:
        """Put a bare answer (a label, a list, a chain with its reply) into the task's answer pattern."""
        template = self.tasks[task]
        pattern = template.answer if think else template.answer_no_think or template.answer
        return _FIELD.sub(lambda _: text, pattern)

    def save_decision(self, folder: Path) -> list[Path]:
        """Write the two files with which ``pipeline("decision")`` of transformers uses these questions."""
        settings, template = folder / "decision.json", folder / "decision_template.jinja"
        settings.write_text(json.dumps({"labels": {"noul": ["yes", "no"]}}, indent=1) + "\n", "utf-8")
        template.write_text(self._decision_jinja(), "utf-8")
        return [settings, template]

    def _decision_jinja(self) -> str:
        """Return a Jinja template for a question about text; the pipeline reads one token, so options have letters."""
        before, after = self.subtitle.split("{subtitle}")
        question = self.decisions.choice.format(instructions=_JINJA_ASKED, options=_JINJA_OPTIONS)
        texts = (self.prefix + before, after + self.closing, self.suffix)
        opening, middle, suffix = (f"{{{{ {json.dumps(text)} }}}}" for text in texts)
        state = "{{ state if state is string else state|tojson }}"
        return f"{opening}{state}{middle}{question}{suffix}"

    def save(self, folder: Path) -> Path:
        """Write ``templates.yaml`` into ``folder``."""
        path = folder / FILE_NAME
        path.write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True), "utf-8")
        return path


def load_templates(path: Path | None = None, layout: Layout = "chatml") -> Templates:
    """Read templates from a file, or the package's own of a layout.

    Raises:
        CheckpointError: The file is not what a templates file must be; the message says where.
    """
    own = _OWN[layout]
    text = (files("nanoemox") / "tasks" / own).read_text("utf-8") if path is None else path.read_text("utf-8")
    try:
        return Templates.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise CheckpointError(f"{path or own}: not a valid templates file: {error}") from error
