"""Prediction files of this package: one JSON object a clip and question, in ``predictions.jsonl``.

Keys that scoring reads: ``benchmark`` and ``id``; ``truth`` (a label, a list of words or a text); ``raw``, what the
model wrote; ``parsed``, the answer object of the command line (``label`` and ``probabilities``, ``labels``, ``text`` or
``reply``), null where the clip could not be answered; ``speaker``, where known. Replies are judged and rated with
``context``, the dialogue before: a list of ``{"role", "text"}``, or one text. Other fields are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nanoemox.benchmarks.align import read_label, true_label
from nanoemox.benchmarks.official_files import Predictions
from nanoemox.benchmarks.records import WORD_TASKS, Benchmark, get_benchmark
from nanoemox.benchmarks.truth import Truth, Value, checked_value
from nanoemox.data.corpora.releases import parse_json, read_json_lines
from nanoemox.recipes import describe
from nanoemox.types import NanoEmoXError, RecipeError, Turn

PREDICTIONS: Final = "predictions.jsonl"
SETTINGS: Final = "run.json"
"""File with the settings of a run."""
METRICS: Final = "metrics.json"
"""File with the scores of a run and its baselines."""
REPORT: Final = "report.md"
"""File with the scores as a table."""
PAGE: Final = "report.html"
"""Page of the scores, where the libraries for it are installed."""
BASELINES: Final = "baselines"
"""Folder of the baselines, each with its own predictions."""
Row = dict[str, Any]
Key = tuple[str, str]
"""Benchmark and clip."""
_GO_ON: Final = "run nanoemox evaluate again with the same --out to resume it"
_Text = Annotated[str, Field(strict=True)]


@dataclass(frozen=True, slots=True)
class BenchmarkAnswers:
    """The answers of a run to one benchmark.

    Attributes:
        clips: The clips of the run, answered or not.
        truth: Clip -> correct answer; empty if the run does not contain it.
        predictions: The answers; unanswered clips are absent.
        labels: Clip -> label, of closed answers.
        confidences: Clip -> probability of that label.
        speakers: Clip -> speaker, where known.
    """

    clips: tuple[str, ...]
    truth: Truth
    predictions: Predictions
    labels: Mapping[str, str]
    confidences: Mapping[str, float]
    speakers: Mapping[str, str] = field(default_factory=dict)

    def confidence(
        self, benchmark: Benchmark, names: Sequence[str], truth: Sequence[Value]
    ) -> tuple[list[float], list[bool]]:
        """Return the probability of each label and whether it is correct; an unanswered clip has 0 and is wrong."""
        correct = [
            read_label(benchmark, self.labels.get(name)) == true_label(benchmark, true)
            for name, true in zip(names, truth, strict=True)
        ]
        return [self.confidences.get(name, 0.0) for name in names], correct


def read_run(path: Path) -> dict[str, BenchmarkAnswers]:
    """Read a prediction file, or the folder of a run.

    Returns:
        Benchmark -> its part, in the order of the file.

    Raises:
        NanoEmoXError: It is none; the message names the line.
    """
    return read_parts(rows_by_benchmark(path), prediction_file(path))


def read_parts(rows: Mapping[str, Mapping[str, Row]], source: Path | str) -> dict[str, BenchmarkAnswers]:
    """Read the rows of a prediction file (``rows_by_benchmark``), as ``read_run`` does.

    Raises:
        NanoEmoXError: There is none, or an invalid one.
    """
    if not rows:
        raise NanoEmoXError(f"{source}: no predictions")
    return {key: _part(get_benchmark(key), found, source) for key, found in rows.items()}


def rows_by_benchmark(path: Path) -> dict[str, dict[str, Row]]:
    """Read the rows of a run as ``read_rows`` does: benchmark -> clip -> row, in the order of the file."""
    found: dict[str, dict[str, Row]] = {}
    for (key, name), row in read_rows(path).items():
        found.setdefault(key, {})[name] = row
    return found


def prediction_file(path: Path) -> Path:
    """Return the prediction file of a run: of its folder, or the file itself."""
    return path / PREDICTIONS if path.is_dir() else path


def read_rows(path: Path) -> dict[Key, Row]:
    """Read the rows of a run; of a clip that a resumed run repeats, the last.

    Args:
        path: Folder of a run, or its prediction file.

    Raises:
        NanoEmoXError: It is none; the message names the line.
    """
    file = prediction_file(path)
    _check_whole(file)
    try:
        lines = read_json_lines(file)
    except OSError as error:
        raise NanoEmoXError(f"{file}: {error.strerror or error}") from error
    except RecipeError as error:
        message = str(error).removesuffix("; download it again")
        raise NanoEmoXError(
            f"{message}; remove the line, then run nanoemox evaluate again with the same --out"
        ) from error
    found: dict[Key, Row] = {}
    for number, row in enumerate(lines, 1):
        if not isinstance(row, dict) or not {"benchmark", "id"} <= row.keys():
            raise NanoEmoXError(f"{file}: row {number} has no benchmark and id: not a prediction file")
        found[str(row["benchmark"]), str(row["id"])] = row
    return found


def unfinished(path: Path) -> bool:
    """Return whether a run of ``nanoemox evaluate`` is unfinished: it has settings but no scores."""
    folder = path if path.is_dir() else path.parent
    return (folder / SETTINGS).is_file() and not (folder / METRICS).is_file()


def _check_whole(file: Path) -> None:
    """Raise if a run was killed before it wrote anything, or in the middle of a line."""
    folder = file.parent
    started = (folder / SETTINGS).is_file() or any(folder.glob("predictions-*.jsonl"))
    if not file.exists() and started:
        raise NanoEmoXError(f"{folder}: the run has not written {PREDICTIONS} yet; {_GO_ON}")
    try:
        last = file.read_bytes().rpartition(b"\n")[2]
    except OSError:
        return  # the reader reports it
    if last.strip():
        try:
            parse_json(last.decode())
        except (ValueError, RecursionError) as error:
            raise NanoEmoXError(
                f"{file}: the last line is cut: the run was killed while writing it; {_GO_ON}"
            ) from error


def read_dialogue(row: Row, file: Path) -> tuple[Turn, ...]:
    """Read the dialogue before a reply from a row; a plain text is one turn without a role.

    Raises:
        NanoEmoXError: ``context`` is neither a text nor a list of turns.
    """
    context = row.get("context")
    if isinstance(context, str):
        return (Turn("", context),)
    try:
        turns = [(turn["role"], turn["text"]) for turn in context or ()]
    except (TypeError, KeyError):
        turns = [(None, None)]
    if not all(isinstance(part, str) for turn in turns for part in turn):
        raise NanoEmoXError(f"{file}: clip {row['id']!r}: context is no list of turns with role and text")
    return tuple(Turn(role, text) for role, text in turns)


class _Parsed(BaseModel):
    """The fields of an answer object that are used."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: _Text | None = None
    labels: tuple[_Text, ...] | None = None
    probabilities: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = None


def _part(benchmark: Benchmark, rows: Mapping[str, Row], source: Path | str) -> BenchmarkAnswers:
    truth = {name: checked_value(row["truth"], source) for name, row in rows.items() if row.get("truth") is not None}
    if truth and len(truth) < len(rows):
        raise NanoEmoXError(f"{source}: {len(rows) - len(truth)} clips of {benchmark.id} have no truth, others have")
    answered = {name: row for name, row in rows.items() if isinstance(row.get("parsed"), dict)}
    parsed = {name: _parsed(row, source) for name, row in answered.items()}
    labels = {name: answer.label for name, answer in parsed.items() if answer.label}
    chances = {name: parsed[name].probabilities or {} for name in labels}
    confidences = {name: chances[name][label] for name, label in labels.items() if label in chances[name]}
    written = {name: str(row.get("raw") or "") for name, row in answered.items()}
    predictions = _predictions(benchmark, parsed, written, labels)
    return BenchmarkAnswers(tuple(rows), truth, predictions, labels, confidences, speakers_of(rows))


def speakers_of(rows: Mapping[str, Row]) -> dict[str, str]:
    """Return clip -> speaker for rows that name one."""
    return {name: who for name, row in rows.items() if isinstance(who := row.get("speaker"), str) and who}


def _parsed(row: Row, source: Path | str) -> _Parsed:
    try:
        return _Parsed.model_validate(row["parsed"])
    except ValidationError as error:
        raise NanoEmoXError(f"{source}: clip {row['id']!r}: parsed.{describe(error)}") from error


def _predictions(
    benchmark: Benchmark, parsed: Mapping[str, _Parsed], written: Mapping[str, str], labels: Mapping[str, str]
) -> Predictions:
    if benchmark.task in WORD_TASKS:
        listed = {name: answer.labels for name, answer in parsed.items()}
        if all(words is None for words in listed.values()):
            return Predictions("sentiment", {}, dict(labels))
        # The text is parsed again: a list gives the same words, running text its own.
        written = {name: written[name] or ", ".join(words or ()) for name, words in listed.items()}
    return Predictions("text", {}, dict(written))
