"""MUStARD: sarcasm in television dialogue (MIT).

It has labels of none of the six tasks: sarcasm is an intent question with two candidates, which teaches the model to
use the candidates of the question. The overlap filter removes clips on which MMLA evaluates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import Clips, find, read_json
from nanoemox.data.manifest import Sample
from nanoemox.tasks import MIR
from nanoemox.types import Turn

CANDIDATES: Final = ("sincere", "sarcastic")


def read(root: Path) -> list[Sample]:
    """Return one sample per utterance, all for training; ``root`` contains ``sarcasm_data.json``."""
    rows = read_json(find(root, "sarcasm_data.json", "data/sarcasm_data.json"))
    clips = Clips(root, "utterances_final/{name}.mp4")
    out = []
    for key, row in rows.items():
        pairs = zip(row["context_speakers"], row["context"], strict=False)
        source = Source(
            id=key,
            corpus="mustard",
            split="train",
            media=clips.path(key),
            subtitle=row["utterance"],
            history=tuple(Turn(role=who.title(), text=text) for who, text in list(pairs)[-4:]),
            speaker=row["speaker"].title(),
        )
        out.append(source.closed(MIR.key, CANDIDATES[bool(row["sarcasm"])], CANDIDATES))
    return out
