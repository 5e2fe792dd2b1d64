"""Prediction files of this package: one JSON object a clip and question, in ``predictions.jsonl``.

Keys that scoring reads: ``benchmark`` and ``id``; ``truth`` (a label, a list of words or a text); ``raw``, what the
model wrote; ``parsed``, the answer object of the command line (``label`` and ``probabilities``, ``labels``, ``text`` or
``reply``), null where the clip could not be answered. Whatever else a row tells is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nanoemox.data.corpora.releases import read_json_lines
from nanoemox.evaluation.benchmarks import Benchmark, get_benchmark
from nanoemox.evaluation.official_files import Predictions
from nanoemox.evaluation.truth import Truth, Value
from nanoemox.types import NanoEmoXError

PREDICTIONS: Final = "predictions.jsonl"


@dataclass(frozen=True, slots=True)
class RunPart:
    """What a run holds of one benchmark.

    Attributes:
        asked: The clips asked, answered or not.
        truth: What is right of every clip asked; empty where the run does not tell.
        predictions: The answers; unanswered clips are absent.
        labels: Clip -> label, of closed answers.
        confidences: Clip -> probability of that label.
    """

    asked: tuple[str, ...]
    truth: Truth
    predictions: Predictions
    labels: Mapping[str, str]
    confidences: Mapping[str, float]


def read_run(path: Path) -> dict[str, RunPart]:
    """Read a prediction file, or the folder of a run.

    Returns:
        Benchmark -> its part, in the order of the file.

    Raises:
        NanoEmoXError: It is none; the message names the line.
    """
    file = path / PREDICTIONS if path.is_dir() else path
    rows: dict[str, dict[str, Any]] = {}
    try:
        lines = read_json_lines(file)
    except OSError as error:
        raise NanoEmoXError(f"{file}: {error.strerror or error}") from error
    for number, row in enumerate(lines, 1):
        if not isinstance(row, dict) or not {"benchmark", "id"} <= row.keys():
            raise NanoEmoXError(f"{file}: row {number} has no benchmark and id: not a prediction file")
        rows.setdefault(str(row["benchmark"]), {})[str(row["id"])] = row  # a resumed run may repeat a clip
    if not rows:
        raise NanoEmoXError(f"{file}: holds no prediction")
    return {key: _part(get_benchmark(key), found, file) for key, found in rows.items()}


def _part(benchmark: Benchmark, rows: Mapping[str, dict[str, Any]], file: Path) -> RunPart:
    truth = {name: _value(row["truth"], file) for name, row in rows.items() if row.get("truth") is not None}
    if truth and len(truth) < len(rows):
        raise NanoEmoXError(f"{file}: {len(rows) - len(truth)} clips of {benchmark.id} have no truth, others have")
    answered = {name: row for name, row in rows.items() if isinstance(row.get("parsed"), dict)}
    labels = {name: row["parsed"]["label"] for name, row in answered.items() if row["parsed"].get("label")}
    chances = {name: answered[name]["parsed"].get("probabilities") or {} for name in labels}
    confidences = {name: float(chances[name][label]) for name, label in labels.items() if label in chances[name]}
    return RunPart(tuple(rows), truth, _predictions(benchmark, answered, labels), labels, confidences)


def _predictions(
    benchmark: Benchmark, answered: Mapping[str, dict[str, Any]], labels: Mapping[str, str]
) -> Predictions:
    written = {name: str(row.get("raw") or "") for name, row in answered.items()}
    if benchmark.task in ("mer", "msa", "ovmer"):
        listed = {name: row["parsed"].get("labels") for name, row in answered.items()}
        if all(words is None for words in listed.values()):
            return Predictions("sentiment", {}, dict(labels))
        # What was written is read anew: a list gives the words that were parsed, running text gives its own.
        written = {name: written[name] or ", ".join(words or ()) for name, words in listed.items()}
    return Predictions("text", {}, written)


def _value(value: object, file: Path) -> Value:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    raise NanoEmoXError(f"{file}: truth {str(value)[:80]!r} is neither a text nor a list of words")
