"""Run an answerer on a benchmark and append every answer to the run immediately, so that it can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nanoemox.benchmarks.answerer import Answerer, Reply
from nanoemox.benchmarks.records import Benchmark
from nanoemox.benchmarks.runs import PREDICTIONS, Key, Row
from nanoemox.benchmarks.truth import label_value, read_truth
from nanoemox.data.corpora import read_corpora, reader
from nanoemox.data.corpora.releases import parse_json
from nanoemox.data.manifest import Sample
from nanoemox.types import NanoEmoXError

SPEAKER: Final = "speaker"
"""Role of the person to whom the model replies."""
_KEYS: Final = {"benchmark", "id", "truth", "raw", "parsed", "error", "prompt", "timing_s"}


@dataclass(frozen=True, slots=True)
class ProcessRank:
    """Rank of a process in a run."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True, slots=True)
class EvalSet:
    """A benchmark, its evaluation samples, and all samples of its corpus."""

    benchmark: Benchmark
    samples: list[Sample]
    corpus: list[Sample]


def read_eval_set(
    benchmark: Benchmark, data_root: Path, limit: int | None = None, *, trust_npz: bool = False
) -> EvalSet:
    """Read the test clips of a benchmark.

    Args:
        benchmark: The benchmark.
        data_root: Folder of released corpora and of ``manifests``.
        limit: Number of clips, selected by a hash of their names: a smaller limit gives a subset of a larger one.
        trust_npz: Open pickled files.

    Raises:
        NanoEmoXError: The data are not there, or hold no test clip of the benchmark.
    """
    corpus = read_corpora(data_root, [benchmark.corpus], trust_npz=trust_npz)[benchmark.corpus]
    samples = [s for s in corpus if s.split == benchmark.split and s.task == benchmark.task]
    if benchmark.list_file is not None:
        folder = data_root / reader(benchmark.corpus).place(data_root, benchmark.corpus)
        listed = next(iter(sorted(folder.rglob(benchmark.list_file))), None)
        if listed is None:
            raise NanoEmoXError(f"{folder}: holds no {benchmark.list_file}, which lists the clips of {benchmark.id}")
        names = read_truth(listed, benchmark)
        samples = [s for s in samples if s.id in names]
    if not samples:
        raise NanoEmoXError(f"{data_root}: corpus {benchmark.corpus} holds no {benchmark.split} clip of {benchmark.id}")
    if limit is not None:
        drawn = sorted(samples, key=lambda s: hashlib.sha256(s.id.encode()).digest())[:limit]
        wanted = {s.id for s in drawn}
        samples = [s for s in samples if s.id in wanted]
    return EvalSet(benchmark, samples, corpus)


def predict(
    answerer: Answerer,
    eval_set: EvalSet,
    out: Path,
    *,
    batch: int = 8,
    process: ProcessRank | None = None,
    advance: Callable[[int], None] | None = None,
    again: bool = False,
) -> None:
    """Answer the clips that the run lacks, in batches that do not depend on how often the run was resumed.

    Args:
        answerer: The answerer.
        eval_set: The benchmark and its clips.
        out: Folder of the run. A single process writes ``predictions.jsonl``; several write one file each.
        batch: Clips per batch; after each batch the rows are on disk.
        process: Rank of this process.
        advance: Called with 0 after every clip.
        again: Repeat clips that the run holds without an answer.

    Raises:
        NanoEmoXError: The run holds answers to other questions or data.
    """
    process = process or ProcessRank()
    rows = [row for row in _rows(out) if row["benchmark"] == eval_set.benchmark.id]
    digests = {s.id: _digest(eval_set.benchmark, s) for s in eval_set.samples}
    _check_unchanged(out, rows, digests)
    done = {_key(row) for row in rows if not (again and _failed(row))}
    share = eval_set.samples[process.rank :: process.world]
    file = out / (PREDICTIONS if process.world == 1 else f"predictions-{process.rank:05}.jsonl")
    out.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(file)
    with file.open("a", encoding="utf-8") as journal:
        for start in range(0, len(share), batch):
            group = share[start : start + batch]
            missing = [s for s in group if (eval_set.benchmark.id, s.id) not in done]
            if missing:
                replies = answerer.answer(eval_set.benchmark, missing)
                pairs = zip(missing, replies, strict=True)
                fresh = [answer_row(eval_set.benchmark, s, r) | {"asked": digests[s.id]} for s, r in pairs]
                journal.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in fresh)
                journal.flush()
                os.fsync(journal.fileno())
            if advance is not None:
                for _ in group:
                    advance(0)


def merge(out: Path, order: Sequence[EvalSet]) -> None:
    """Merge the rows of all processes into ``predictions.jsonl``, each clip once, in the order of the corpora.

    For a repeated clip, the answer is kept.
    """
    rows = kept_rows(out)
    first = [(eval_set.benchmark.id, s.id) for eval_set in order for s in eval_set.samples]
    keys = dict.fromkeys([*(key for key in first if key in rows), *rows])
    fresh = out / f"{PREDICTIONS}.new"
    with fresh.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(rows[key], ensure_ascii=False) + "\n" for key in keys)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(out / PREDICTIONS)
    for part in sorted(out.glob("predictions-*.jsonl")):
        part.unlink()


def kept_rows(out: Path) -> dict[Key, Row]:
    """Return the rows of a run from all processes; for a repeated clip, the answer.

    Raises:
        NanoEmoXError: A file that is none of a run.
    """
    rows: dict[Key, Row] = {}
    for row in _rows(out):
        if _failed(rows.setdefault(_key(row), row)):
            rows[_key(row)] = row
    return rows


def answer_row(benchmark: Benchmark, sample: Sample, reply: Reply) -> Row:
    """Return the row of ``predictions.jsonl`` for one reply."""
    truth = label_value(sample.labels)
    row: Row = {
        "benchmark": benchmark.id,
        "id": sample.id,
        "truth": truth if isinstance(truth, str) else list(truth),
        "raw": reply.raw,
        "parsed": reply.parsed,
        "error": reply.error,
        "prompt": reply.prompt,
        "timing_s": dict(reply.timing_s),
    }
    if sample.speaker is not None:
        row["speaker"] = sample.speaker
    return row | {"context": dialogue(sample)} if benchmark.form == "reply" else row


def _digest(benchmark: Benchmark, sample: Sample) -> str:
    """Return a fingerprint of a clip's input: transcript, media paths, truth, question and labels."""
    question = [benchmark.id, benchmark.version, benchmark.question, list(benchmark.labels)]
    # Left out where there is none: runs of versions without this field can be resumed.
    fields = sample.model_dump(mode="json", exclude=None if sample.face_vectors else {"face_vectors"})
    return hashlib.sha256(json.dumps([question, fields]).encode()).hexdigest()[:16]


def _check_unchanged(out: Path, rows: Iterable[Row], digests: Mapping[str, str]) -> None:
    """Raise if a row belongs to another input; rows of older versions have no fingerprint."""
    recorded = [(str(row["id"]), row["asked"]) for row in rows if "asked" in row]
    changed = [name for name, digest in recorded if digests.get(name, digest) != digest]
    if changed:
        raise NanoEmoXError(
            f"{out}: {len(changed)} clips such as {changed[0]!r} were answered for another transcript, other "
            "media or labels than the data have now: give another --out, or restore the old data"
        )


def dialogue(sample: Sample) -> list[dict[str, str]]:
    """Return what was said before a reply, the words replied to last, as ``role`` and ``text``."""
    turns = [{"role": turn.role, "text": turn.text} for turn in sample.history]
    return [*turns, {"role": SPEAKER, "text": sample.subtitle}] if sample.subtitle else turns


def _failed(row: Row) -> bool:
    return row.get("error") is not None


def _key(row: Row) -> Key:
    return str(row["benchmark"]), str(row["id"])


def _rows(out: Path) -> Iterator[Row]:
    """Yield the whole rows of a run; what follows the last line end was cut by a kill."""
    for file in [out / PREDICTIONS, *sorted(out.glob("predictions-*.jsonl"))]:
        if not file.is_file():
            continue
        whole = file.read_bytes().rpartition(b"\n")[0]
        for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
            try:
                row = parse_json(line.decode())
            except (ValueError, RecursionError) as error:
                raise NanoEmoXError(f"{file}:{number}: not JSON ({error}); remove the line to ask again") from error
            if not isinstance(row, dict) or not row.keys() >= _KEYS:
                raise NanoEmoXError(f"{file}:{number}: not written by this package; remove the line to ask again")
            yield row


def _drop_torn_line(file: Path) -> None:
    if file.is_file():
        data = file.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(file, whole)
