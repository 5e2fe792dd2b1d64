"""Releases that are not there, cut short or something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoemox.data.corpora import READERS
from nanoemox.data.corpora.releases import match_label
from nanoemox.types import RecipeError
from tests.data.test_corpora_releases import put, read


@pytest.mark.parametrize("name", READERS)
def test_an_empty_folder_tells_what_to_download(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is missing; ") as error:
        READERS[name].read(tmp_path)
    assert READERS[name].get in str(error.value)
    with pytest.raises(RecipeError, match="no such folder"):
        READERS[name].read(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "file", "text", "says"),
    [
        ("mintrec", "train_MIntRec_ann.json", "{oops", "train_MIntRec_ann.json: not JSON"),
        ("mintrec", "train_MIntRec_ann.json", '[{"messages": []}]', "not laid out as released"),
        ("mintrec", "train_MIntRec_ann.json", "[1]", "not laid out as released"),
        ("merr", "MERR_fine_grained.json", "[]", "not laid out as released"),
        ("avamerg", "train.json", '[{"turns": [{}]}]', "not laid out as released"),
        ("meld", "train_sent_emo.csv", "Utterance,Emotion\n", "no column dialogue_id, utterance_id"),
        ("cmu_mosi", "label.csv", "video_id,clip_id,text,label,mode\na,1,x,0.5,later\n", "mode 'later' is none of"),
        ("cmu_mosi", "label.csv", "video_id,clip_id,text,label,mode\na,1,x,good,test\n", "not laid out as released"),
        ("ferv39k", "train_All.csv", "Action/Happy/0267 9\n", "not laid out as released"),
        ("ferv39k", "train_All.csv", "Action/Happy/0267 Joke\n", "label 'Joke' is none of happy, sad"),
    ],
)
def test_a_file_that_is_not_as_released_is_named(tmp_path: Path, name: str, file: str, text: str, says: str) -> None:
    put(tmp_path, file, text)
    with pytest.raises(RecipeError) as error:
        read(name, tmp_path)
    assert says in str(error.value)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "check-openset.csv").write_bytes("name,openset\na,[fiancé]\n".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"check-openset\.csv: not UTF-8 at byte"):
        read("ov_merd", tmp_path)


def test_a_label_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "label.npz").write_bytes(b"PK not an archive")
    with pytest.raises(RecipeError, match=r"label\.npz: not a label file"):
        read("meld", tmp_path, trust_npz=True)


def test_spellings_of_a_label_are_one() -> None:
    candidates = ("anger", "happy", "sad", "surprise")
    for spelt in ("Happy", "happiness", "JOY", " happy "):
        assert match_label(spelt, candidates, "x") == "happy"
    assert match_label("Angry", candidates, "x") == "anger"
    with pytest.raises(RecipeError, match=r"^clip 3: label 'bored' is none of anger, happy"):
        match_label("bored", candidates, "clip 3")
