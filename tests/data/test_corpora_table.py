"""A user's own clips and table, and corpora in a data root."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nanoemox.data.corpora import READERS, read_corpora, reader
from nanoemox.data.manifest import ClosedLabels, Sample, target_text, write_manifest
from nanoemox.data.prepare import prepare
from nanoemox.types import RecipeError


def read(root: Path, text: str, name: str = "labels.csv") -> list[Sample]:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, "utf-8")
    return READERS["table"].read(root)


def test_table_needs_only_file_and_label(tmp_path: Path) -> None:
    samples = read(tmp_path, "file,label\na.mp4,Happy\nsub/b.mp4,sad\nc.wav,happy\n")
    assert [(s.id, s.media, s.task, target_text(s)) for s in samples] == [
        ("a", "a.mp4", "mer", "happy"), ("sub/b", "sub/b.mp4", "mer", "sad"), ("c", "c.wav", "mer", "happy")
    ]  # fmt: skip
    assert samples[0].labels == ClosedLabels(label="happy", candidates=("happy", "sad"))


def test_every_column(tmp_path: Path) -> None:
    head = "File,Label,Subtitle,Split,Speaker,Task,Language\n"
    rows = [
        'a.mp4,angry,"No, no.",train,ann,mer,en', "b.mp4,calm,,dev,bob,,", "a.mp4,greet,Hi.,test,ann,mir,de",
        "b.mp4,leave,,test,,mir,", "a.mp4,positive,,train,,msa,", "a.mp4,cross; upset,,train,,ovmer,",
        'a.mp4,"Loud, so cross.",,train,,eri,', "a.mp4,I see.,Hm,train,,erg,",
    ]  # fmt: skip
    samples = read(tmp_path, head + "\n".join(rows))
    assert [(s.task, s.split, target_text(s)) for s in samples] == [
        ("mer", "train", "angry"), ("mer", "validation", "calm"), ("mir", "test", "greet"), ("mir", "test", "leave"),
        ("msa", "train", "positive"), ("ovmer", "train", "cross, upset"), ("eri", "train", "Loud, so cross."),
        ("erg", "train", "I see."),
    ]  # fmt: skip
    assert (samples[0].subtitle, samples[0].speaker, samples[2].language) == ("No, no.", "ann", "de")
    assert samples[4].labels.candidates == ("positive", "negative", "neutral")


@pytest.mark.parametrize("name", ["other.tsv", "clips.csv"])
def test_single_table_is_used_and_semicolons_are_accepted(tmp_path: Path, name: str) -> None:
    sign = "\t" if name.endswith("tsv") else ";"
    assert len(read(tmp_path, sign.join(("file", "label")) + f"\na.mp4{sign}x\nb.mp4{sign}y\n", name)) == 2
    (tmp_path / "second.csv").write_text("file,label\n")
    with pytest.raises(RecipeError, match=r"2 tables: rename the right one to labels\.csv"):
        READERS["table"].read(tmp_path)


def test_a_tenth_of_the_speakers_is_held_out(tmp_path: Path) -> None:
    rows = "".join(f"{i}.mp4,{'xy'[i % 2]},{i // 3}\n" for i in range(900))
    samples = read(tmp_path, "file,label,speaker\n" + rows)
    held = {s.speaker for s in samples if s.split == "validation"}
    assert 15 <= len(held) <= 45
    assert not held & {s.speaker for s in samples if s.split == "train"}
    assert samples == READERS["table"].read(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,label\na.mp4,x\nb.mp4,x\n", "task mer has one label, x: it needs at least two"),
        ("file,label,task\na.mp4,x,dance\n", "labels.csv:2: task 'dance' is none of msa, mer"),
        ("file,label\na.mp4,x\n/etc/passwd,y\n", "labels.csv:3: file '/etc/passwd' must be inside the table's folder"),
        ("file,label\na.mp4,x\n..\\b.mp4,y\n", "file '../b.mp4' must be inside"),
        ("file,label,split\na.mp4,x,later\nb.mp4,y,test\n", "labels.csv:2: split 'later' is none of train"),
        ("file,label\na.mp4,\n", "labels.csv:2: file and label must not be empty"),
        (
            "file,label\na.mp4,Glad\nb.mp4,sad\na.mp4,sad\n",
            "labels.csv:4: a.mp4 has the mer label 'sad', and 'glad' on line 2: keep one of the rows",
        ),
        ("file,label,task\na.mp4,cross,ovmer\na.mp4,sad,ovmer\n", "labels.csv:3: a.mp4 has the ovmer label 'sad'"),
        ("clip,emotion\na.mp4,x\n", "no column file, label; its columns are clip, emotion"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RecipeError) as error:
        read(tmp_path, text)
    assert says in str(error.value)


def test_a_released_folder_in_a_data_root(tmp_path: Path) -> None:
    read(tmp_path / "table", "file,label\na.mp4,x\nb.mp4,y\n")
    samples = read_corpora(tmp_path, ["table"])["table"]
    assert [s.media for s in samples] == ["table/a.mp4", "table/b.mp4"]
    # A manifest of that name comes before the reader.
    write_manifest(samples[:1], tmp_path / "manifests/table.jsonl")
    assert read_corpora(tmp_path, ["table"])["table"] == samples[:1]


def test_prepared_corpora_are_named_after_their_folders(tmp_path: Path) -> None:
    for name in ("calls", "shop"):
        read(tmp_path / "clips" / name, "file,label,split\na.mp4,x,train\nb.mp4,y,val\nc.mp4,y,test\n")
        prepare("table", tmp_path / "clips" / name, tmp_path / "manifests" / name)
    found = read_corpora(tmp_path, ["shop", "calls"])
    assert [(s.corpus, s.split, s.media) for s in found["calls"]] == [
        ("calls", "train", "clips/calls/a.mp4"),
        ("calls", "validation", "clips/calls/b.mp4"),
        ("calls", "test", "clips/calls/c.mp4"),
    ]
    prepare("table", tmp_path / "clips/shop", tmp_path / "elsewhere/manifests/shop")
    with pytest.raises(RecipeError, match="outside --data-root"):
        read_corpora(tmp_path / "elsewhere", ["shop"])


def test_dialogue_without_clips_is_read_as_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "annotations"
    head = "season\tepisode\tclip\ttext\tlabel\n"
    folder.mkdir()
    for part in ("train", "dev", "test"):
        (folder / f"{part}.tsv").write_text(f"{head}S1\tE1\t{len(part)}\thi\tgreet\n")
    with caplog.at_level(logging.WARNING):
        assert [s.media for s in read_corpora(tmp_path, ["mintrec"])["mintrec"]] == [None] * 3
    assert "only its text is used" in caplog.text
    (folder / "raw_data/S1/E1").mkdir(parents=True)
    (folder / "raw_data/S1/E1/5.mp4").touch()
    media = [s.media for s in read_corpora(tmp_path, ["mintrec"])["mintrec"]]
    assert media == [f"annotations/raw_data/S1/E1/{n}.mp4" for n in (5, 3, 4)]
    folder.rename(tmp_path / "mintrec")  # the corpus' own name serves every corpus, and is the one that errors tell
    media = [s.media for s in read_corpora(tmp_path, ["mintrec"])["mintrec"]]
    assert media == [f"mintrec/raw_data/S1/E1/{n}.mp4" for n in (5, 3, 4)]
    with pytest.raises(RecipeError, match="mintrec2: no such folder"):
        read_corpora(tmp_path, ["mintrec2"])


def test_prepared_dialogue_without_clips_is_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "MELD").mkdir()
    table = "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\nHi!,Joey,joy,0,0\n"
    (tmp_path / "MELD/test_sent_emo.csv").write_text(table)
    prepare("meld", tmp_path / "MELD", tmp_path / "manifests/meld")
    prepare("meld", tmp_path / "MELD", tmp_path / "manifests/friends")
    found = read_corpora(tmp_path, ["meld", "friends"])
    assert [(s.corpus, s.media, s.subtitle) for part in found.values() for s in part] == [
        ("meld", None, "Hi!"),
        ("friends", None, "Hi!"),
    ]
    (tmp_path / "MELD/output_repeated_splits_test").mkdir()
    (tmp_path / "MELD/output_repeated_splits_test/dia0_utt0.mp4").touch()
    media = [s.media for s in read_corpora(tmp_path, ["meld"])["meld"]]
    assert media == ["MELD/output_repeated_splits_test/dia0_utt0.mp4"]


def test_missing_corpora_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"corpus films: no manifest .*no reader; readers: caer"):
        read_corpora(tmp_path, ["films"])
    with pytest.raises(RecipeError, match=r"corpus table: .*is --data-root right\?"):
        read_corpora(tmp_path, ["table"])
    with pytest.raises(RecipeError, match="'films' has no reader"):
        reader("films")


def test_two_files_of_one_stem_are_two_clips_and_a_repeated_row_is_one(tmp_path: Path) -> None:
    rows = "file,label\na.wav,happy\nb.wav,sad\na.png,sad\na.wav,happy\n"
    assert [s.id for s in read(tmp_path / "table", rows)] == ["a.wav", "b", "a.png", "a.wav"]
    for name in ("a.wav", "b.wav", "a.png"):
        (tmp_path / "table" / name).write_bytes(b"x")
    found = read_corpora(tmp_path, ["table"])["table"]
    assert [s.id for s in found] == ["a.wav", "b", "a.png"]


def test_a_comma_without_quotes_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"the row of 'a.wav' has more cells than the 3 columns: .*needs quotes"):
        read(tmp_path, "file,label,subtitle\na.wav,happy,Well, I am not fine\nb.wav,sad,No\n")
    assert len(read(tmp_path, "file,label\na.wav,happy,,\nb.wav,sad,,\n")) == 2  # spreadsheets leave empty columns


def test_a_corpus_prepared_through_a_link_is_read_by_either_path(tmp_path: Path) -> None:
    disk, link = tmp_path / "disk", tmp_path / "link"
    read(disk / "mine", "file,label\na.wav,happy\nb.wav,sad\n")
    link.symlink_to(disk)
    prepare("table", link / "mine", disk / "manifests" / "mine")
    for root in (disk, link):
        assert {s.media for s in read_corpora(root, ["mine"])["mine"]} == {"mine/a.wav", "mine/b.wav"}
