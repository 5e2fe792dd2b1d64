"""MUStARD: sarcasm in television dialogue (MIT).

It names none of the six tasks' labels; whether words are meant as they are said is asked as an intent of two
candidates, which teaches that candidates come with the question. Clips that MMLA evaluates on are left out by the
overlap filter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from nanoemox.data.manifest import ClosedLabels, HistoryTurn, Sample

FILE: Final = Path("annotations/mustard/sarcasm_data.json")
CANDIDATES: Final = ("sincere", "sarcastic")


def read(data_root: Path) -> list[Sample]:
    """Return one sample an utterance, all for training."""
    out = []
    for key, row in json.loads((data_root / FILE).read_text("utf-8")).items():
        pairs = zip(row["context_speakers"], row["context"], strict=False)
        history = tuple(HistoryTurn(role=who.title(), text=text) for who, text in list(pairs)[-4:])
        out.append(
            Sample(
                id=key,
                corpus="mustard",
                split="train",
                task="mir",
                labels=ClosedLabels(label=CANDIDATES[bool(row["sarcasm"])], candidates=CANDIDATES),
                subtitle=row["utterance"],
                history=history,
                speaker=row["speaker"].title(),
            )
        )
    return out
