"""Readers of corpora: a released folder in, samples out. One file a corpus or family; ``catalogue`` lists them.

A reader exists for every corpus of the paper, but no data: users bring what they may use. Media paths of the samples
are relative to the folder that was read. Official splits are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from nanoemox.data.corpora.catalogue import READERS, Corpus
from nanoemox.data.manifest import Sample, read_manifest
from nanoemox.types import RecipeError

__all__ = ["READERS", "Corpus", "read_corpora", "reader"]
logger = logging.getLogger(__name__)


def reader(name: str) -> Corpus:
    """Return the corpus of a name.

    Raises:
        RecipeError: There is no such corpus; the message lists them.
    """
    if name not in READERS:
        raise RecipeError(f"corpus {name!r} has no reader; there are {', '.join(READERS)}")
    return READERS[name]


def read_corpora(data_root: Path, names: Iterable[str], *, trust_npz: bool = False) -> dict[str, list[Sample]]:
    """Read corpora by name; a manifest of that name under the data root comes before the package's own reader.

    Args:
        data_root: Folder of ``manifests`` and of released corpora.
        names: The corpora.
        trust_npz: Open pickled ``.npz`` files, which can run any code.

    Returns:
        Corpus -> samples of every split, media paths relative to ``data_root``. Corpora of dialogue of which no
        clip at all is there are read as their words alone.

    Raises:
        RecipeError: There is neither manifest nor reader, or the data are not there.
    """
    out = {}
    for name in dict.fromkeys(names):
        manifest = data_root / "manifests" / f"{name}.jsonl"
        if manifest.is_file():
            out[name] = read_manifest(manifest)
        elif name in READERS:
            out[name] = _read(name, data_root, trust_npz=trust_npz)
        else:
            raise RecipeError(
                f"corpus {name}: no manifest {manifest} and no reader; readers: {', '.join(READERS)}; "
                "write the manifest (docs: data)"
            )
    return out


def _read(name: str, data_root: Path, *, trust_npz: bool) -> list[Sample]:
    corpus = READERS[name]
    folder = name if corpus.folder is None else corpus.folder
    try:
        samples = corpus.read(data_root / folder, trust_npz=trust_npz)
    except RecipeError as error:
        raise RecipeError(f"corpus {name}: {error}; is --data-root right?") from error
    if corpus.words_alone and not any(s.media and (data_root / folder / s.media).is_file() for s in samples):
        logger.warning("corpus %s: none of its clips is there: its words alone are used", name)
        return [s.model_copy(update={"media": None}) for s in samples if s.subtitle]
    return [_under(s, folder) for s in samples] if folder else samples


def _under(sample: Sample, folder: str) -> Sample:
    """Make the media paths of a sample relative to the data root."""
    paths = {"media": sample.media, "audio": sample.audio}
    return sample.model_copy(update={field: f"{folder}/{path}" for field, path in paths.items() if path})
