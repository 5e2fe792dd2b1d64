"""Which of these words was said? Comments of GoEmotions, with words in place of labels.

Not a corpus of feelings: it keeps a small model reading the list it is offered, so that it also answers from lists
whose labels it never met. Words of sentiment are left out, because sentiment stays untrained.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from nanoemox.data.corpora import goemotions
from nanoemox.data.manifest import ClosedLabels, Sample
from nanoemox.tasks import LABEL_SETS
from tools.corpora.goemotions import FOLDER
from tools.corpora.targets import pick

_WORD: Final = re.compile(r"[a-z]{4,}")
_UNTRAINED: Final = frozenset(LABEL_SETS["sentiment"])
_MOST, _FEWEST = 7, 2


def read(data_root: Path) -> list[Sample]:
    """Return a question about the words of each comment, asked as of emotion or intent; one that was said is right."""
    comments = [s for s in goemotions.read(data_root / FOLDER) if s.task == "mer"]
    words = {s.id: sorted(set(_WORD.findall((s.subtitle or "").lower())) - _UNTRAINED) for s in comments}
    pool = [word for of in words.values() for word in of]  # with repeats: common words are offered often
    out = []
    for comment in comments:
        said, key = words[comment.id], f"{comment.split}/{comment.id}"
        count = _FEWEST + pick(f"{key}/count", _MOST - _FEWEST + 1)
        others = {pool[pick(f"{key}/{i}", len(pool))] for i in range(count)} - set(said)
        if said and others:
            label = said[pick(f"{key}/said", len(said))]
            labels = ClosedLabels(label=label, candidates=(label, *sorted(others)))
            task = ("mer", "mir")[pick(f"{key}/task", 2)]
            out.append(comment.model_copy(update={"corpus": "word_choice", "task": task, "labels": labels}))
    return out
