"""What the embedded models are trained on beyond released labels: answers by templates, and clips put together.

The package reads corpora as they were released. The corpora of :data:`OWN` take their place here: the same clips with
emotion words, explanations and chains of empathy made by templates, and two corpora that exist for training alone
(``word_choice``, ``composed``). ``python -m tools.corpora`` writes them as manifests, which ``nanoemox train`` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from nanoemox.data import corpora as released
from nanoemox.data.manifest import Sample
from tools.corpora import composed, esconv, facial_expressions, goemotions, ravdess, word_choice

OWN: Final[dict[str, Callable[[Path], list[Sample]]]] = {
    "ravdess": ravdess.read,
    "ravdess_av": ravdess.read_audiovisual,
    "facial_expressions": facial_expressions.read,
    "goemotions": goemotions.read,
    "word_choice": word_choice.read,
    "esconv": esconv.read,
    "composed": composed.read,
}
"""Name -> reader, from a data root to samples whose media paths are relative to it."""


def read_corpora(data_root: Path, names: Iterable[str]) -> dict[str, list[Sample]]:
    """Read corpora by name: manifests under the data root first, then those of :data:`OWN`, then the package's."""
    out: dict[str, list[Sample]] = {}
    for name in dict.fromkeys(names):
        if name in OWN and not (data_root / "manifests" / f"{name}.jsonl").is_file():
            out[name] = OWN[name](data_root)
        else:
            out |= released.read_corpora(data_root, [name])
    return out
