"""Corpus readers: from a released folder to samples. One file per corpus or family; ``catalogue`` lists them.

There is a reader for every corpus of the paper but no data: users download what they are allowed to use. Media paths
of samples are relative to the released folder. Official splits are kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from nanoemox.data.corpora.catalogue import READERS, Corpus
from nanoemox.data.corpora.releases import read_json
from nanoemox.data.manifest import Sample, Split, read_manifest
from nanoemox.types import RecipeError

__all__ = ["MANIFESTS", "READERS", "SUMMARY", "Corpus", "read_corpora", "reader"]
MANIFESTS: Final[Mapping[Split, str]] = MappingProxyType(
    {"train": "train.jsonl", "validation": "val.jsonl", "test": "test.jsonl"}
)
"""Files of a prepared corpus."""
SUMMARY: Final = "summary.json"
"""Summary in the same folder; its ``root`` is the folder that media paths are relative to."""
logger = logging.getLogger(__name__)


def reader(name: str) -> Corpus:
    """Return a corpus by its name.

    Raises:
        RecipeError: There is no such corpus; the message lists them.
    """
    if name not in READERS:
        raise RecipeError(f"corpus {name!r} has no reader; the readers are {', '.join(READERS)}")
    return READERS[name]


def read_corpora(data_root: Path, names: Iterable[str], *, trust_npz: bool = False) -> dict[str, list[Sample]]:
    """Read corpora by name; manifests of that name under the data root take precedence over the package's reader.

    Args:
        data_root: Folder of released corpora and of ``manifests``: a file ``NAME.jsonl``, media paths relative to the
            data root, or a folder ``NAME`` that ``nanoemox prepare`` wrote.
        names: The corpora.
        trust_npz: Unpickle ``.npz`` files, which can run any code.

    Returns:
        Corpus -> samples of every split, media paths relative to ``data_root``. A dialogue corpus without any clip is
        read as text only.

    Raises:
        RecipeError: There is neither manifest nor reader, or the data are missing.
    """
    out = {}
    for name in dict.fromkeys(names):
        manifest = data_root / "manifests" / f"{name}.jsonl"
        if manifest.is_file():
            out[name] = read_manifest(manifest)
        elif (prepared := data_root / "manifests" / name / SUMMARY).is_file():
            out[name] = _prepared(name, prepared, data_root)
        elif name in READERS:
            out[name] = _read(name, data_root, trust_npz=trust_npz)
        else:
            raise RecipeError(
                f"corpus {name}: no manifest {manifest} and no reader; readers: {', '.join(READERS)}; "
                "write the manifest (docs: data)"
            )
    return out


def unique(samples: Iterable[Sample]) -> list[Sample]:
    """Return the first sample of each id and task: tables and lists of releases may repeat a row."""
    kept: dict[tuple[str, str], Sample] = {}
    for sample in samples:
        kept.setdefault((sample.id, sample.task), sample)
    return list(kept.values())


def contradictions(samples: Sequence[Sample], kept: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Return what :func:`unique` left out although the answer differs: the sample it ``kept``, and the other."""
    first = {(s.id, s.task): s for s in kept}
    pairs = ((first[s.id, s.task], s) for s in samples)
    return [(one, other) for one, other in pairs if one.labels != other.labels]


def _read(name: str, data_root: Path, *, trust_npz: bool) -> list[Sample]:
    corpus = READERS[name]
    folder = corpus.place(data_root, name)
    try:
        read = corpus.read(data_root / folder, trust_npz=trust_npz)
    except RecipeError as error:
        raise RecipeError(f"corpus {name}: {error}; is --data-root right?") from error
    samples = unique(read)
    if disputed := len(contradictions(read, samples)):
        logger.warning("corpus %s: %d samples come again with another label: the first is used", name, disputed)
    return _placed(samples, corpus, data_root, folder)


def _prepared(name: str, summary: Path, data_root: Path) -> list[Sample]:
    """Read the manifests of a prepared corpus; it is named after its folder, so that a user may have several tables."""
    found: dict[str, Any] = read_json(summary)
    # Both may be spelt through links.
    root, base = Path(os.path.realpath(found["root"])), Path(os.path.realpath(data_root))
    if not root.is_relative_to(base):
        raise RecipeError(
            f"{summary}: the media are in {root}, outside --data-root {base}: prepare them from a folder inside it"
        )
    folder = root.relative_to(base).as_posix()
    paths = (summary.parent / file for file in MANIFESTS.values())
    samples = [s for path in paths if path.is_file() for s in read_manifest(path)]
    named = [s.model_copy(update={"corpus": name}) for s in samples]
    return _placed(named, READERS.get(found.get("corpus", name)), data_root, "" if folder == "." else folder)


def _placed(samples: list[Sample], corpus: Corpus | None, data_root: Path, folder: str) -> list[Sample]:
    """Make media paths relative to the data root; if no clip exists, remove them from a corpus usable as text."""
    there = (s.media for s in samples if s.media and (data_root / folder / s.media).is_file())
    if corpus is not None and corpus.words_alone and samples and next(there, None) is None:
        logger.warning("corpus %s: none of its clips exists: only its text is used", samples[0].corpus)
        return [s.model_copy(update={"media": None}) for s in samples if s.subtitle]
    return [_under(s, folder) for s in samples] if folder else samples


def _under(sample: Sample, folder: str) -> Sample:
    """Make the media paths of a sample relative to the data root."""
    return sample.model_copy(update={field: f"{folder}/{path}" for field, path in sample.paths.items()})
