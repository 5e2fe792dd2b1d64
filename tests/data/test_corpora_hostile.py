"""Missing, truncated and invalid releases."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from nanoemox.data.corpora import READERS
from nanoemox.data.corpora.releases import match_label
from nanoemox.types import RecipeError
from tests.data.test_corpora_releases import put, read


@pytest.mark.parametrize("name", READERS)
def test_empty_folder_names_the_download(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is missing; ") as error:
        READERS[name].read(tmp_path)
    assert READERS[name].get in str(error.value)
    with pytest.raises(RecipeError, match="no such folder"):
        READERS[name].read(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "file", "text", "says"),
    [
        ("mintrec", "train_MIntRec_ann.json", "{oops", "train_MIntRec_ann.json: not JSON"),
        ("mintrec", "train_MIntRec_ann.json", '[{"messages": []}]', "not the released layout"),
        ("mintrec", "train_MIntRec_ann.json", "[1]", "not the released layout"),
        ("merr", "MERR_fine_grained.json", "[]", "not the released layout"),
        ("avamerg", "train.json", '[{"turns": [{}]}]', "not the released layout"),
        ("meld", "train_sent_emo.csv", "Utterance,Emotion\n", "no column dialogue_id, utterance_id"),
        ("cmu_mosi", "label.csv", "video_id,clip_id,text,label,mode\na,1,x,0.5,later\n", "mode 'later' is none of"),
        ("cmu_mosi", "label.csv", "video_id,clip_id,text,label,mode\na,1,x,good,test\n", "not the released layout"),
        ("ferv39k", "train_All.csv", "Action/Happy/0267 9\n", "not the released layout"),
        ("ferv39k", "train_All.csv", "Action/Happy/0267 Joke\n", "label 'Joke' is none of happy, sad"),
    ],
)
def test_files_with_another_layout_are_named(tmp_path: Path, name: str, file: str, text: str, says: str) -> None:
    put(tmp_path, file, text)
    with pytest.raises(RecipeError) as error:
        read(name, tmp_path)
    assert says in str(error.value)


LISTED = [
    ("caer", "caer_ferv39k_ann.json"), ("ferv39k", "train_All.csv"), ("crema_d", "SentenceFilenames.csv"),
    ("m3ed", "m3ed_annotaton.json"), ("m3ed", "fold_1/m3ed_test_fold_1.jsonl"), ("mintrec", "train.tsv"),
    ("mintrec2", "train_MIntRec2_ann.json"), ("mercaptionplus", "track2_train_mercaptionplus.csv"),
    ("merr", "MERR_fine_grained.json"), ("avamerg", "v_test_v5_0.json"), ("mer2023", "test1-label.csv"),
    ("mer2024", "label-6way.npz"), ("meld", "test_sent_emo.csv"), ("iemocap", "iemocap_test_fold_5.jsonl"),
    ("cmu_mosi", "label.csv"), ("ch_sims_v2", "mmla/swift/Ch-sims/test.jsonl"), ("ov_merd", "check-openset.csv"),
    ("emer", "gt-eng.csv"), ("goemotions", "dev.tsv"), ("esconv", "devWithStrategy_short.tsv"),
    ("empathetic_dialogues", "test.csv"), ("dfew", "annotation.xlsx"), ("dfew", "split01_test.csv"),
    ("mustard", "sarcasm_data.json"), ("facial_expressions", "legend.csv"), ("table", "labels.csv"),
]  # fmt: skip
HEADS = {".csv": "name,discrete,openset,file,label,image,emotion,names,reasons\n", ".tsv": "text\tlabel\n"}


@pytest.mark.parametrize(("name", "file"), LISTED)
def test_any_file_content_gives_a_recipe_error(name: str, file: str, tmp_path: Path) -> None:
    path = put(tmp_path, file)
    put(tmp_path, "labels.txt", "joy")
    head = HEADS.get(path.suffix, "").encode()
    deep, wide = b"[" * 100_000, b"x" * 200_000
    held = (b"", b"\n\n", b"\x00\x01", b"\xff\xfe\x00", b"null", b"[null]", b'{"a": 1}', b'[[{"a": []}]]', deep, wide)
    for content in (*held, *(head + more for more in held), head + b'"never closed\n', b"{}\n[]\n3\n"):
        path.write_bytes(content)
        with suppress(RecipeError):
            READERS[name].read(tmp_path, trust_npz=True)
    path.unlink()
    path.mkdir()
    with pytest.raises(RecipeError):
        READERS[name].read(tmp_path, trust_npz=True)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "check-openset.csv").write_bytes("name,openset\na,[fiancé]\n".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"check-openset\.csv: not UTF-8 at byte"):
        read("ov_merd", tmp_path)


def test_invalid_label_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "label.npz").write_bytes(b"PK not an archive")
    with pytest.raises(RecipeError, match=r"label\.npz: not a label file"):
        read("meld", tmp_path, trust_npz=True)


def test_label_spellings_match() -> None:
    candidates = ("anger", "happy", "sad", "surprise")
    for spelt in ("Happy", "happiness", "JOY", " happy "):
        assert match_label(spelt, candidates, "x") == "happy"
    assert match_label("Angry", candidates, "x") == "anger"
    with pytest.raises(RecipeError, match=r"^clip 3: label 'bored' is none of anger, happy"):
        match_label("bored", candidates, "clip 3")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_sentiment_that_is_no_number_is_named(tmp_path: Path, value: str) -> None:
    rows = f"video_id,clip_id,text,label,annotation,mode\nv,1,Hm.,{value},Neutral,train\n"
    (tmp_path / "label.csv").write_text(rows, "utf-8")
    with pytest.raises(RecipeError, match=f"sentiment is {value}"):
        READERS["ch_sims"].read(tmp_path)
