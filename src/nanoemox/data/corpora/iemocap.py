"""IEMOCAP in four classes, happiness and excitement merged; session 5 is the test part (release form of USC).

Supported releases: the original session folders; MER-UniBench's label file; any of EmoBox's folds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.messages import read_emobox
from nanoemox.data.corpora.releases import Clips, find, read_text
from nanoemox.data.corpora.unibench import WHOLE, read_labels, read_transcripts
from nanoemox.data.manifest import Sample
from nanoemox.tasks import LABEL_SETS, MER

LABELS: Final = LABEL_SETS["iemocap"]
_SHORT: Final[Mapping[str, str]] = {"hap": "happy", "exc": "happy", "sad": "sad", "neu": "neutral", "ang": "anger"}
_TURN: Final = re.compile(r"^\[[\d. ]+-[\d. ]+\]\t(?P<name>Ses\w+)\t(?P<label>\w+)\t", re.MULTILINE)
_SAID: Final = re.compile(r"^(?P<name>Ses\w+) \[[\d.]+-[\d.]+\]: *(?P<text>.*)$", re.MULTILINE)
_TEST_SESSION: Final = "Ses05"


def read(root: Path, *, trust_npz: bool = False) -> list[Sample]:
    """Return one sample per utterance of the four classes."""
    said = _transcripts(root) or read_transcripts(root, "english")
    clips = Clips(root, "subvideo-tgt/{name}.avi")
    out = []
    for name, label in _labels(root, trust_npz=trust_npz):
        source = Source(
            id=name,
            corpus="iemocap",
            split="test" if name.startswith(_TEST_SESSION) else "train",
            media=clips.path(name),
            subtitle=said.get(name),
            speaker=f"{name[:5]}{name.rsplit('_', 1)[-1][0]}",
        )
        out.append(source.closed(MER.key, label, LABELS))
    return out


def _labels(root: Path, *, trust_npz: bool) -> Iterator[tuple[str, str]]:
    sessions = sorted(root.glob("Session[1-5]/dialog/EmoEvaluation/Ses*.txt"))
    folds = sorted(root.glob("**/iemocap_*_fold_*.jsonl"))
    if sessions:
        found = (match for path in sessions for match in _TURN.finditer(read_text(path)))
        yield from ((m["name"], _SHORT[m["label"]]) for m in found if m["label"] in _SHORT)
    elif folds:
        labels = {m.name: _SHORT[m.answer] for path in folds for m in read_emobox(path)}
        yield from sorted(labels.items())
    else:
        npz = find(root, "label_4way.npz", "iemocap_label_4way.npz", "Session1/dialog/EmoEvaluation/*.txt")
        whole = read_labels(npz, trust_npz=trust_npz)[WHOLE]
        yield from ((name, LABELS[int(row["emo"])]) for name, row in whole.items())


def _transcripts(root: Path) -> dict[str, str]:
    found = sorted(root.glob("Session[1-5]/dialog/transcriptions/Ses*.txt"))
    return {m["name"]: m["text"].strip() for path in found for m in _SAID.finditer(read_text(path))}
