"""What people say of their day, and what a good listener answers: ``situations.yaml``, written by us.

Comments of GoEmotions are written to strangers. Somebody who speaks into a camera says "my boss shouted at me in front
of everybody". A situation holds ways to say it and replies that fit each of them; slots are drawn from short lists.
They teach replies, emotions and polarity. A tenth of the situations is held out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

from nanoemox.data.manifest import ClosedLabels, ReplyLabels, Sample, Split, TextLabels
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import Think
from tools.corpora.targets import conclusion, pick
from tools.small.replies import tone_of

DRAWS: Final = 6
"""Number of draws from each template of a situation; duplicates are dropped."""


def situations() -> Iterator[Sample]:
    """Yield each situation as reply, emotion and explanation samples, its slots filled in several ways."""
    read = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    for feeling, found in read["situations"].items():
        for at, situation in enumerate(found):
            yield from _drawn(feeling, at, situation, read["slots"])


def split_of(feeling: str, at: int) -> Split:
    """Hold out a tenth of the situations with all their variants."""
    digest = hashlib.sha1(f"{feeling}/{at}".encode(), usedforsecurity=False).hexdigest()
    return "validation" if int(digest, 16) % 10 == 0 else "train"


def _drawn(
    feeling: str, at: int, situation: Mapping[str, Sequence[str]], slots: Mapping[str, Sequence[str]]
) -> Iterator[Sample]:
    tone, closing = tone_of(feeling), conclusion(feeling)
    explained = TextLabels(text=closing, parts={}, conclusion=closing)
    named = ClosedLabels(label=feeling, candidates=LABEL_SETS["ravdess"])
    think = Think(
        scenario="the person talks about how they are doing",
        emotion=tone.feeling,
        cause="what they tell",
        goal=tone.goal,
    )
    said, replies = situation["said"], situation["replies"]
    # A reply may name only what was said, and another way to say it may have no such slot.
    named_in_replies = [name for name in slots if f"{{{name}}}" in "".join(replies)]
    texts: set[str] = set()
    for turn in range(DRAWS * len(said)):
        key = f"situation-{feeling}-{at}-{turn}"
        filled = {name: words[pick(f"{key}/{name}", len(words))] for name, words in slots.items()}
        text = said[turn % len(said)].format(**filled)
        reply = replies[pick(f"{text}/reply", len(replies))].format(**filled)
        unsaid = any(filled[name] in reply and filled[name] not in text for name in named_in_replies)
        if text in texts or unsaid:
            continue
        texts.add(text)
        shared = {"corpus": "situations", "split": split_of(feeling, at), "subtitle": text}
        yield Sample(id=f"{key}-erg", task="erg", labels=ReplyLabels(think=think, reply=reply), **shared)
        yield Sample(id=f"{key}-mer", task="mer", labels=named, **shared)
        yield Sample(id=f"{key}-eri", task="eri", labels=explained, **shared)
