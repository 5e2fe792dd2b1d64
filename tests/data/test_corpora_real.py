"""Readers on the real annotation files of the makers' shared folder: exact counts, and files that must agree."""

from __future__ import annotations

import csv
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from nanoemox.data.corpora import READERS, ravdess
from nanoemox.data.corpora.messages import read_messages
from nanoemox.data.manifest import ClosedLabels, Sample
from nanoemox.types import RecipeError


@cache
def read(name: str, root: Path, *, trust_npz: bool = True) -> list[Sample]:
    return READERS[name].read(root, trust_npz=trust_npz)


def counts(samples: list[Sample]) -> dict[str, int]:
    return dict(Counter(f"{s.split} {s.task}" for s in samples))


def labels(samples: list[Sample]) -> dict[str, str]:
    return {s.id: s.labels.label for s in samples if isinstance(s.labels, ClosedLabels)}


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        ("crema_d", "crema_d", {"train mer": 7442}),
        ("m3ed", "emobox/m3ed", {"validation mer": 2819, "test mer": 4198}),
        ("dfew", "dfew", {"train mer": 16372 - 4313}),
        ("dfew", "dfer_splits/mae_dfer/dfew", {"train mer": 9356, "test mer": 2341}),
        ("mintrec", "mintrec", {"train mir": 1779, "test mir": 445}),
        ("mintrec", ".", {"train mir": 1334, "validation mir": 445, "test mir": 445}),
        ("mintrec2", "mintrec", {"train mir": 5644, "test mir": 1044}),
        ("mintrec2", ".", {"train mir": 4803, "validation mir": 1106, "test mir": 2033}),
        ("merr", "merr", {"train eri": 2300, "train mer": 2300}),
        ("meld", "meld", {"train mer": 9989, "validation mer": 1109, "test mer": 2610}),
        ("meld", "derived_npz", {"train mer": 9989, "validation mer": 1109, "test mer": 2610}),
        ("iemocap", "derived_npz", {"train mer": 4290, "test mer": 1241}),
        ("iemocap", "emobox/iemocap", {"train mer": 4290, "test mer": 1241}),
        ("cmu_mosi", ".", {"train msa": 1284, "validation msa": 229, "test msa": 686}),
        ("ch_sims_v2", ".", {"train msa": 1200, "validation msa": 647, "test msa": 1031}),
        ("emer", "emer", {"test eri": 100}),
        ("ov_merd", "mer2024/ov_store", {"test ovmer": 332}),
        ("mustard", "mustard", {"train mir": 690}),
        ("esconv", "../corpora/text/esconv", {"train erg": 2967, "validation erg": 2460}),
    ],
)
def test_counts(shared: Path, name: str, folder: str, expected: dict[str, int]) -> None:
    samples = read(name, shared / "data/annotations" / folder)
    assert counts(samples) == expected
    assert len({(s.id, s.task) for s in samples}) == len(samples)
    assert {s.corpus for s in samples} == {name}


def test_ferv39k_and_its_folders_agree(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/annotations/ferv39k"
    (tmp_path / "train_All.csv").symlink_to(source / "all_scenes_train.every2nd.csv")
    (tmp_path / "test_All.csv").symlink_to(source / "all_scenes_test.csv")
    samples = read("ferv39k", tmp_path)
    assert counts(samples) == {"train mer": 15544, "test mer": 7847}
    assert all(s.id.split("-")[1].lower() == label for s, label in zip(samples, labels(samples).values(), strict=True))


def test_two_sources_of_one_corpus_agree(shared: Path) -> None:
    root = shared / "data/annotations"
    table, npz = read("meld", root / "meld"), read("meld", root / "derived_npz")
    assert labels(table) == labels(npz)
    folds = labels(read("iemocap", root / "emobox/iemocap"))
    assert folds == labels(read("iemocap", root / "derived_npz"))
    assert Counter(folds.values()) == {"happy": 1636, "sad": 1084, "neutral": 1708, "anger": 1103}
    votes, fold = labels(read("dfew", root / "dfew")), labels(read("dfew", root / "dfer_splits/mae_dfer/dfew"))
    assert fold.items() <= votes.items()
    assert Counter(labels(read("crema_d", root / "crema_d")).values()) == {
        **dict.fromkeys(("anger", "disgust", "fear", "happy", "sad"), 1271), "neutral": 1087
    }  # fmt: skip


def test_crema_d_from_the_list_of_names(shared: Path, tmp_path: Path) -> None:
    root = shared / "data/annotations/crema_d"
    (tmp_path / "SentenceFilenames.csv").symlink_to(root / "SentenceFilenames.csv")
    assert labels(read("crema_d", tmp_path)) == labels(read("crema_d", root))


def test_crema_d_codes_match_the_authors_labels(shared: Path) -> None:
    root = shared / "data/annotations/crema_d"
    written = {m.name.split("_", 1)[1]: m.answer for m in read_messages(root / "crema_d_annotations.json")}
    assert labels(read("crema_d", root)) == written


def test_emer_second_version(shared: Path, tmp_path: Path) -> None:
    name = "final-EMER-reason.csv"
    (tmp_path / name).symlink_to(shared / "data/annotations/emer" / name)
    second = read("emer", tmp_path)
    assert counts(second) == {"test eri": 332}
    merd = read("ov_merd", shared / "data/annotations/mer2024/ov_store")
    assert {s.id for s in second} == {s.id for s in merd}


def test_ravdess_file_names_agree_with_its_table(shared: Path) -> None:
    folder = shared / "data/corpora/ravdess_speech_16k"
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    found = ravdess.takes(folder)
    assert len(found) == 1200
    assert found == [{key: row[key] for key in found[0]} for row in written]


def test_goemotions_folded_equals_the_release_in_ekman_classes(shared: Path, tmp_path: Path) -> None:
    read_of = {}
    for kind in ("original", "ekman"):
        (tmp_path / kind).mkdir()
        for file in ("dev.tsv", "labels.txt"):
            (tmp_path / kind / file).symlink_to(shared / "data/corpora/text/goemotions" / kind / file)
        read_of[kind] = read("goemotions", tmp_path / kind)
    # A comment's labels come in another order where two of them fold.
    assert [(s.id, s.task, s.subtitle) for s in read_of["original"]] == [
        (s.id, s.task, s.subtitle) for s in read_of["ekman"]
    ]
    assert labels(read_of["original"]) == labels(read_of["ekman"])


@pytest.mark.parametrize(
    ("name", "folder", "predicted"),
    [
        ("cmu_mosi", ".", "affectgpt_mer_unibench/results-cmumosi"),
        ("meld", "meld", "affectgpt_mer_unibench/results-meld"),
        ("iemocap", "emobox/iemocap", "affectgpt_mer_unibench/results-iemocapfour"),
        ("ov_merd", "mer2024/ov_store", "ovmerd_baselines"),
    ],
)
def test_ids_are_those_of_the_published_predictions(shared: Path, name: str, folder: str, predicted: str) -> None:
    files = sorted((shared / "data/predictions" / predicted).glob("*/*-openset.npz"))
    with np.load(files[0], allow_pickle=True) as arrays:  # files that the project knows
        names = set(arrays["filenames"].tolist())
    assert {s.id for s in read(name, shared / "data/annotations" / folder) if s.split == "test"} == names


def test_pickled_file_needs_trust(shared: Path) -> None:
    for name in ("meld", "iemocap"):
        with pytest.raises(RecipeError, match="--trust-npz"):
            read(name, shared / "data/annotations/derived_npz", trust_npz=False)
