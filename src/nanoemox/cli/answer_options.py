"""Checks of the options of ``nanoemox answer``, and their conversion for the engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoemox.cli.answer_html import PageWriter
from nanoemox.cli.answer_inputs import Source
from nanoemox.cli.answer_request import AnswerRequest
from nanoemox.cli.answer_table import checkpoint_identity
from nanoemox.media.windows import check_windows
from nanoemox.tasks import ALL_TASKS, get_task
from nanoemox.types import NanoEmoXError, Turn

if TYPE_CHECKING:
    from nanoemox.inference.options import AnswerOptions, LoadOptions

DEFAULT_WINDOW_S = 10.0


@dataclass(slots=True)
class AnswerJob:
    """The checked options.

    Attributes:
        tasks: Task keys.
        labels: Candidates of the one closed task.
        history: Earlier turns.
        problems: File or URI -> why it could not be answered; filled by the run.
        page: The page to write.
    """

    tasks: tuple[str, ...]
    labels: tuple[str, ...] | None
    history: tuple[Turn, ...]
    problems: dict[Source, str] = field(default_factory=dict)
    page: PageWriter | None = None


def check_request(request: AnswerRequest) -> AnswerJob:
    """Find every mistake in the options before the model is loaded."""
    if request.json and request.csv is not None:
        raise NanoEmoXError("--json and --csv exclude each other: choose one")
    if request.html is not None and (request.json or request.csv is not None):
        raise NanoEmoXError(f"--html and {'--json' if request.json else '--csv'} exclude each other: choose one")
    if request.where() is not None and request.csv is None:
        raise NanoEmoXError("--ray writes a table that can be resumed: name it with --csv FILE")
    if request.window_s is not None and request.every_s is None:
        instead = ", and then no --by utterance" if request.by == "utterance" else ""
        raise NanoEmoXError(f"--window {request.window_s:g} needs --every SECONDS{instead}")
    if request.every_s is not None:
        try:
            check_windows(request.every_s, window_s_of(request))
        except ValueError as error:
            raise NanoEmoXError(f"--every, --window: {error}") from error
    if request.subtitle is not None and request.words is not None:
        raise NanoEmoXError("--subtitle and --words both give the words: choose one")
    if request.by not in ("window", "utterance"):
        raise NanoEmoXError(f"--by {request.by!r} is unknown: choose window or utterance")
    if request.by == "utterance" and request.every_s is not None:
        raise NanoEmoXError("--by utterance and --every exclude each other: choose one")
    if request.words is not None and not request.words.strip():
        raise NanoEmoXError("--words is empty: give auto, none, or the words")
    if request.asr_model is not None and not (Path(request.asr_model).expanduser() / "config.json").is_file():
        raise NanoEmoXError(f"--asr-model {request.asr_model}: no directory of a Whisper model")
    if request.face_vectors is not None and not request.face_vectors.is_file():
        raise NanoEmoXError(f"--face-vectors {request.face_vectors}: no such file")
    if request.face_index < 0:
        raise NanoEmoXError(f"--face-index {request.face_index}: must be 0 (the largest) or more")
    words = [t.strip() for t in request.tasks.split(",")]
    tasks = ALL_TASKS if words == ["all"] else tuple(get_task(t).key for t in words)
    labels = None
    if request.labels is not None:
        from nanoemox.inference.batch import make_plan

        labels = tuple(label.strip() for label in request.labels.split(","))
        make_plan(tasks, labels)
    history = () if request.history is None else read_history(request.history)
    return AnswerJob(tasks, labels, history, page=None if request.html is None else PageWriter(request.html))


def check_words_alone(named: Sequence[Source], request: AnswerRequest) -> None:
    """Refuse options for clips together with ``--text``."""
    given = {
        "--csv": request.csv,
        "--every": request.every_s,
        "--subtitle": request.subtitle,
        "--words": request.words,
        "--face-vectors": request.face_vectors,
        "--ray": request.where(),
        "--by": None if request.by == "window" else request.by,
        "--asr-model": request.asr_model,
        "--face-index": request.face_index or None,
    }
    wrong = [*(["clips"] if named else []), *(name for name, value in given.items() if value is not None)]
    if wrong:
        raise NanoEmoXError(f"--text cannot be combined with {', '.join(wrong)}: leave one out")
    if not (request.text or "").strip():
        raise NanoEmoXError("--text is empty: give the words")


def table_settings(request: AnswerRequest, job: AnswerJob) -> dict[str, Any]:
    """Return everything that the answers depend on besides the clips and the tasks."""
    from nanoemox.inference.checkpoints import find_checkpoint

    source, _, local = find_checkpoint(request.model)
    turns = json.dumps([[t.role, t.text] for t in job.history])
    vectors = request.face_vectors
    # Absent without vectors, so that tables of older versions can be resumed.
    read = {} if vectors is None else {"face_vectors": hashlib.sha256(vectors.read_bytes()).hexdigest()[:16]}
    return read | {
        "model": checkpoint_identity(source, local=local),
        "labels": job.labels,
        "think": request.think,
        "every_s": request.every_s,
        "window_s": window_s_of(request) if request.every_s is not None else None,
        "by": request.by,
        "subtitle": request.subtitle,
        "words": request.words,
        "asr_model": request.asr_model,
        "history": hashlib.sha256(turns.encode()).hexdigest()[:16] if job.history else None,
        "face_index": request.face_index,
    }


def window_s_of(request: AnswerRequest) -> float:
    """Return the length of a window in seconds."""
    return DEFAULT_WINDOW_S if request.window_s is None else request.window_s


def answer_options(request: AnswerRequest) -> AnswerOptions:
    """Return the engine's answer options; a page shows the evidence too."""
    from nanoemox.inference.options import AnswerOptions

    return AnswerOptions(request.think, request.explain or request.html is not None)


def load_options(request: AnswerRequest) -> LoadOptions:
    """Return the engine's load options."""
    from nanoemox.inference.options import LoadOptions

    return LoadOptions(request.face_index, asr_model=request.asr_model)


def beside_clip(request: AnswerRequest, job: AnswerJob) -> dict[str, Any]:
    """Return the inputs that accompany a file: arguments of ``Engine.load`` and fields of ``TimelineOptions``."""
    words = {"auto": None, "none": ""}.get(request.words or "auto", request.words)
    return {
        "subtitle": request.subtitle if request.words is None else words,
        "history": job.history,
        "face_vectors": request.face_vectors,
    }


def read_history(path: Path) -> tuple[Turn, ...]:
    """Read earlier turns from JSON: a list of objects with ``role`` and ``text``."""
    form = 'give a JSON list such as [{"role": "A", "text": "How did it go?"}]'
    if path.exists() and not path.is_file():
        raise NanoEmoXError(f"{path}: not a file; {form}")
    try:
        turns = json.loads(path.read_text("utf-8"))
        if not isinstance(turns, list):
            raise NanoEmoXError(f"{path}: not a list; {form}")
        return tuple(Turn(str(t["role"]), str(t["text"])) for t in turns)
    except OSError as error:
        raise NanoEmoXError(f"{path}: {error.strerror or error}; {form}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise NanoEmoXError(f"{path}: not a dialogue ({error}); {form}") from error
