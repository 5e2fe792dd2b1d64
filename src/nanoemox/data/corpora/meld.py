"""MELD: utterances of Friends with an emotion (GPL-3.0; the clips are the series').

Releases: its own tables and folders of clips, whose names repeat between the parts; or MER-UniBench's label file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.releases import Clips, find, find_or_none, match_label, read_table
from nanoemox.data.corpora.unibench import by_split, read_labels, read_transcripts
from nanoemox.data.manifest import Sample, Split
from nanoemox.tasks import LABEL_SETS, MER

LABELS: Final = LABEL_SETS["meld"]
_PARTS: Final[tuple[tuple[str, str, Split, tuple[str, ...]], ...]] = (
    ("train", "train", "train", ("train_splits", "train/train_splits")),
    ("dev", "val", "validation", ("dev_splits_complete", "dev/dev_splits_complete")),
    ("test", "test", "test", ("output_repeated_splits_test", "test/output_repeated_splits_test")),
)
"""Name of the table, start of the clip's name in MER-UniBench (which is ours too), split, folders."""


def read(root: Path, *, trust_npz: bool = False) -> list[Sample]:
    """Return one sample an utterance, without its dialogue, as the protocol has it."""
    tables = [(part, find_or_none(root, *_tables(part[0]))) for part in _PARTS]
    if not any(path for _, path in tables):
        npz = find(root, "label.npz", "meld_label.npz", *_tables("test"))
        return _labelled(root, npz, trust_npz=trust_npz)
    clips = Clips(root, "subvideo/{name}.mp4")
    out = []
    for (_, start, split, folders), path in tables:
        for row in read_table(path, "utterance", "emotion", "dialogue_id", "utterance_id") if path else ():
            file = f"dia{row['dialogue_id']}_utt{row['utterance_id']}"
            name = f"{start}_{file}"
            media = clips.at(*(f"{folder}/{file}.mp4" for folder in folders), f"subvideo/{name}.mp4")
            words, who = row["utterance"].strip(), row.get("speaker") or None
            source = Source(id=name, corpus="meld", split=split, media=media, subtitle=words, speaker=who)
            out.append(source.closed(MER.key, match_label(row["emotion"], LABELS, f"{path}: {name}"), LABELS))
    return out


def _tables(part: str) -> tuple[str, ...]:
    file = f"{part}_sent_emo.csv"
    return file, f"MELD/{file}", f"data/MELD/{file}"


def _labelled(root: Path, npz: Path, *, trust_npz: bool) -> list[Sample]:
    said = read_transcripts(root, "english")
    clips = Clips(root, "subvideo/{name}.mp4")
    out = []
    for split, name, row in by_split(read_labels(npz, trust_npz=trust_npz)):
        source = Source(id=name, corpus="meld", split=split, media=clips.path(name), subtitle=said.get(name))
        out.append(source.closed(MER.key, LABELS[int(row["emo"])], LABELS))
    return out
