"""Readers of raw corpora: the data root as it was downloaded in, samples out. One file a corpus, one ``read`` each.

Corpora whose licence forbids publishing weights have no reader; anybody who may use them writes a manifest
``<data root>/manifests/<corpus>.jsonl`` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from nanoemox.data.corpora import composed, esconv, facial_expressions, goemotions, mintrec, mustard, ravdess
from nanoemox.data.manifest import Sample, read_manifest
from nanoemox.types import RecipeError

READERS: Final[Mapping[str, Callable[[Path], list[Sample]]]] = MappingProxyType(
    {
        "ravdess": ravdess.read,
        "ravdess_av": ravdess.read_audiovisual,
        "facial_expressions": facial_expressions.read,
        "composed": composed.read,
        "goemotions": goemotions.read,
        "esconv": esconv.read,
        "mustard": mustard.read,
        "mintrec": mintrec.read,
        "mintrec2": mintrec.read_second,
    }
)


def read_corpora(data_root: Path, names: Iterable[str]) -> dict[str, list[Sample]]:
    """Read corpora by name; a manifest of that name under the data root comes before the package's own reader.

    Raises:
        RecipeError: There is neither manifest nor reader, or the data are not there.
    """
    out = {}
    for name in dict.fromkeys(names):
        manifest = data_root / "manifests" / f"{name}.jsonl"
        if manifest.is_file():
            out[name] = read_manifest(manifest)
        elif name in READERS:
            try:
                out[name] = READERS[name](data_root)
            except FileNotFoundError as error:
                raise RecipeError(f"corpus {name}: {error.filename} is missing; is --data-root right?") from error
        else:
            raise RecipeError(
                f"corpus {name}: no manifest {manifest} and no reader; readers: {', '.join(READERS)}; "
                "write the manifest (docs: data)"
            )
    return out
