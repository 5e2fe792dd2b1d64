"""Tools for agents over the Model Context Protocol (official SDK): the six tasks, free questions, a reply.

Agents pass paths on this machine; only files in the allowed folders are read, each in a child process. No content is
logged: the SDK logs error messages at INFO, so its log level is WARNING.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from inspect import getdoc
from pathlib import Path
from typing import Annotated, Any, Final, Literal, ParamSpec, TypeVar

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

from nanoemox import __version__
from nanoemox.inference.engine import Engine
from nanoemox.listening import listening_at
from nanoemox.serving.limits import Limits
from nanoemox.serving.local_files import Folders, read_file
from nanoemox.tasks import ALL_TASKS, TASKS
from nanoemox.types import Clip, NanoEmoXError, Reading, Turn

P = ParamSpec("P")
T = TypeVar("T")
INSTRUCTIONS: Final = (
    "Estimates how a person in a clip (video, audio, image, text) comes across. The answers are guesses with "
    "probabilities, not facts about a person: say so, and do not use them to judge people at work or in education."
)
_REPLY: Final = next(key for key, task in TASKS.items() if task.form == "reply")
_READ_ONLY: Final = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
PathField = Annotated[
    str | None, Field(max_length=4096, description="Video, audio or image file in an allowed folder.")
]
TextField = Annotated[
    str | None, Field(max_length=20_000, description="What is said; by default the clip's subtitle or a transcript.")
]


class ChainOut(BaseModel):
    """The chain of empathy that precedes a reply."""

    scenario: str
    emotion: str
    cause: str
    goal: str


class ReadingOut(BaseModel):
    """The answer to one task; which fields are set depends on the task."""

    label: str | None = Field(None, description="Most probable candidate.")
    probabilities: dict[str, float] | None = Field(None, description="Candidate -> probability, summing to 1.")
    valence: float | None = Field(None, description="-1 negative to 1 positive.")
    labels: list[str] | None = Field(None, description="Emotion words.")
    text: str | None = Field(None, description="Reasons.")
    reply: str | None = Field(None, description="Empathetic reply.")
    think: ChainOut | None = None


class Analysis(BaseModel):
    """The answers about one clip."""

    clip: str
    model: str
    tasks: dict[str, ReadingOut] = Field(description="Task key -> answer.")
    modalities: list[str] = Field(description="The modalities that were used.")
    warnings: list[str] = Field(description="Missing or partial input, and other doubts.")


class OptionOut(BaseModel):
    """One option of a question."""

    value: str | bool
    probability: float
    raw: float = Field(description="Before calibration.")


class DecisionOut(BaseModel):
    """The answer to one question."""

    type: Literal["predicate", "choice", "score"]
    instructions: str
    options: list[OptionOut]
    choice: str | bool | None = Field(None, description="choice: the most probable option.")
    probability: float | None = Field(None, description="predicate: probability of true.")
    score: float | None = Field(None, description="score: the expected level, 0 the lowest.")
    confidence: float = Field(description="0 for an even spread, 1 for certainty.")


class DecisionsOut(BaseModel):
    """The answers to all questions about one clip."""

    clip: str
    model: str
    answers: list[DecisionOut]
    modalities: list[str]
    warnings: list[str]


class ReplyOut(BaseModel):
    """An empathetic reply."""

    reply: str
    think: ChainOut | None = Field(None, description="The chain before the reply; null if it is incomplete.")
    warnings: list[str]


class TurnIn(BaseModel):
    """An earlier turn of the dialogue."""

    role: str = Field(max_length=100)
    text: str = Field(max_length=20_000)


class Tools:
    """The tools of the server; one call at a time runs the model.

    Args:
        engine: The engine.
        folders: Folders whose files may be named.
        limits: Bounds of a clip.
    """

    def __init__(self, engine: Engine, folders: Folders, limits: Limits | None = None) -> None:
        self._engine, self._folders, self._limits = engine, folders, limits or Limits()
        self._lock = threading.Lock()

    def analyze_clip(
        self,
        path: PathField = None,
        text: TextField = None,
        tasks: Annotated[list[str] | None, Field(max_length=len(ALL_TASKS))] = None,
    ) -> Analysis:
        """Analyse a clip of a talking person, or text alone: sentiment, emotion, intent, reasons, a reply.

        tasks: some of msa (sentiment), mer (emotion), ovmer (emotion words), mir (intent), eri (reasons), erg (reply);
        all by default. Give a path, a text, or both.
        """
        clip = self._clip(path, text)
        with self._lock:
            answer = self._engine.answer(clip, tuple(tasks) if tasks else ALL_TASKS)
        return Analysis(
            clip=answer.clip,
            model=answer.model,
            tasks={key: _reading(r) for key, r in answer.tasks.items()},
            modalities=list(answer.modalities),
            warnings=list(answer.warnings),
        )

    def decide(
        self,
        questions: Annotated[list[Annotated[str, Field(max_length=8000)]], Field(min_length=1, max_length=400)],
        path: PathField = None,
        text: TextField = None,
    ) -> DecisionsOut:
        """Answer free questions about a clip with a probability for every option.

        One line per question: 'predicate: Is the speaker joking?', 'choice: Who is meant? a friend|a stranger' or
        'score: How tense is the voice? calm|uneasy|tense' (lowest level first).
        """
        clip = self._clip(path, text)
        with self._lock:
            found = self._engine.decide(clip, questions)
        answers = []
        for a in found.answers:
            rows = zip(a.question.options, a.probabilities, a.raw, strict=True)
            form = a.question.form
            answers.append(
                DecisionOut(
                    type=form,
                    instructions=a.question.instructions,
                    options=[OptionOut(value=o.value, probability=p, raw=r) for o, p, r in rows],
                    choice=a.choice if form == "choice" else None,
                    probability=a.probability if form == "predicate" else None,
                    score=a.score if form == "score" else None,
                    confidence=a.confidence,
                )
            )
        return DecisionsOut(
            clip=found.clip,
            model=found.model,
            answers=answers,
            modalities=list(found.modalities),
            warnings=list(found.warnings),
        )

    def empathetic_reply(
        self,
        text: TextField = None,
        path: PathField = None,
        history: Annotated[list[TurnIn] | None, Field(max_length=100)] = None,
    ) -> ReplyOut:
        """Reply with empathy to a person's words; if a clip is given, to their face and voice too.

        history: earlier turns of the dialogue, oldest first.
        """
        clip = self._clip(path, text, [Turn(t.role, t.text) for t in history or ()])
        with self._lock:
            answer = self._engine.answer(clip, (_REPLY,))
        reading = _reading(answer.tasks[_REPLY])
        return ReplyOut(reply=reading.reply or "", think=reading.think, warnings=list(answer.warnings))

    def _clip(self, path: str | None, text: str | None, history: Sequence[Turn] = ()) -> Clip:
        if path is not None:
            return read_file(self._engine, self._folders.find(path), text, history, self._limits)
        if not (text or "").strip():
            raise NanoEmoXError("no input: give path, text or both")
        return Clip("words", subtitle=text, history=tuple(history))


def build_server(engine: Engine, folders: Sequence[Path], limits: Limits | None = None) -> MCPServer[Any]:
    """Return the MCP server with the three tools.

    Args:
        engine: The engine.
        folders: Folders whose files agents may name; a relative path is looked for in the first.
        limits: Bounds of a clip.
    """
    tools = Tools(engine, Folders(folders), limits)
    server: MCPServer[Any] = MCPServer(
        "nanoemox", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING", subscriptions=False
    )
    for tool in (tools.analyze_clip, tools.decide, tools.empathetic_reply):
        server.add_tool(
            _with_tool_errors(tool), description=getdoc(tool), annotations=_READ_ONLY, structured_output=True
        )
    return server


def serve_http(server: MCPServer[Any], port: int, on_ready: Callable[[str], None]) -> None:
    """Serve over streamable HTTP on loopback until Ctrl-C; the SDK refuses requests from pages of other sites.

    Args:
        server: The server.
        port: Port; 0 takes a free one.
        on_ready: Called with the address once the server listens.

    Raises:
        NanoEmoXError: The port cannot be bound.
    """
    with listening_at(port) as (listening, address):
        on_ready(f"{address}/mcp")
        config = uvicorn.Config(
            server.streamable_http_app(host="127.0.0.1"), log_level="warning", access_log=False, server_header=False
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _reading(reading: Reading) -> ReadingOut:
    return ReadingOut.model_validate(reading.to_dict())


def _with_tool_errors(tool: Callable[P, T]) -> Callable[P, T]:
    """Turn errors into tool errors: a user's mistake with its message, any other with its type alone."""

    @wraps(tool)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return tool(*args, **kwargs)
        except NanoEmoXError as error:
            raise ToolError(str(error)) from None
        except Exception as error:
            # A traceback may contain words of the clip.
            logging.getLogger(__name__).error("a tool failed: %s", type(error).__name__)
            raise ToolError(f"the server failed ({type(error).__name__}); this is a bug in nanoemox") from None

    return call
