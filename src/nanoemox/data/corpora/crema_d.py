"""CREMA-D: 91 actors say 12 sentences in six emotions (ODbL 1.0). There is no official split: all is for training.

The code of the sentence gives the subtitle. Reference: empty in the authors' file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.messages import read_messages
from nanoemox.data.corpora.releases import Clips, find, find_or_none, read_table
from nanoemox.data.manifest import Sample
from nanoemox.tasks import LABEL_SETS, MER
from nanoemox.types import RecipeError

LABELS: Final = LABEL_SETS["crema_d"]
_EMOTIONS: Final[Mapping[str, str]] = dict(zip(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), LABELS, strict=True))
_SENTENCES: Final[Mapping[str, str]] = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
_NAME: Final = re.compile(r"(?:[A-Z][a-z]+_)?(?P<id>(?P<actor>\d{4})_(?P<said>[A-Z]{3})_(?P<felt>[A-Z]{3})_[A-Z]{1,2})")

_MISSPELT: Final[Mapping[str, str]] = {"1040_ITH_SAD_XX": "1040_ITH_SAD_X"}
"""Name in the release's list -> name of its file."""


def read(root: Path) -> list[Sample]:
    """Return one sample per take, from the authors' JSON or the release's list of names."""
    listed = find_or_none(root, "crema_d_annotations.json")
    if listed is not None:
        names = [message.name for message in read_messages(listed)]
    else:
        rows = read_table(find(root, "SentenceFilenames.csv"), "filename")
        names = [_MISSPELT.get(row["filename"], row["filename"]) for row in rows]
    clips = Clips(root, "AudioWAV/{name}.wav")
    return [_sample(name, clips) for name in names]


def _sample(name: str, clips: Clips) -> Sample:
    take = _NAME.fullmatch(name)
    if take is None or take["felt"] not in _EMOTIONS or take["said"] not in _SENTENCES:
        raise RecipeError(f"crema_d: {name!r} is not the name of a take, such as 1001_DFA_ANG_XX")
    # Paper: speech alone, so an audio file takes precedence over the release's Flash video.
    media = clips.at(f"AudioWAV/{take['id']}.wav", clips.path(take["id"], name))
    source = Source(
        id=take["id"],
        corpus="crema_d",
        split="train",
        media=media,
        subtitle=_SENTENCES[take["said"]],
        speaker=f"actor-{take['actor']}",
    )
    return source.closed(MER.key, _EMOTIONS[take["felt"]], LABELS)
