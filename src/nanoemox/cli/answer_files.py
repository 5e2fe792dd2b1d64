"""``nanoemox answer``: from files and folders to cards, JSON lines or a table that can be resumed."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nanoemox.cli.answer_html import PageWriter
from nanoemox.cli.answer_table import AnswerTable, checkpoint_identity, path_cell
from nanoemox.cli.render import progress_over, show_card, show_line, show_problems
from nanoemox.media.windows import check_windows
from nanoemox.tasks import ALL_TASKS, get_task
from nanoemox.types import Answer, Clip, NanoEmoXError, Turn

_VIDEO = "mp4 m4v mov mkv webm avi mpg mpeg ts flv 3gp wmv ogv gif"
_AUDIO = "wav mp3 m4a aac flac ogg oga opus wma"
_PICTURE = "jpg jpeg png webp bmp tif tiff"
MEDIA_SUFFIXES: Final = frozenset(f".{end}" for end in f"{_VIDEO} {_AUDIO} {_PICTURE}".split())
"""What is taken from a folder; a file that is named is tried whatever it is called."""
DEFAULT_WINDOW_S = 10.0
_UNPRINTABLE = re.compile("[\\x7f-\\x9f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ud800-\\udfff\\ufeff]")


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """The options of ``nanoemox answer``, as typed."""

    tasks: str = "all"
    text: str | None = None
    subtitle: str | None = None
    words: str | None = None
    asr_model: str | None = None
    history: Path | None = None
    labels: str | None = None
    think: bool = True
    every_s: float | None = None
    by: str = "window"
    window_s: float | None = None
    model: str | None = None
    device: str = "auto"
    face_index: int = 0
    face_vectors: Path | None = None
    json: bool = False
    csv: Path | None = None
    explain: bool = False
    html: Path | None = None


@dataclass(slots=True)
class _Questions:
    """The options once checked."""

    tasks: tuple[str, ...]
    labels: tuple[str, ...] | None
    history: tuple[Turn, ...]
    problems: dict[Path, str] = field(default_factory=dict)
    page: PageWriter | None = None


def answer_files(paths: Sequence[Path], request: AnswerRequest) -> int:
    """Answer about every clip; go on past a bad one.

    Returns:
        0, or 2 if a clip could not be answered; those are listed on stderr.

    Raises:
        NanoEmoXError: An option that cannot be meant.
    """
    questions = _check(request)
    if request.text is not None:
        _check_words_alone(paths, request)
        return _answer_words(request.text, request, questions)
    if not paths:
        raise NanoEmoXError("nothing to answer about: name clips or folders, or give words alone with --text")
    clips, missing = expand(paths)
    if request.face_vectors is not None and len(clips) > 1:
        raise NanoEmoXError(f"--face-vectors goes with one clip, {len(clips)} are named: answer about one at a time")
    questions.problems |= missing
    if questions.page is not None:
        questions.page.check_number(len(clips))
        if clips:
            _answer_all(clips, request, questions, questions.page.add)
            questions.page.write()
    elif request.csv is None:
        if clips:
            _answer_all(clips, request, questions, _show_json if request.json else _show_cards)
    else:
        with AnswerTable(request.csv, questions.tasks, _settings(request, questions)) as table:
            left = [p for p in clips if path_cell(p) not in table.done]
            if len(left) < len(clips):
                show_line(f"{len(clips) - len(left)} clip(s) are in {request.csv.name} already and are skipped")
            if left:
                _answer_all(left, request, questions, table.add)
                show_line(f"written: {request.csv}")
    show_problems(questions.problems)
    return 2 if questions.problems else 0


def _check_words_alone(paths: Sequence[Path], request: AnswerRequest) -> None:
    given = {
        "--csv": request.csv,
        "--every": request.every_s,
        "--subtitle": request.subtitle,
        "--words": request.words,
        "--face-vectors": request.face_vectors,
    }
    wrong = [*(["clips"] if paths else []), *(name for name, value in given.items() if value is not None)]
    if wrong:
        raise NanoEmoXError(f"--text is words alone and does not go with {', '.join(wrong)}: leave one out")
    if not (request.text or "").strip():
        raise NanoEmoXError("--text is empty: give the words")


def _answer_words(text: str, request: AnswerRequest, questions: _Questions) -> int:
    from nanoemox.inference.engine import Engine

    engine = Engine.from_pretrained(request.model, device=request.device)
    answer = engine.answer(
        None,
        questions.tasks,
        questions.labels,
        request.think,
        text=text,
        history=questions.history,
        explain=request.explain or questions.page is not None,
    )
    path = Path(answer.clip)
    if questions.page is not None:
        questions.page.see(path, Clip(answer.clip, subtitle=text))
        questions.page.add(path, [answer])
        questions.page.write()
    else:
        (_show_json if request.json else _show_cards)(path, [answer])
    return 0


def _settings(request: AnswerRequest, questions: _Questions) -> dict[str, Any]:
    """Return all that the answers depend on beside the clips and the tasks."""
    from nanoemox.inference.checkpoints import find_checkpoint

    source, _, local = find_checkpoint(request.model)
    turns = json.dumps([[t.role, t.text] for t in questions.history])
    vectors = request.face_vectors
    # Named only where there are any: tables of versions without this option can be resumed.
    read = {} if vectors is None else {"face_vectors": hashlib.sha256(vectors.read_bytes()).hexdigest()[:16]}
    return read | {
        "model": checkpoint_identity(source, local=local),
        "labels": questions.labels,
        "think": request.think,
        "every_s": request.every_s,
        "window_s": _window_s(request) if request.every_s is not None else None,
        "by": request.by,
        "subtitle": request.subtitle,
        "words": request.words,
        "asr_model": request.asr_model,
        "history": hashlib.sha256(turns.encode()).hexdigest()[:16] if questions.history else None,
        "face_index": request.face_index,
    }


def _window_s(request: AnswerRequest) -> float:
    return DEFAULT_WINDOW_S if request.window_s is None else request.window_s


def _check(request: AnswerRequest) -> _Questions:
    """Find every mistake in the options before the model is loaded."""
    if request.json and request.csv is not None:
        raise NanoEmoXError("--json and --csv exclude each other: choose one")
    if request.html is not None and (request.json or request.csv is not None):
        raise NanoEmoXError(f"--html and {'--json' if request.json else '--csv'} exclude each other: choose one")
    if request.window_s is not None and request.every_s is None:
        raise NanoEmoXError(f"--window {request.window_s:g} needs --every SECONDS")
    if request.every_s is not None:
        try:
            check_windows(request.every_s, _window_s(request))
        except ValueError as error:
            raise NanoEmoXError(f"--every, --window: {error}") from error
    if request.subtitle is not None and request.words is not None:
        raise NanoEmoXError("--subtitle and --words both give the words: choose one")
    if request.by not in ("window", "utterance"):
        raise NanoEmoXError(f"--by {request.by!r} is unknown: choose window or utterance")
    if request.by == "utterance" and request.every_s is not None:
        raise NanoEmoXError("--by utterance and --every exclude each other: choose one")
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
        make_plan(tasks, labels, request.think)
    history = () if request.history is None else read_history(request.history)
    return _Questions(tasks, labels, history, page=None if request.html is None else PageWriter(request.html))


def expand(paths: Iterable[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Return the files to read, folders searched, each once; and path -> why not."""
    found: dict[Path, None] = {}
    problems: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in MEDIA_SUFFIXES and p.is_file())
            found |= dict.fromkeys(inside)
            if not inside:
                problems[path] = "the folder holds no video, audio or picture file"
        elif path.is_file():
            found[path] = None
        else:
            problems[path] = "not a file" if path.exists() else "no such file"
    return list(found), problems


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


def _answer_all(
    clips: list[Path], request: AnswerRequest, questions: _Questions, write: Callable[[Path, list[Answer]], None]
) -> None:
    from nanoemox.inference.engine import Engine

    engine = Engine.from_pretrained(request.model, device=request.device)
    along = request.every_s is not None or request.by == "utterance"
    run = _timelines if along else _whole_clips
    with progress_over(len(clips)) as advance:
        for path, answers, last in run(engine, clips, request, questions):
            write(path, answers)
            if last:
                advance(len(questions.problems))


def _whole_clips(
    engine: Any, paths: list[Path], request: AnswerRequest, questions: _Questions
) -> Iterator[tuple[Path, list[Answer], bool]]:
    """Yield each path with its one answer, and that it is the last."""
    sent: list[Path] = []

    def clips() -> Iterator[Clip]:
        for path in paths:
            try:
                clip = engine.load(path, **_loading(request, questions))
            except NanoEmoXError as error:
                questions.problems[path] = _reason(error, path)
            else:
                sent.append(path)
                if questions.page is not None:
                    questions.page.see(path, clip)
                yield clip

    def failed(i: int, error: NanoEmoXError) -> None:
        questions.problems[sent[i]] = _reason(error, sent[i])

    explain = request.explain or questions.page is not None
    answers = engine.answer_many(
        clips(), questions.tasks, questions.labels, request.think, explain=explain, on_error=failed
    )
    position = 0
    for answer in answers:
        while sent[position] in questions.problems:
            position += 1
        yield sent[position], [answer], True
        position += 1


def _timelines(
    engine: Any, paths: list[Path], request: AnswerRequest, questions: _Questions
) -> Iterator[tuple[Path, list[Answer], bool]]:
    """Yield each path with the answers of its windows: one by one for the screen, else all together."""
    together = request.csv is not None or questions.page is not None
    for path in paths:
        answers: list[Answer] = []
        try:
            for answer in engine.timeline(
                path,
                request.every_s or DEFAULT_WINDOW_S,
                _window_s(request),
                questions.tasks,
                questions.labels,
                think=request.think,
                explain=request.explain,
                by=request.by,
                **_loading(request, questions),
            ):
                answers.append(answer)
                if not together:
                    yield path, [answer], False
        except NanoEmoXError as error:
            questions.problems[path] = _reason(error, path)
            continue
        if not any(a.tasks for a in answers):
            questions.problems[path] = answers[0].warnings[0]
            continue
        if questions.page is not None:
            with suppress(NanoEmoXError):  # longer than what is read at once: the page then has no pictures
                questions.page.see(path, engine.load(path, **_loading(request, questions) | {"hear": False}))
        yield path, answers if together else [], True


def _loading(request: AnswerRequest, questions: _Questions) -> dict[str, Any]:
    words = {"auto": None, "none": ""}.get(request.words or "auto", request.words)
    return {
        "subtitle": request.subtitle if request.words is None else words,
        "history": questions.history,
        "face_index": request.face_index,
        "face_vectors": request.face_vectors,
        "asr_model": request.asr_model,
    }


def _reason(error: NanoEmoXError, path: Path) -> str:
    """The list names the file already."""
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{path.name}: ")


def _show_cards(_: Path, answers: list[Answer]) -> None:
    for answer in answers:
        show_card(answer)


def _show_json(_: Path, answers: list[Answer]) -> None:
    for answer in answers:
        sys.stdout.write(json_line(answer) + "\n")
    sys.stdout.flush()


def json_line(answer: Answer) -> str:
    """Write an answer as one line of JSON in which nothing steers a terminal or ends the line for any reader."""
    text = json.dumps(answer.to_dict(), ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
