"""ESConv with templates: a chain of empathy before every reply."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nanoemox.data.corpora.esconv import replies
from nanoemox.data.manifest import ReplyLabels, Sample
from tools.corpora.targets import chain

FOLDER: Final = Path("corpora/text/esconv")


def read(data_root: Path) -> list[Sample]:
    """Return one sample a reply."""
    out = []
    for found in replies(data_root / FOLDER):
        think = chain(found.said, found.strategy, found.emotion)
        out.append(found.source.sample("erg", ReplyLabels(think=think, reply=found.reply)))
    return out
