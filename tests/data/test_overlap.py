from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanoemox.benchmarks.records import BENCHMARKS
from nanoemox.data.manifest import ClosedLabels, Sample, write_manifest
from nanoemox.data.overlap import EVALUATED, HeldOutIndex, drop_overlap, evaluation_overlap, normalise
from nanoemox.types import RecipeError

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


def test_overlap_covers_every_evaluated_corpus() -> None:
    assert {b.corpus for b in BENCHMARKS.values()} == set(EVALUATED)


def meld_release(folder: Path) -> None:
    columns = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    folder.mkdir(parents=True)
    for part, said in (("train", "We train on this one"), ("dev", "Nobody told me about it"), ("test", "Why so sad?")):
        rows = [f'{i},"{text}",Mark,sadness,negative,{i},0,1,1,"00:00:01,000","00:00:02,000"'
                for i, text in enumerate((said, "They all say this line"))]  # fmt: skip
        (folder / f"{part}_sent_emo.csv").write_text("\n".join([columns, *rows]) + "\n")


def test_evaluation_sets_are_found_by_their_readers(tmp_path: Path) -> None:
    meld_release(tmp_path / "meld")
    samples = [
        sample("1", "nobody told me about it!"),
        sample("2", "we train on this one"),
        sample("3", "They all say this line"),  # said in MELD's training part too
        sample("4", "why so sad?"),  # three words
    ]
    kept, dropped = drop_overlap(samples, evaluation_overlap(tmp_path))
    assert [s.id for s in kept] == ["2", "3", "4"]
    assert dropped == {"words/said/meld validation": 1}


def test_prepared_evaluation_sets_count_and_pools_share_names(tmp_path: Path) -> None:
    test = sample("sample_0001", "some words of this very clip", corpus="mer2023", split="test")
    write_manifest([test], tmp_path / "manifests/mer2023.jsonl")
    trained = [sample("sample_0001", "other", corpus="merr"), sample("sample_0001", "other", corpus="avamerg")]
    kept, dropped = drop_overlap(trained, evaluation_overlap(tmp_path))
    assert [s.corpus for s in kept] == ["avamerg"]
    assert dropped == {"name/merr/mer2023 test": 1}


def test_unreadable_evaluation_sets_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "meld").mkdir()
    (tmp_path / "annotations").mkdir()  # where MIntRec may lie, but does not
    assert evaluation_overlap(tmp_path) == HeldOutIndex()
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["its clips are not held out from training"]
    assert "corpus meld" in caplog.text


def test_linked_folders_are_held_out_too(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "root" / "annotations"
    store.mkdir()
    folder.mkdir(parents=True)
    (store / "test.csv").write_text("Utterance\nwhat a lovely day it is\n", "utf-8")
    (store / "._test.csv").write_bytes(b"\xff\xfe\x00")  # archives of macOS hold such files
    (folder / "mine").symlink_to(store)
    (store / "back").symlink_to(folder)  # a circle
    assert list(evaluation_overlap(tmp_path / "root").texts) == ["what a lovely day it is"]


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", '{"text": '), ("a.jsonl", "{}\n{"), ("a.csv", "text\n" + "x" * 200_000 + "\n")]
)
def test_an_evaluation_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / name).write_text(text, "utf-8")
    with pytest.raises(RecipeError, match=rf"{name}: cannot be read: .*repair it, or move it away"):
        evaluation_overlap(tmp_path)
