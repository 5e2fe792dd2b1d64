"""Your own clips: a folder and a table ``file,label[,subtitle,split,speaker,task,language,face_vectors]``.

The table is ``labels.csv`` (or the only CSV or TSV file of the folder). The candidates of a closed task are its labels
in the table. Without a column ``split``, about a tenth of the speakers (or files, without speakers), drawn by a hash of
the name, is held out for validation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import missing, open_labels, read_table
from nanoemox.data.manifest import OpenLabels, ReplyLabels, Sample, Split, TextLabels, target_text
from nanoemox.tasks import LABEL_SETS, MER, MSA, TASKS, format_label
from nanoemox.types import RecipeError

_SPLITS: Final[Mapping[str, Split]] = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "dev": "validation", "test": "test",
}  # fmt: skip
HELD_OUT: Final = 10
"""About one in this many is held out if the table has no split."""


def read(root: Path) -> list[Sample]:
    """Return one sample per row."""
    path = _table(root)
    rows = read_table(path, "file", "label")
    for number, row in enumerate(rows, 2):
        row["task"] = row.get("task", "").strip() or MER.key
        if row["task"] not in TASKS:
            raise RecipeError(f"{path}:{number}: task {row['task']!r} is none of {', '.join(TASKS)}")
        if not row["file"].strip() or not row["label"].strip():
            raise RecipeError(f"{path}:{number}: file and label must not be empty")
    candidates = {task: _candidates(path, task, rows) for task in dict.fromkeys(row["task"] for row in rows)}
    samples = [_sample(f"{path}:{number}", row, candidates[row["task"]]) for number, row in enumerate(rows, 2)]
    files: dict[str, set[str | None]] = {}
    for sample in samples:
        files.setdefault(sample.id, set()).add(sample.media)
    # a.wav and a.png are two clips.
    samples = [s.model_copy(update={"id": s.media}) if len(files[s.id]) > 1 else s for s in samples]
    _check_answers(path, samples)
    return samples


def _check_answers(path: Path, samples: Sequence[Sample]) -> None:
    """Refuse two answers to one task about one file."""
    first: dict[tuple[str, str], tuple[int, Sample]] = {}
    for number, sample in enumerate(samples, 2):
        line, other = first.setdefault((sample.id, sample.task), (number, sample))
        if sample.labels != other.labels:
            raise RecipeError(
                f"{path}:{number}: {sample.media} has the {sample.task} label {target_text(sample)[:80]!r}, and "
                f"{target_text(other)[:80]!r} on line {line}: keep one of the rows"
            )


def _table(root: Path) -> Path:
    found = sorted(p for p in root.iterdir() if p.suffix.lower() in {".csv", ".tsv"})
    named = [p for p in found if p.stem == "labels"]
    if len(named or found) > 1:
        raise RecipeError(f"{root}: {len(found)} tables: rename the right one to labels.csv")
    if not found:
        raise missing(root, "labels.csv")
    return (named or found)[0]


def _candidates(path: Path, task: str, rows: list[dict[str, str]]) -> tuple[str, ...]:
    if not TASKS[task].closed:
        return ()
    used = {format_label(row["label"]) for row in rows if row["task"] == task}
    if task == MSA.key and used <= set(LABEL_SETS["sentiment"]):
        return LABEL_SETS["sentiment"]
    if len(used) < 2:
        raise RecipeError(f"{path}: task {task} has one label, {', '.join(used)}: it needs at least two")
    return tuple(sorted(used))


def _sample(where: str, row: Mapping[str, str], candidates: tuple[str, ...]) -> Sample:
    file, spelt = row["file"].strip().replace("\\", "/"), row.get("split", "").strip().lower()
    vectors = row.get("face_vectors", "").strip().replace("\\", "/")
    for path in (file, vectors):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise RecipeError(f"{where}: file {path!r} must be inside the table's folder")
    if spelt and spelt not in _SPLITS:
        raise RecipeError(f"{where}: split {spelt!r} is none of {', '.join(_SPLITS)}")
    speaker = row.get("speaker", "").strip() or None
    source = Source(
        id=PurePosixPath(file).with_suffix("").as_posix(),
        corpus="table",
        split=_SPLITS[spelt] if spelt else _held_out(speaker or file),
        media=file,
        face_vectors=vectors or None,
        subtitle=row.get("subtitle", "").strip(),
        speaker=speaker,
        language=row.get("language", "").strip() or "en",
    )
    task, label = row["task"], row["label"].strip()
    if candidates:
        return source.closed(task, format_label(label), candidates)
    if TASKS[task].form == "labels":
        return source.sample(task, OpenLabels(labels=open_labels(label.replace(";", ","))))
    return source.sample(task, TextLabels(text=label) if TASKS[task].form == "text" else ReplyLabels(reply=label))


def _held_out(key: str) -> Split:
    digest = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()
    return "validation" if int(digest, 16) % HELD_OUT == 0 else "train"
