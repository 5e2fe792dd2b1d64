"""Readers of the open corpora on miniature releases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanoemox.data.manifest import ReplyLabels
from nanoemox.types import RecipeError
from tests.data.test_corpora_releases import put, read, said


def test_ravdess_labels_from_file_names(tmp_path: Path) -> None:
    for name in (
        "Audio_Speech_Actors_01-24/Actor_01/03-01-05-02-01-01-01.wav",
        "Audio_Speech_Actors_01-24/Actor_18/03-01-01-01-02-01-18.wav",
        "Audio_Song/Actor_01/03-02-05-02-01-01-01.wav",
        "Video_Speech_Actor_18/Actor_18/01-01-01-01-02-01-18.mp4",
        "Video_Speech_Actor_18/Actor_18/02-01-01-01-02-01-18.mp4",
        "Audio_Speech_Actors_01-24/Actor_02/03-01-99-01-01-01-02.wav",
    ):
        put(tmp_path, name)
    found = read("ravdess", tmp_path)
    assert list(found) == ["03-01-05-02-01-01-01/mer", "01-01-01-01-02-01-18/mer"]
    loud, calm = found["03-01-05-02-01-01-01/mer"], found["01-01-01-01-02-01-18/mer"]
    assert (loud.split, loud.labels.label, loud.subtitle) == ("train", "angry", "Kids are talking by the door.")
    assert (calm.split, calm.labels.label, calm.speaker) == ("validation", "neutral", "actor-18")


def test_goemotions(tmp_path: Path) -> None:
    put(tmp_path, "emotions.txt", "admiration\nanger\nannoyance\nneutral\n")
    put(tmp_path, "train.tsv", "Well done!\t0\ta\nStop it.\t1,2\tb\nHm, nice.\t0,3\tc\n\t3\td\n")
    put(tmp_path, "dev.tsv", "Fine.\t3\te\n")
    found = read("goemotions", tmp_path)
    assert {key: said(s)[1] for key, s in found.items()} == {
        "a/mer": "joy", "a/ovmer": "admiration", "b/mer": "anger", "b/ovmer": "anger, annoyance",
        "c/ovmer": "admiration, neutral", "e/mer": "neutral", "e/ovmer": "neutral",
    }  # fmt: skip
    assert found["e/mer"].split == "validation"


def test_emodb(tmp_path: Path) -> None:
    for name in ("03a01Wa", "13b10Nc", "16a07Ta", "README"):
        put(tmp_path, f"wav/{name}.wav")
    found = read("emodb", tmp_path)
    assert [said(s)[:3] for s in found.values()] == [
        ("train", "anger", "wav/03a01Wa.wav"),
        ("validation", "neutral", "wav/13b10Nc.wav"),
        ("test", "sadness", "wav/16a07Ta.wav"),
    ]
    assert found["03a01Wa/mer"].language == "de"


def test_empathetic_dialogues(tmp_path: Path) -> None:
    head = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
    rows = [
        'h:1,1,guilty,I felt bad,1,I lied_comma_ "sorry".,5|5|5,',
        "h:1,2,guilty,I felt bad,0,Why?,5|5|5,",
        "h:1,3,guilty,I felt bad,1,I was afraid.,5|5|5,",
        "h:1,4,guilty,I felt bad,0,Tell them.,5|5|5,",
        "h:2,1,joyful,p,1,I won!,5|5|5,<HI>",
    ]
    put(tmp_path, "train.csv", head + "\n".join(rows) + "\n")
    found = read("empathetic_dialogues", tmp_path)
    assert list(found) == ["h:1/mer", "h:1-1/erg", "h:1-3/erg", "h:2/mer"]
    assert found["h:1/mer"].subtitle == 'I lied, "sorry".'
    assert found["h:1/mer"].labels.label == "guilty"
    last = found["h:1-3/erg"]
    assert (last.subtitle, last.labels) == ("I was afraid.", ReplyLabels(reply="Tell them."))
    assert [t.role for t in last.history] == ["speaker", "listener"]
    put(tmp_path, "valid.csv", head + "broken line\n")
    with pytest.raises(RecipeError, match=r"valid\.csv:2: 1 fields, not 8"):
        read("empathetic_dialogues", tmp_path)


def test_esconv_in_its_three_parts(tmp_path: Path) -> None:
    line = "1.0 0 0 I lost my job and I am sad. EOS 1.0 1 1 [Question] Oh, how did that happen to you?\n"
    for part in ("train", "dev", "test"):
        put(tmp_path, f"{part}WithStrategy_short.tsv", line)
    found = {s.id: s for s in read("esconv", tmp_path).values()}
    assert {key: s.split for key, s in found.items()} == {
        "train-1": "train", "dev-1": "validation", "test-1": "test"
    }  # fmt: skip
    assert found["dev-1"].labels == ReplyLabels(reply="Oh, how did that happen to you?")


def test_mustard_with_its_clips(tmp_path: Path) -> None:
    row = {"utterance": "Great.", "speaker": "SHELDON", "context": ["Hm."], "context_speakers": ["PENNY"]}
    put(tmp_path, "sarcasm_data.json", json.dumps({"1_60": {**row, "show": "BBT", "sarcasm": True}}))
    put(tmp_path, "mmsd_raw_data/utterances_final/1_60.mp4")
    sample = read("mustard", tmp_path)["1_60/mir"]
    assert said(sample) == ("train", "sarcastic", "mmsd_raw_data/utterances_final/1_60.mp4", "Great.")
    assert (sample.history[0].role, sample.speaker) == ("Penny", "Sheldon")
