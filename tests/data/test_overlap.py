from __future__ import annotations

import json
from pathlib import Path

from nanoemox.data.manifest import ClosedLabels, Sample
from nanoemox.data.overlap import drop_overlap, evaluation_overlap, normalise

LABELS = ClosedLabels(label="a", candidates=("a", "b"))


def sample(key: str, text: str, corpus: str = "said", split: str = "train", media: str | None = None) -> Sample:
    return Sample(
        id=key, corpus=corpus, split=split, task="mir", labels=LABELS, subtitle=text, media=media
    )  # fmt: skip


def test_normalise() -> None:
    assert normalise("I’m  NOT-sure, really?!") == normalise("Im not sure really") == "im not sure really"


def test_drops_and_counts(tmp_path: Path) -> None:
    folder = tmp_path / "annotations"
    (folder / "meld").mkdir(parents=True)
    (folder / "mmla").mkdir()
    (folder / "mintrec").mkdir()
    (folder / "meld" / "test.csv").write_text("Utterance,Speaker\nWhy do you’re mugs have numbers?,Mark\nOh my god,J\n")
    said = "<video> in which the speaker says: what a lovely day it is. Based on the text, guess."
    row = {"videos": ["/x/MIntRec2.0_3_1.mp4"], "conversations": [{"value": said, "from": "human"}]}
    (folder / "mmla" / "dev.json").write_text(json.dumps([row]))
    own = [{"messages": [{"role": "user", "content": "this one is for training only"}]}]
    (folder / "mintrec" / "train_MIntRec_ann.json").write_text(json.dumps(own))
    samples = [
        sample("1", "WHY do youre mugs have numbers"),
        sample("2", "oh my god!"),
        sample("3", "What a lovely day it is"),
        sample("dia3_utt1", "unique words of this clip", corpus="mintrec2"),
        sample("4", "this one is for training only"),
        sample("5", "held out words of validation", split="validation"),
        sample("6", "held out words of validation"),
        sample("7", "acted words are always the same", split="validation", media="a.wav"),
        sample("8", "acted words are always the same", media="b.wav"),
    ]
    kept, dropped = drop_overlap(samples, evaluation_overlap(tmp_path))
    assert [s.id for s in kept] == ["2", "4", "5", "7", "8"]
    assert dropped == {
        "name/mintrec2/mmla/dev.json": 1,
        "words/said/meld/test.csv": 1,
        "words/said/mmla/dev.json": 1,
        "words/said/said validation": 1,
    }
