from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanoemox.data.manifest import ClosedLabels, Sample, read_manifest, target_text, write_manifest
from nanoemox.data.overlap import annotation_fields
from nanoemox.types import RecipeError

MER = {
    "id": "a", "corpus": "c", "split": "train", "task": "mer", "media": "a.wav",
    "labels": {"label": "sad", "candidates": ["happy", "sad"]},
}  # fmt: skip
ERI = {
    "id": "b", "corpus": "c", "split": "train", "task": "eri", "subtitle": "x",
    "labels": {
        "text": "all", "conclusion": "So sad.",
        "parts": {"speech": "Loud.", "face": "Frowns.", "text": "Words."},
    },
}  # fmt: skip
ERG = {
    "id": "d", "corpus": "c", "split": "validation", "task": "erg", "subtitle": "I failed.",
    "history": [{"role": "speaker", "text": "hi"}],
    "labels": {"think": {"scenario": "s", "emotion": "e", "cause": "c", "goal": "g"}, "reply": "Oh no."},
}  # fmt: skip


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_round_trip(tmp_path: Path) -> None:
    samples = read_manifest(write(tmp_path / "m.jsonl", MER, ERI, ERG))
    assert read_manifest(write_manifest(samples, tmp_path / "n.jsonl")) == samples


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": {"label": "sad", "candidates": ["happy", "angry"]}}, "'sad' is not among"),
        ({"labels": {"reply": "x"}}, "must have the fields label, candidates"),
        ({"task": "dance"}, "'dance' is none of"),
        ({"spliit": "train"}, "spliit"),
        ({"split": "dev"}, "'dev'"),
        ({"media": None}, "needs media"),
        ({"audio": "b.wav"}, "'composed'"),
    ],
)
def test_errors_name_file_line_field_and_value(tmp_path: Path, change: dict, says: str) -> None:
    path = write(tmp_path / "m.jsonl", MER, {**MER, "id": "z", **change})
    with pytest.raises(RecipeError, match=r"m\.jsonl:2: ") as error:
        read_manifest(path)
    assert says in str(error.value)


def test_not_json_and_repeated_ids(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(MER) + "\n\n{oops\n")
    with pytest.raises(RecipeError, match=r"m\.jsonl:3: not JSON"):
        read_manifest(path)
    with pytest.raises(RecipeError, match=r":2: id 'a' of task 'mer' was on line 1"):
        read_manifest(write(path, MER, MER))


def test_targets_in_the_answer_formats() -> None:
    assert target_text(Sample.model_validate(MER)) == "sad"
    erg = Sample.model_validate(ERG)
    assert target_text(erg) == "<think>\nscenario: s\nemotion: e\ncause: c\ngoal: g\n</think>\nOh no."
    assert target_text(erg, think=False) == "Oh no."
    assert [t.role for t in erg.history] == ["speaker"]


def test_explanation_cites_only_available_modalities() -> None:
    eri = Sample.model_validate(ERI)
    assert target_text(eri) == "Loud. Frowns. Words. So sad."
    assert target_text(eri, {"face"}) == "Frowns. So sad."
    assert target_text(eri, ()) == "So sad."


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_unicode_line_separators_do_not_split_lines(tmp_path: Path, mark: str) -> None:
    sample = Sample(
        id="1", corpus="said", split="train", task="mir", subtitle=f"one{mark}two",
        labels=ClosedLabels(label="a", candidates=("a", "b")),
    )  # fmt: skip
    path = write_manifest([sample], tmp_path / "m.jsonl")
    assert read_manifest(path) == [sample]
    assert [value for name, value in annotation_fields(path) if name == "subtitle"] == [sample.subtitle]
