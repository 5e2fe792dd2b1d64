"""M3ED: utterances of Chinese television dialogue with an emotion (agreement with its makers).

Supported releases: the original annotation with lists of dramas; EmoBox's fold 1, without text; the authors' JSON,
without splits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nanoemox.data.corpora.common import Source
from nanoemox.data.corpora.messages import read_emobox, read_messages
from nanoemox.data.corpora.releases import Clips, find, find_or_none, match_label, read_json, read_text
from nanoemox.data.manifest import Sample, Split
from nanoemox.tasks import LABEL_SETS, MER

LABELS: Final = LABEL_SETS["m3ed"]
_LISTS: Final[tuple[tuple[str, Split], ...]] = (("train", "train"), ("val", "validation"), ("test", "test"))
_FOLDS: Final[tuple[tuple[str, Split], ...]] = (("train", "train"), ("valid", "validation"), ("test", "test"))


def read(root: Path) -> list[Sample]:
    """Return one sample per utterance; its id is the name of the audio file (``A_anjia_1_1``)."""
    clips = Clips(root, "modality_speech/{name}.wav")
    out = []
    for source, label in _sources(root, clips):
        out.append(source.closed(MER.key, match_label(label, LABELS, f"m3ed: {source.id}"), LABELS))
    return out


def _sources(root: Path, clips: Clips) -> Iterator[tuple[Source, str]]:
    annotation = find_or_none(root, "annotation.json", "M3ED_annotation.json")
    authors = find_or_none(root, "m3ed_annotaton.json", "m3ed_annotation.json")
    if annotation is not None:
        yield from _released(root, annotation, clips)
    elif authors is not None:
        for message in read_messages(authors):
            yield _source(message.name, "train", clips, message.text), message.answer
    else:
        folds = [(find_or_none(root, *_fold(part)), split) for part, split in _FOLDS]
        if not any(path for path, _ in folds):
            find(root, "annotation.json", *_fold("train"))
        for path, split in folds:
            for message in read_emobox(path) if path else ():
                yield _source(message.name, split, clips), message.answer


def _fold(part: str) -> tuple[str, str]:
    return f"fold_1/m3ed_{part}_fold_1.jsonl", f"m3ed_{part}_fold_1.jsonl"


def _released(root: Path, annotation: Path, clips: Clips) -> Iterator[tuple[Source, str]]:
    """Read drama -> scene -> utterance; a drama that no list names is left out."""
    splits: dict[str, Split] = {}
    for part, split in _LISTS:
        file = f"movie_list_{part}.txt"
        splits |= dict.fromkeys(read_text(find(root, f"splitInfo/{file}", file)).split(), split)
    for drama, scenes in read_json(annotation).items():
        for scene in scenes.values() if drama in splits else ():
            for key, said in scene["Dialog"].items():
                who = scene["SpeakerInfo"].get(said["Speaker"], {}).get("Name", said["Speaker"])
                source = _source(f"{said['Speaker']}_{key}", splits[drama], clips, said["Text"], f"{drama}/{who}")
                yield source, said["EmoAnnotation"]["final_main_emo"]


def _source(name: str, split: Split, clips: Clips, text: str = "", speaker: str | None = None) -> Source:
    media = clips.path(name)
    return Source(id=name, corpus="m3ed", split=split, media=media, subtitle=text, speaker=speaker, language="zh")
