"""Label files of MER-UniBench: pickled dictionaries in ``.npz``, and tables of transcripts.

``*_corpus`` -> clip name -> ``{emo, val}``. Unpickling can run any code, so such a file is opened only if the user
trusts its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from nanoemox.data.corpora.releases import find_or_none, read_table
from nanoemox.data.manifest import Split
from nanoemox.types import RecipeError

CORPORA: Final[Mapping[str, Split]] = {
    "train_corpus": "train", "val_corpus": "validation", "test_corpus": "test", "test1_corpus": "test",
}  # fmt: skip
WHOLE: Final = "whole_corpus"
TRANSCRIPTS: Final = ("transcription-engchi-polish.csv", "subtitle_chieng.csv", "label-transcription.csv")


def read_labels(path: Path, *, trust_npz: bool) -> dict[str, dict[str, dict[str, Any]]]:
    """Return part of the file -> clip name -> ``{emo, val}``.

    Raises:
        RecipeError: The file is not trusted, or has another format.
    """
    if not trust_npz:
        raise RecipeError(
            f"{path} contains pickled objects, which can run any code when opened: "
            "read it with `nanoemox prepare --trust-npz` if you trust its source"
        )
    try:
        with np.load(path, allow_pickle=True) as arrays:
            return {key: arrays[key].item() for key in arrays.files if key in (*CORPORA, WHOLE)}
    except Exception as error:  # unpickling may raise anything
        raise RecipeError(f"{path}: not a label file of MER-UniBench: {error}; download it again") from error


def by_split(labels: Mapping[str, Mapping[str, dict[str, Any]]]) -> list[tuple[Split, str, dict[str, Any]]]:
    """List ``(split, clip name, label)`` of the parts with a split."""
    return [(split, name, row) for part, split in CORPORA.items() for name, row in labels.get(part, {}).items()]


def read_transcripts(root: Path, language: str) -> dict[str, str]:
    """Return clip name -> transcript (column ``english`` or ``chinese``); empty if the release has none."""
    path = find_or_none(root, *TRANSCRIPTS)
    if path is None:
        return {}
    return {row["name"]: row[language].strip() for row in read_table(path, "name", language)}
