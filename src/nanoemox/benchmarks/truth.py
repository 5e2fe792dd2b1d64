"""Read the truth of a benchmark: the corpora's own label files, other label files, our manifests.

A truth is clip -> value: the label as the file spells it (``mer``, ``msa``, ``mir``), emotion words (``ovmer``), a
text (``eri``), the speaker's emotion (``erg``). Clips have the names that the corpora give them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from nanoemox.benchmarks.official_files import load_npz
from nanoemox.benchmarks.records import Benchmark
from nanoemox.data.corpora import MANIFESTS, SUMMARY, reader
from nanoemox.data.corpora.messages import read_messages, read_mmla
from nanoemox.data.corpora.mintrec import clip_name
from nanoemox.data.corpora.releases import read_json, read_json_lines, read_table
from nanoemox.data.corpora.sentiment import sign
from nanoemox.data.manifest import ClosedLabels, OpenLabels, ReplyLabels, Sample, TextLabels, read_manifest
from nanoemox.scoring.legacy.words import split_list
from nanoemox.tasks import ERG, ERI, MER, MIR, MSA, OVMER
from nanoemox.types import NanoEmoXError

Value = str | tuple[str, ...]
Truth = dict[str, Value]
_PARTS: Final = ("test_corpus", "test1_corpus", "whole_corpus")
_MMLA: Final = re.compile(r"^(?:MOSI|Ch-sims|IEMOCAP|MELD)_")


def read_truth(path: Path, benchmark: Benchmark, *, trust_npz: bool = False) -> Truth:
    """Read a label file, a prepared corpus (the folder) or a released one.

    Your own truth may be a table with the columns ``name`` and ``label`` (``openset`` where there are several), or a
    JSON object of names and labels.

    Raises:
        NanoEmoXError: It is none that fits the benchmark, or pickled and not trusted.
    """
    try:
        if path.is_dir():
            return _folder(path, benchmark, trust_npz=trust_npz)
        readers: dict[str, Callable[[Path, Benchmark], Truth]] = {
            ".csv": _table, ".tsv": _table, ".json": _json, ".jsonl": _json_lines,
        }  # fmt: skip
        if path.suffix == ".npz":
            return _npz(path, benchmark, trust_npz=trust_npz)
        if path.suffix not in readers:
            raise NanoEmoXError(f"{path}: not a label file: give .npz, .csv, .tsv, .json, .jsonl or a corpus' folder")
        truth = readers[path.suffix](path, benchmark)
    except OSError as error:
        raise NanoEmoXError(f"{error.filename or path}: {error.strerror or error}") from error
    except NanoEmoXError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, csv.Error) as error:
        raise NanoEmoXError(f"{path}: not a label file of {benchmark.id} ({type(error).__name__}: {error})") from error
    if not truth:
        raise NanoEmoXError(f"{path}: holds no label of {benchmark.id}'s {benchmark.split} part")
    return truth


def truth_of(samples: Iterable[Sample], benchmark: Benchmark) -> Truth:
    """Return the truth of a benchmark's samples; samples of other tasks are ignored."""
    return {s.id: label_value(s.labels) for s in samples if s.task == benchmark.task}


def checked_value(value: object, source: Path | str) -> Value:
    """Return the truth of one clip as a text or a tuple of words.

    Raises:
        NanoEmoXError: It is neither a text nor a list of words; the message names the source.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        return tuple(value)
    raise NanoEmoXError(f"{source}: truth {str(value)[:80]!r} is neither a text nor a list of words")


def label_value(labels: ClosedLabels | OpenLabels | TextLabels | ReplyLabels) -> Value:
    """Return the truth of a manifest's labels."""
    if isinstance(labels, ClosedLabels):
        return labels.label
    if isinstance(labels, OpenLabels):
        return labels.labels
    if isinstance(labels, TextLabels):
        return labels.text
    return labels.think.emotion if labels.think else ""


def _folder(path: Path, benchmark: Benchmark, *, trust_npz: bool) -> Truth:
    prepared = path / MANIFESTS[benchmark.split]
    if (path / SUMMARY).is_file() or prepared.is_file():
        samples = read_manifest(prepared)
    else:
        samples = reader(benchmark.corpus).read(path, trust_npz=trust_npz)
    truth = truth_of((s for s in samples if s.split == benchmark.split), benchmark)
    if benchmark.list_file is not None:
        listed = next(iter(sorted(path.rglob(benchmark.list_file))), None)
        if listed is None:
            raise NanoEmoXError(f"{path}: holds no {benchmark.list_file}, which lists the clips of {benchmark.id}")
        names = _json(listed, benchmark)
        truth = {name: value for name, value in truth.items() if name in names}
    if not truth:
        raise NanoEmoXError(f"{path}: holds no {benchmark.split} clip of {benchmark.id}")
    return truth


def _npz(path: Path, benchmark: Benchmark, *, trust_npz: bool) -> Truth:
    arrays = load_npz(path, _PARTS, trust_npz=trust_npz)
    part = next((arrays[key].item() for key in _PARTS if key in arrays), None)
    if not isinstance(part, dict):
        raise NanoEmoXError(f"{path}: holds none of {', '.join(_PARTS)}: not a label file of MER-UniBench")
    # The four classes of IEMOCAP come as one part; its fifth session tests.
    rows = {k: v for k, v in part.items() if benchmark.id != "iemocap" or str(k).startswith("Ses05")}
    return {str(name): _label(row, benchmark) for name, row in rows.items()}


def _label(row: Mapping[str, Any], benchmark: Benchmark) -> str:
    if benchmark.task == MSA.key:
        return sign(float(row["val"]))
    emotion = row["emo"]
    return emotion if isinstance(emotion, str) else benchmark.labels[int(emotion)]


def _table(path: Path, benchmark: Benchmark) -> Truth:
    rows = [row for row in read_table(path) if any(cell and cell.strip() for cell in row.values())]
    columns = set(rows[0]) if rows else set()
    if benchmark.task == OVMER.key and {"name", "openset"} <= columns:
        return {row["name"]: tuple(split_list(row["openset"])) for row in rows}
    if benchmark.task == ERI.key and {"names", "reasons"} <= columns:
        return {row["names"]: row["reasons"] for row in rows}
    if benchmark.task == ERI.key and {"name", "english"} <= columns:
        return {row["name"]: row["english"] for row in rows}
    if benchmark.id == "meld" and {"dialogue_id", "utterance_id", "emotion"} <= columns:
        return {f"test_dia{row['dialogue_id']}_utt{row['utterance_id']}": row["emotion"] for row in rows}
    if benchmark.task == MER.key and {"name", "discrete"} <= columns:
        return {row["name"]: row["discrete"] for row in rows}
    if benchmark.task == MSA.key and {"video_id", "clip_id", "label", "mode"} <= columns:
        return {f"{r['video_id']}_{r['clip_id']}": sign(float(r["label"])) for r in rows if r["mode"] == "test"}
    if benchmark.task == MIR.key and {"season", "episode", "clip", "label"} <= columns:
        return {f"{r['season']}_{r['episode']}_{r['clip']}": r["label"] for r in rows}
    if benchmark.task == MIR.key and {"dialogue_id", "utterance_id", "label"} <= columns:
        return {f"dia{r['dialogue_id']}_utt{r['utterance_id']}": r["label"] for r in rows}
    if benchmark.form != "labels" and {"name", "label"} <= columns:
        return {row["name"].strip(): row["label"].strip() for row in rows}
    raise NanoEmoXError(f"{path}: no table of {benchmark.id}; its columns are {', '.join(sorted(columns)) or 'none'}")


def _json(path: Path, benchmark: Benchmark) -> Truth:
    rows = read_json(path)
    if isinstance(rows, dict):
        return {name: checked_value(value, path) for name, value in rows.items()}
    if benchmark.task == ERG.key:
        return {_turn_name(talk): talk["turns"][-1]["chain_of_empathy"]["speaker_emotion"] for talk in rows}
    messages = read_messages(path) if "messages" in rows[0] else read_mmla(path)
    return {_own_name(m.name): m.answer for m in messages}


def _json_lines(path: Path, benchmark: Benchmark) -> Truth:
    rows = read_json_lines(path)
    if rows and "query" in rows[0]:
        return {_own_name(m.name): m.answer for m in read_mmla(path)}
    return truth_of((s for s in read_manifest(path) if s.split == benchmark.split), benchmark)


def _own_name(name: str) -> str:
    return clip_name(_MMLA.sub("", name).replace("$_$", "_"))


def _turn_name(talk: Mapping[str, Any]) -> str:
    number = 2 * int(talk["turns"][-1]["turn_id"])
    return f"dia{talk['conversation_id']}utt{number}_{talk['speaker_profile']['ID']}"
