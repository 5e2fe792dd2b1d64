"""EmoDB: ten actors say ten German sentences in seven emotions, encoded in the file names (free; cite the paper).

There is no official split; ours: speakers 03 to 12 for training, 13 and 14 for validation, 15 and 16 for testing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import missing
from nanoemox.data.files import files_below
from nanoemox.data.manifest import Sample, Split
from nanoemox.tasks import MER

_EMOTIONS: Final[Mapping[str, str]] = {
    "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "N": "neutral", "T": "sadness",
}  # fmt: skip
LABELS: Final = tuple(_EMOTIONS.values())
_SENTENCES: Final[Mapping[str, str]] = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",  # codespell:ignore
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",  # codespell:ignore
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",  # codespell:ignore
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",  # codespell:ignore
}
_NAME: Final = re.compile(r"(?P<speaker>\d\d)(?P<said>[ab]\d\d)(?P<felt>[WLEAFTN])[a-z]?")
_HELD_OUT: Final[Mapping[str, Split]] = {"13": "validation", "14": "validation", "15": "test", "16": "test"}


def read(root: Path) -> list[Sample]:
    """Return one sample per recording."""
    out = []
    for path in files_below(root):
        take = _NAME.fullmatch(path.stem)
        if take is not None and path.suffix == ".wav":
            source = Source(
                id=path.stem,
                corpus="emodb",
                split=_HELD_OUT.get(take["speaker"], "train"),
                media=path.relative_to(root).as_posix(),
                subtitle=_SENTENCES.get(take["said"]),
                speaker=take["speaker"],
                language="de",
            )
            out.append(source.closed(MER.key, _EMOTIONS[take["felt"]], LABELS))
    if not out:
        raise missing(root, "wav/03a01Fa.wav and the others")
    return out
