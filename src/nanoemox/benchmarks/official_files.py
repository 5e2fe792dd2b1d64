"""Published result files and wheel tables of the benchmarks' authors.

``X.npz`` holds ``name2reason``, the outputs; ``X-openset.npz`` the emotion words that a language model extracted
from them; ``X-openset-sentiment.npz`` the sentiment of these words. Tables (``.csv``) hold words or texts.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from nanoemox.data.corpora.releases import read_json, read_table
from nanoemox.data.corpora.spreadsheet import read_sheet
from nanoemox.scoring.legacy.words import WheelRow, WheelTables, split_list
from nanoemox.types import NanoEmoXError

Kind = Literal["words", "sentiment", "text"]
PICKLED: Final = (
    "holds pickled objects, which can run any code when opened: name --trust-npz if you trust where it comes from"
)
_SYNONYM_RUNS: Final = range(1, 9)
_NAMES: Final = ("name", "names", "filename")
_TEXTS: Final = ("reason", "reasons", "chi_reasons", "english", "text")


@dataclass(frozen=True, slots=True)
class Predictions:
    """Answers of a model.

    Attributes:
        kind: ``words`` (open vocabulary), ``sentiment`` (one word) or ``text`` (as written).
        words: Clip -> emotion words, if the kind is ``words``.
        texts: Clip -> sentiment or text, otherwise.
    """

    kind: Kind
    words: Mapping[str, tuple[str, ...]]
    texts: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The answered clips."""
        return tuple(self.words or self.texts)


def read_predictions(path: Path, *, trust_npz: bool = False) -> Predictions:
    """Read a result file of the authors of AffectGPT or Nano-EmoX, or a JSON object of clips and answers.

    Raises:
        NanoEmoXError: It is none, or pickled and not trusted.
    """
    if path.suffix == ".npz":
        return _read_npz(path, trust_npz=trust_npz)
    if path.suffix in (".csv", ".tsv"):
        return _read_csv(path)
    if path.suffix == ".json":
        return _read_object(path)
    raise NanoEmoXError(
        f"{path}: not a result file: give .npz or .csv of the authors, .jsonl of this package, or .json: clip -> answer"
    )


def _read_npz(path: Path, *, trust_npz: bool) -> Predictions:
    arrays = load_npz(path, ("name2reason", "filenames", "fileitems"), trust_npz=trust_npz)
    if "name2reason" in arrays:
        written = arrays["name2reason"].item() if arrays["name2reason"].ndim == 0 else None
        if not isinstance(written, dict):
            raise NanoEmoXError(f"{path}: name2reason is not a dictionary of clip -> text; download it again")
        return Predictions("text", {}, {str(k): "" if v is None else str(v) for k, v in written.items()})
    if not {"filenames", "fileitems"} <= arrays.keys():
        raise NanoEmoXError(f"{path}: holds neither name2reason nor filenames with fileitems: not a result file")
    names, items = (arrays[key].tolist() for key in ("filenames", "fileitems"))
    if not isinstance(names, list) or not isinstance(items, list) or len(names) != len(items):
        raise NanoEmoXError(f"{path}: filenames and fileitems must be two lists of one length; download it again")
    found = {str(name): str(item) for name, item in zip(names, items, strict=True)}
    if path.stem.endswith("-sentiment") or not any("[" in item for item in found.values()):
        return Predictions("sentiment", {}, found)
    return Predictions("words", {name: tuple(split_list(item)) for name, item in found.items()}, {})


def load_npz(path: Path, wanted: Sequence[str], *, trust_npz: bool) -> dict[str, Any]:
    """Load the wanted arrays of a file, as far as they exist.

    Raises:
        NanoEmoXError: It is no such file, or pickled and not trusted.
    """
    try:
        with np.load(path, allow_pickle=trust_npz) as arrays:
            return {key: arrays[key] for key in arrays.files if key in wanted}
    except OSError as error:
        raise NanoEmoXError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged archive or pickle may raise anything
        if not trust_npz and "allow_pickle" in str(error):
            raise NanoEmoXError(f"{path} {PICKLED}") from error
        raise NanoEmoXError(f"{path}: not a file of numpy arrays: {error}; download it again") from error


def _read_object(path: Path) -> Predictions:
    try:
        found = read_json(path)
    except OSError as error:
        raise NanoEmoXError(f"{path}: {error.strerror or error}") from error
    if not isinstance(found, dict) or not found:
        raise NanoEmoXError(f"{path}: not an object of clips and answers")
    try:
        return predictions_from(found)
    except NanoEmoXError as error:
        raise NanoEmoXError(f"{path}: {error}") from error


def predictions_from(answers: Mapping[str, str | Sequence[str] | None]) -> Predictions:
    """Return predictions given in memory: clip -> text, or clip -> emotion words; None is no answer.

    Raises:
        NanoEmoXError: Texts and lists are mixed, or a value is neither.
    """
    given = {name: answer for name, answer in answers.items() if answer is not None}
    texts = {name: answer for name, answer in given.items() if isinstance(answer, str)}
    words = {name: tuple(map(str, answer)) for name, answer in given.items() if isinstance(answer, list | tuple)}
    if len(texts) != len(given) and len(words) != len(given):
        raise NanoEmoXError("the predictions must be either texts or lists of words, for all clips alike")
    return Predictions("text", {}, texts) if texts else Predictions("words", words, {})


def _read_csv(path: Path) -> Predictions:
    try:
        rows = read_table(path)
    except OSError as error:
        raise NanoEmoXError(f"{path}: {error.strerror or error}") from error
    except csv.Error as error:
        raise NanoEmoXError(f"{path}: not a table: {error}") from error
    columns = tuple(rows[0]) if rows else ()
    key = next((name for name in _NAMES if name in columns), None)
    text = next((name for name in _TEXTS if name in columns), None)
    if key and "openset" in columns:
        named = _by_name(path, rows, key)
        return Predictions("words", {name: tuple(split_list(row["openset"])) for name, row in named.items()}, {})
    if key and text:
        return Predictions("text", {}, {name: row[text] for name, row in _by_name(path, rows, key).items()})
    raise NanoEmoXError(f"{path}: needs a column name and one of openset, {', '.join(_TEXTS)}; it has {columns}")


def _by_name(path: Path, rows: Sequence[Mapping[str, str]], key: str) -> dict[str, Mapping[str, str]]:
    """Return clip -> row; empty rows, which spreadsheets leave at the end, are skipped."""
    found: dict[str, Mapping[str, str]] = {}
    for number, row in enumerate(rows, 2):
        name = row[key].strip()
        if name in found:
            raise NanoEmoXError(f"{path}: row {number}: {key} {name!r} occurs twice: keep one of its answers")
        if name:
            found[name] = row
        elif any(value.strip() for value in row.values()):
            raise NanoEmoXError(f"{path}: row {number} has no {key}: write the clip that it answers")
    return found


def read_wheel_tables(folder: Path) -> WheelTables:
    """Read ``wheel1.xlsx``, ``wheel2.xlsx`` ..., ``synonym.xlsx`` and ``format.csv`` from a folder.

    Raises:
        NanoEmoXError: One is missing or damaged.
    """
    wheels = sorted(folder.glob("wheel[0-9].xlsx"))
    if not wheels:
        raise NanoEmoXError(
            f"{folder}: holds no wheel1.xlsx; name the folder emotion_wheel of the release of AffectGPT"
        )
    try:
        synonyms = read_sheet(folder / "synonym.xlsx")
        forms = read_table(folder / "format.csv", "name", "format")
        return WheelTables(
            wheels=tuple(tuple(_wheel_row(path, row) for row in read_sheet(path)) for path in wheels),
            synonyms=tuple(
                (row[f"word_run{run}"], row[f"synonym_run{run}"]) for run in _SYNONYM_RUNS for row in synonyms
            ),
            forms=tuple((row["name"], row["format"]) for row in forms),
        )
    except OSError as error:
        raise NanoEmoXError(f"{error.filename}: {error.strerror}; the folder lacks a published table") from error
    except KeyError as error:
        raise NanoEmoXError(f"{folder / 'synonym.xlsx'}: no column {error}; download it again") from error
    except (csv.Error, zlib.error, IndexError, EOFError, RuntimeError) as error:
        raise NanoEmoXError(f"{folder}: a damaged table: {error}; download the folder again") from error


def _wheel_row(path: Path, row: Mapping[str, str]) -> WheelRow:
    try:
        return row["level1"], row["level2"], row["level3"]
    except KeyError as error:
        raise NanoEmoXError(f"{path}: no column {error}; a wheel has level1, level2 and level3") from error
