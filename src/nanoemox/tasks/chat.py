"""Templates for language models that were not trained on ChatML: turns and stop token from their own chat template."""

from __future__ import annotations

import re
from typing import Any, Final

from nanoemox.tasks.templates import Templates
from nanoemox.types import CheckpointError

CHATML: Final = ("<|im_start|>", "<|im_end|>")
_SYSTEM: Final = re.compile(r"<\|im_start\|>system\n(.*?)<\|im_end\|>\n", re.DOTALL)
_USER, _ANSWER = "<<<the user's words>>>", "<<<the answer>>>"
_MARK: Final = re.compile(r"<\S{1,40}?>|\[/?[A-Z_]+\]")


def for_tokenizer(templates: Templates, tokenizer: Any) -> Templates:
    """Return templates that fit a tokenizer: unchanged if it knows ChatML, else with its own turns.

    The text before the user's words, between question and answer, and after the answer comes from the
    tokenizer's chat template. The words themselves stay.

    Raises:
        CheckpointError: It knows no ChatML and has no chat template, or the layout is not of turns.
    """
    vocabulary = tokenizer.get_vocab()
    layout = templates.prefix + templates.suffix + templates.terminator
    foreign = [token for token in CHATML if token in layout and token not in vocabulary]
    if not foreign:
        return templates
    if not templates.suffix.startswith(templates.terminator):
        raise CheckpointError(f"templates: their layout is made of {foreign[0]}, which the tokenizer does not know")
    if not getattr(tokenizer, "chat_template", None):
        raise CheckpointError(
            f"the tokenizer has neither {foreign[0]} nor a chat template, so its format of turns is unknown: "
            "take a model that was trained on dialogues, or add a chat_template.jinja to the folder of its tokenizer"
        )
    system = _SYSTEM.search(templates.prefix)
    question = _render(tokenizer, system[1] if system else "", None)
    before, _, between = question.partition(_USER)
    answered = _render(tokenizer, system[1] if system else "", _ANSWER)
    after = answered.partition(_ANSWER)[2].strip() or str(tokenizer.eos_token or "")
    if not between or not after:
        raise CheckpointError("the tokenizer's chat template marks no end of a turn: give it another chat template")
    marks = dict.fromkeys([*templates.reserved, *_MARK.findall(before + between + after)])
    turns = {"prefix": before, "suffix": between, "terminator": _first_mark(after), "reserved": tuple(marks)}
    return Templates.model_validate(templates.model_dump() | turns)


def _first_mark(after: str) -> str:
    """Return what ends an answer: the first mark after it, or all that follows where that is no mark."""
    found = _MARK.match(after)
    return found.group() if found else after


def _render(tokenizer: Any, system: str, answer: str | None) -> str:
    """Render one exchange; a template that takes no system turn gets those words before the user's."""
    user = {"role": "user", "content": _USER}
    last = [] if answer is None else [{"role": "assistant", "content": answer}]
    options = {"tokenize": False, "add_generation_prompt": answer is None, "enable_thinking": False}
    if not system:
        return str(tokenizer.apply_chat_template([user, *last], **options))
    try:
        text = str(tokenizer.apply_chat_template([{"role": "system", "content": system}, user, *last], **options))
    except Exception as error:  # the template raises what its author chose
        if type(error).__module__.partition(".")[0] != "jinja2":
            raise
        text = ""
    if system in text:
        return text
    joined = {"role": "user", "content": f"{system}\n\n{_USER}"}
    return str(tokenizer.apply_chat_template([joined, *last], **options))
