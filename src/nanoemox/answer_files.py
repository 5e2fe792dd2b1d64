"""``nanoemox answer``: from files and folders to cards, JSON lines or a table that can be resumed."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nanoemox.render import progress_over, show_card, show_line, show_problems
from nanoemox.tasks import ALL_TASKS, TASKS, get_task
from nanoemox.types import Answer, Clip, MediaError, NanoEmoXError, Turn

_VIDEO = "mp4 m4v mov mkv webm avi mpg mpeg ts flv 3gp wmv ogv gif"
_AUDIO = "wav mp3 m4a aac flac ogg oga opus wma"
_PICTURE = "jpg jpeg png webp bmp tif tiff"
MEDIA_SUFFIXES: Final = frozenset(f".{end}" for end in f"{_VIDEO} {_AUDIO} {_PICTURE}".split())
"""What is taken from a folder; a file that is named is tried whatever it is called."""
DEFAULT_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """The options of ``nanoemox answer``, as typed."""

    tasks: str = "all"
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
    json: bool = False
    csv: Path | None = None
    explain: bool = False


@dataclass(slots=True)
class _Questions:
    """The options once checked."""

    tasks: tuple[str, ...]
    labels: tuple[str, ...] | None
    history: tuple[Turn, ...]
    problems: dict[Path, str] = field(default_factory=dict)


def answer_files(paths: Sequence[Path], request: AnswerRequest) -> int:
    """Answer about every clip; go on past a bad one.

    Returns:
        0, or 2 if a clip could not be answered; those are listed on stderr.

    Raises:
        NanoEmoXError: An option that cannot be meant.
    """
    questions = _check(request)
    clips, missing = expand(paths)
    questions.problems |= missing
    if request.csv is not None:
        done = read_done(request.csv, columns(questions.tasks))
        skipped = [p for p in clips if str(p) in done]
        clips = [p for p in clips if str(p) not in done]
        if skipped:
            show_line(f"{len(skipped)} clip(s) are in {request.csv.name} already and are skipped")
    if clips:
        _answer_all(clips, request, questions)
        if request.csv is not None:
            show_line(f"written: {request.csv}")
    show_problems(questions.problems)
    return 2 if questions.problems else 0


def _check(request: AnswerRequest) -> _Questions:
    """Find every mistake in the options before the model is loaded."""
    if request.json and request.csv is not None:
        raise NanoEmoXError("--json and --csv exclude each other: choose one")
    if request.window_s is not None and request.every_s is None:
        raise NanoEmoXError(f"--window {request.window_s:g} needs --every SECONDS")
    if request.subtitle is not None and request.words is not None:
        raise NanoEmoXError("--subtitle and --words both give the words: choose one")
    if request.by not in ("window", "utterance"):
        raise NanoEmoXError(f"--by {request.by!r} is unknown: choose window or utterance")
    if request.by == "utterance" and request.every_s is not None:
        raise NanoEmoXError("--by utterance and --every exclude each other: choose one")
    if request.face_index < 0:
        raise NanoEmoXError(f"--face-index {request.face_index}: must be 0 (the largest) or more")
    words = [t.strip() for t in request.tasks.split(",")]
    tasks = ALL_TASKS if words == ["all"] else tuple(get_task(t).key for t in words)
    labels = None
    if request.labels is not None:
        from nanoemox.answering import make_plan

        labels = tuple(label.strip() for label in request.labels.split(","))
        make_plan(tasks, labels, request.think)
    return _Questions(tasks, labels, () if request.history is None else read_history(request.history))


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
            problems[path] = "no such file"
    return list(found), problems


def read_history(path: Path) -> tuple[Turn, ...]:
    """Read earlier turns from JSON: a list of objects with ``role`` and ``text``."""
    form = 'give a JSON list such as [{"role": "A", "text": "How did it go?"}]'
    try:
        turns = json.loads(path.read_text("utf-8"))
        if not isinstance(turns, list):
            raise NanoEmoXError(f"{path}: not a list; {form}")
        return tuple(Turn(str(t["role"]), str(t["text"])) for t in turns)
    except OSError as error:
        raise NanoEmoXError(f"{path}: {error.strerror or error}; {form}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise NanoEmoXError(f"{path}: not a dialogue ({error}); {form}") from error


def _answer_all(clips: list[Path], request: AnswerRequest, questions: _Questions) -> None:
    from nanoemox.engine import Engine

    _be_quiet()
    engine = Engine.from_pretrained(request.model, device=request.device)
    run = _timelines if request.every_s is not None or request.by == "utterance" else _whole_clips
    with _writer(request, questions.tasks) as write, progress_over(len(clips)) as advance:
        for path, answers in run(engine, clips, request, questions):
            write(path, answers)
            advance(len(questions.problems))


def _whole_clips(
    engine: Any, paths: list[Path], request: AnswerRequest, questions: _Questions
) -> Iterator[tuple[Path, list[Answer]]]:
    """Yield each path with its one answer."""
    sent: list[Path] = []

    def clips() -> Iterator[Clip]:
        for path in paths:
            try:
                clip = engine.load(path, **_loading(request, questions))
            except NanoEmoXError as error:
                questions.problems[path] = _reason(error, path)
            else:
                sent.append(path)
                yield clip

    def failed(i: int, error: NanoEmoXError) -> None:
        questions.problems[sent[i]] = _reason(error, sent[i])

    answers = engine.answer_many(
        clips(), questions.tasks, questions.labels, request.think, explain=request.explain, on_error=failed
    )
    position = 0
    for answer in answers:
        while sent[position] in questions.problems:
            position += 1
        yield sent[position], [answer]
        position += 1


def _timelines(
    engine: Any, paths: list[Path], request: AnswerRequest, questions: _Questions
) -> Iterator[tuple[Path, list[Answer]]]:
    """Yield each path with one answer per window."""
    for path in paths:
        try:
            yield (
                path,
                list(
                    engine.timeline(
                        path,
                        request.every_s or DEFAULT_WINDOW_S,
                        DEFAULT_WINDOW_S if request.window_s is None else request.window_s,
                        questions.tasks,
                        questions.labels,
                        think=request.think,
                        explain=request.explain,
                        by=request.by,
                        **_loading(request, questions),
                    )
                ),
            )
        except MediaError as error:
            questions.problems[path] = _reason(error, path)


def _loading(request: AnswerRequest, questions: _Questions) -> dict[str, Any]:
    words = {"auto": None, "none": ""}.get(request.words or "auto", request.words)
    return {
        "subtitle": request.subtitle if request.words is None else words,
        "history": questions.history,
        "face_index": request.face_index,
        "asr_model": request.asr_model,
    }


def _reason(error: NanoEmoXError, path: Path) -> str:
    """The list names the file already."""
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{path.name}: ")


def _be_quiet() -> None:
    """Keep the libraries' progress bars and hints off the user's screen."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


# ---------------------------------------------------------------- where answers go


@contextmanager
def _writer(request: AnswerRequest, tasks: tuple[str, ...]) -> Iterator[Any]:
    """Give a function that takes a path and its answers to the screen, or to the table."""
    if request.csv is None:

        def show(path: Path, answers: list[Answer]) -> None:
            for answer in answers:
                if request.json:
                    sys.stdout.write(json.dumps(answer.to_dict(), ensure_ascii=False) + "\n")
                    sys.stdout.flush()
                else:
                    show_card(answer)

        yield show
        return
    names = columns(tasks)
    fresh = not request.csv.exists() or not request.csv.stat().st_size
    with request.csv.open("a", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, names)
        if fresh:
            table.writeheader()

        def add(path: Path, answers: list[Answer]) -> None:
            table.writerows(table_row(path, a) for a in answers)
            file.flush()  # an interrupted run keeps what it has

        yield add


def columns(tasks: Sequence[str]) -> list[str]:
    """Return the header of the table for these tasks."""
    names = ["path", "clip", "model", "start_s", "end_s", "modalities", "gate", "warnings"]
    for key in tasks:
        if TASKS[key].closed:
            names += [f"{key}_label", f"{key}_probability", f"{key}_probabilities"]
        if key == "msa":
            names.append("msa_valence")
        names += {"ovmer": ["ovmer_labels"], "eri": ["eri_text"], "erg": ["erg_reply", "erg_think"]}.get(key, [])
    return names


def table_row(path: Path, answer: Answer) -> dict[str, Any]:
    """Flatten an answer; lists are joined by ``; ``, mappings are JSON."""
    start_s, end_s = answer.span_s or (None, None)
    row: dict[str, Any] = {
        "path": str(path),
        "clip": answer.clip,
        "model": answer.model,
        "start_s": start_s,
        "end_s": end_s,
        "modalities": "; ".join(answer.modalities),
        "gate": "; ".join(f"{g:.4f}" for g in answer.gate or ()),
        "warnings": "; ".join(answer.warnings),
    }
    for key, reading in answer.tasks.items():
        if reading.probabilities is not None and reading.label is not None:
            row[f"{key}_label"] = reading.label
            row[f"{key}_probability"] = round(reading.probabilities[reading.label], 4)
            row[f"{key}_probabilities"] = _compact({k: round(v, 4) for k, v in reading.probabilities.items()})
        if key == "msa":
            row["msa_valence"] = round(reading.valence or 0.0, 4)
        elif key == "ovmer":
            row["ovmer_labels"] = "; ".join(reading.labels or ())
        elif key == "eri":
            row["eri_text"] = reading.text
        elif key == "erg":
            chain = reading.to_dict()["think"]
            row["erg_reply"], row["erg_think"] = reading.reply, "" if chain is None else _compact(chain)
    return row


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def read_done(path: Path, names: Sequence[str]) -> set[str]:
    """Return the paths that a table holds already.

    Raises:
        NanoEmoXError: The file is something else, or a table of other tasks.
    """
    if not path.exists() or not path.stat().st_size:
        return set()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if list(table.fieldnames or ()) != list(names):
                raise NanoEmoXError(f"{path}: has other columns than these tasks give; choose another file for --csv")
            return {row["path"] for row in table}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise NanoEmoXError(f"{path}: not a table that can be continued ({error}); choose another file") from error
