"""Remove evaluation clips from training data: a filter by clip name and by normalised words.

Two sources say what is measured: the corpora of the benchmarks, asked through their own readers wherever the data root
holds them, and every validation and evaluation file under ``<data root>/annotations``. A training sample that shares a
name (within its corpus) or a whole utterance of four words or more is dropped and counted. Shorter utterances ("oh my
god") recur everywhere and prove nothing.
"""

from __future__ import annotations

import csv
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nanoemox.data.corpora import READERS, SUMMARY, read_corpora
from nanoemox.data.corpora.mintrec import SAID, clip_name
from nanoemox.data.files import files_below
from nanoemox.data.manifest import ReplyLabels, Sample
from nanoemox.types import RecipeError

EVALUATED: Final = (
    "mer2023", "mer2024", "meld", "iemocap", "cmu_mosi", "cmu_mosei", "ch_sims", "ch_sims_v2", "ov_merd", "emer",
    "mintrec", "mintrec2", "avamerg", "ravdess",
)  # fmt: skip
"""Corpora of the benchmarks; their splits other than training are held out."""
_ONE_POOL: Final = frozenset({"mer2023", "mer2024", "mercaptionplus", "merr", "ov_merd", "emer"})
"""Corpora that label clips of one collection: the same name is the same clip."""
MIN_WORDS: Final = 4
TRAINING_FILES: Final = re.compile(r"mintrec/train_.*\.json|mustard/sarcasm_data\.json")
"""Files of the data root that are themselves training data; every other one counts as evaluation."""
TEXT_FIELDS: Final = frozenset(
    {"text", "utterance", "subtitle", "subtitles", "english", "reason", "reasons", "sentence", "content"}
)
_NAMED: Final = (("MIntRec2.0_", "mintrec2"), ("MIntRec_", "mintrec"), ("MUStARD_", "mustard"))

logger = logging.getLogger(__name__)


def normalise(text: str) -> str:
    """Fold to lower-case letters and digits, one space between words."""
    return " ".join(re.findall(r"[^\W_]+", text.lower().replace("'", "").replace("’", "")))


@dataclass(slots=True)
class HeldOutIndex:
    """Names and utterances that must not be trained on.

    Attributes:
        texts: Normalised utterance -> file or part of a corpus that holds it.
        names: ``(corpus, clip name)`` -> file or part of a corpus that holds it.
    """

    texts: dict[str, str] = field(default_factory=dict)
    names: dict[tuple[str, str], str] = field(default_factory=dict)

    def add_text(self, text: str, where: str) -> None:
        """Add an utterance, if it is long enough to identify a clip."""
        key = normalise(text)
        if key.count(" ") + 1 >= MIN_WORDS:
            self.texts.setdefault(key, where)

    def add_name(self, sample: Sample, where: str) -> None:
        """Add the clip of a sample."""
        self.names.setdefault(_name(sample), where)


def _name(sample: Sample) -> tuple[str, str]:
    return "MER clips" if sample.corpus in _ONE_POOL else sample.corpus, sample.id


def evaluation_overlap(data_root: Path, known: Mapping[str, Sequence[Sample]] | None = None) -> HeldOutIndex:
    """Read every evaluation set of the data root, and every evaluation file under its ``annotations``.

    Args:
        data_root: Folder of corpora.
        known: Corpora that were read already: name -> all samples.
    """
    held_out = HeldOutIndex()
    known = known or {}
    for name in EVALUATED:
        _hold_corpus(held_out, name, known[name] if name in known else _evaluation_set(name, data_root))
    folder = data_root / "annotations"
    for path in files_below(folder):
        where = path.relative_to(folder).as_posix()
        if TRAINING_FILES.fullmatch(where):
            continue
        for field_name, value in annotation_fields(path):
            if field_name in TEXT_FIELDS:
                said = SAID.search(value)
                held_out.add_text(said["text"] if said else value, where)
            elif field_name in {"value", "query"} and (said := SAID.search(value)):
                held_out.add_text(said["text"], where)
            elif field_name == "videos":
                _hold_name(held_out, value, where)
    return held_out


def _evaluation_set(name: str, data_root: Path) -> Sequence[Sample]:
    """Read a corpus where the data root has it."""
    manifests = data_root / "manifests"
    own = (manifests / f"{name}.jsonl", manifests / name / SUMMARY, data_root / name)
    named = any(path.exists() for path in own)
    if not named and not (data_root / READERS[name].place(data_root, name)).is_dir():
        return ()
    try:
        return read_corpora(data_root, [name])[name]
    except RecipeError as error:
        if named:  # a folder that several corpora share need not hold this one
            logger.warning("its clips are not held out from training: %s", error)
        return ()


def _hold_corpus(held_out: HeldOutIndex, name: str, samples: Sequence[Sample]) -> None:
    """Add the held-out samples of a corpus."""
    # A sentence that the corpus' own training part says as well is said by design, as in acted corpora.
    repeated = {normalise(text) for s in samples if s.split == "train" for text in _texts(s)}
    for sample in samples:
        if sample.split != "train":
            where = f"{name} {sample.split}"
            held_out.add_name(sample, where)
            for text in _texts(sample):
                if normalise(text) not in repeated:
                    held_out.add_text(text, where)


def _hold_name(held_out: HeldOutIndex, value: str, where: str) -> None:
    stem = value.replace("\\", "/").rsplit("/", 1)[-1]
    for prefix, corpus in _NAMED:
        if stem.startswith(prefix):
            name = clip_name(stem).removeprefix("MUStARD_")
            held_out.names.setdefault((corpus, name), where)
            return
    if where.startswith("mintrec/"):
        corpus = "mintrec2" if "MIntRec2" in where else "mintrec"
        held_out.names.setdefault((corpus, clip_name(stem)), where)


def annotation_fields(path: Path) -> Iterator[tuple[str, str]]:
    """Walk the strings of a JSON, JSON lines, CSV or TSV file with the (lower-case) name of their field.

    Raises:
        RecipeError: The file cannot be read.
    """
    try:
        yield from _fields(path)
    except (ValueError, RecursionError, csv.Error) as error:
        raise RecipeError(
            f"{path}: cannot be read: {error}; so training cannot leave out what it holds: repair it, or move it away"
        ) from error


def _fields(path: Path) -> Iterator[tuple[str, str]]:
    if path.suffix == ".json":
        yield from _walk("", json.loads(path.read_text("utf-8-sig")))
    elif path.suffix == ".jsonl":
        for line in path.read_text("utf-8-sig").split("\n"):
            if line.strip():
                yield from _walk("", json.loads(line))
    elif path.suffix in {".csv", ".tsv"}:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","):
                yield from ((k.lower(), v) for k, v in row.items() if isinstance(k, str) and isinstance(v, str))


def _walk(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(str(key).lower(), item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(name, item)


def drop_overlap(samples: Sequence[Sample], held_out: HeldOutIndex) -> tuple[list[Sample], dict[str, int]]:
    """Remove the training samples that share a name or an utterance with an evaluation set.

    The validation parts of ``samples`` themselves count as measured too, except that clips with media are compared
    by name alone there: acted corpora repeat the same sentence in every part by design.

    Returns:
        What remains (validation samples untouched), and ``reason/corpus/where`` -> number of samples dropped.
    """
    own = HeldOutIndex()
    for sample in samples:
        if sample.split != "train":
            own.add_name(sample, f"{sample.corpus} {sample.split}")
            if not (sample.media or sample.audio):
                for text in _texts(sample):
                    own.add_text(text, f"{sample.corpus} {sample.split}")
    kept, dropped = [], Counter[str]()
    for sample in samples:
        reason = None if sample.split != "train" else _reason(sample, (held_out, own))
        if reason is None:
            kept.append(sample)
        else:
            dropped[reason] += 1
    return kept, dict(sorted(dropped.items()))


def _texts(sample: Sample) -> Iterable[str]:
    if sample.subtitle:
        yield sample.subtitle
    if isinstance(sample.labels, ReplyLabels):
        yield sample.labels.reply


def _reason(sample: Sample, held_out: Iterable[HeldOutIndex]) -> str | None:
    for part in held_out:
        where = part.names.get(_name(sample))
        if where is not None:
            return f"name/{sample.corpus}/{where}"
        for text in _texts(sample):
            where = part.texts.get(normalise(text))
            if where is not None:
                return f"words/{sample.corpus}/{where}"
    return None
