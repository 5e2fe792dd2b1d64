"""Truth from label files of all formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanoemox.benchmarks.records import get_benchmark
from nanoemox.benchmarks.truth import read_truth
from nanoemox.data.manifest import ClosedLabels, OpenLabels, Sample, write_manifest
from nanoemox.types import NanoEmoXError

LABELS = ("sad", "happy")


@pytest.mark.parametrize(
    ("benchmark", "file", "count", "first"),
    [
        ("meld", "derived_npz/meld_label.npz", 2610, ("test_dia0_utt0", "surprise")),
        ("meld", "meld/MELD/test_sent_emo.csv", 2610, ("test_dia0_utt0", "surprise")),
        ("iemocap", "derived_npz/iemocap_label_4way.npz", 1241, ("Ses05F_impro01_F000", "neutral")),
        ("cmu_mosi", "mmla/swift/MOSI/test.jsonl", 686, ("c7UH_rxdZv4_24", "negative")),
        ("ch_sims_v2", "mmla/swift/Ch-sims/test.jsonl", 1031, ("video_0001_0003", "negative")),
        ("mintrec", "mintrec/test_MIntRec_ann.json", 445, ("S06_E04_70", "Arrange")),
        ("mintrec", "mmla/swift/MIntRec/test.jsonl", 445, ("S06_E04_70", "arrange")),
        ("mintrec2", "mmla/swift/MIntRec2.0/test.jsonl", 2033, ("dia9_utt1", "flaunt")),
        ("mintrec2_paper", "mintrec/test_MIntRec2_ann.json", 1044, ("dia15_utt0", "Thank")),
        ("ov_merd", "mer2024/ov_store/check-openset.csv", 332, None),
        ("emer", "emer/gt-eng.csv", 100, None),
        ("emer", "emer/final-EMER-reason.csv", 332, None),
    ],
)
def test_real_label_files(shared: Path, benchmark: str, file: str, count: int, first: Any) -> None:
    truth = read_truth(shared / "data" / "annotations" / file, get_benchmark(benchmark), trust_npz=True)
    assert len(truth) == count
    if first is not None:
        assert next(iter(truth.items())) == first


def test_real_folders(shared: Path, tmp_path: Path) -> None:
    annotations = shared / "data" / "annotations"
    assert len(read_truth(annotations / "meld", get_benchmark("meld"))) == 2610
    paper = read_truth(annotations / "mintrec" / "test_MIntRec2_ann.json", get_benchmark("mintrec2_paper"))
    whole = read_truth(annotations, get_benchmark("mintrec2"))
    assert len(whole) == 2033
    assert set(paper) <= set(whole)
    assert set(read_truth(annotations, get_benchmark("mintrec2_paper"))) == set(paper)
    with pytest.raises(NanoEmoXError, match=r"holds no test_MIntRec2_ann\.json"):
        read_truth(
            write_manifest([sample("a", "mer")], tmp_path / "test.jsonl").parent, get_benchmark("mintrec2_paper")
        )
    assert all(str(label).lower() == whole[name] for name, label in paper.items())


def test_labels_of_mer_unibench(tmp_path: Path) -> None:
    path = tmp_path / "label.npz"
    np.savez(path, test1_corpus={"a": {"emo": "worried", "val": -1.0}}, train_corpus={})
    assert read_truth(path, get_benchmark("mer2023"), trust_npz=True) == {"a": "worried"}
    with pytest.raises(NanoEmoXError, match="--trust-npz"):
        read_truth(path, get_benchmark("mer2023"))
    np.savez(path, test_corpus={"a": {"emo": 0, "val": 0.0}, "b": {"emo": 0, "val": -0.4}, "c": {"val": 2}})
    found = read_truth(path, get_benchmark("cmu_mosei"), trust_npz=True)
    assert found == {"a": "neutral", "b": "negative", "c": "positive"}


def test_tables_of_releases(tmp_path: Path) -> None:
    sims = tmp_path / "label.csv"
    sims.write_text("video_id,clip_id,text,label,mode\nv1,0001,x,0.6,test\nv1,0002,x,-1,train\n", "utf-8")
    assert read_truth(sims, get_benchmark("ch_sims")) == {"v1_0001": "positive"}
    mer = tmp_path / "reference-semi.csv"
    mer.write_text("name,discrete\ns1,worried\n", "utf-8")
    assert read_truth(mer, get_benchmark("mer2024")) == {"s1": "worried"}
    first, second = tmp_path / "test.tsv", tmp_path / "test2.tsv"
    first.write_text("season\tepisode\tclip\ttext\tlabel\nS05\tE01\t7\tHi\tGreet\n", "utf-8")
    second.write_text("dialogue_id\tutterance_id\ttext\tlabel\n3\t1\tHi\tGreet\n", "utf-8")
    assert read_truth(first, get_benchmark("mintrec")) == {"S05_E01_7": "Greet"}
    assert read_truth(second, get_benchmark("mintrec2")) == {"dia3_utt1": "Greet"}


def test_dialogues(tmp_path: Path) -> None:
    turns = [{"turn_id": "0"}, {"turn_id": "1", "chain_of_empathy": {"speaker_emotion": "anxious"}}]
    talk = {"conversation_id": "03998", "speaker_profile": {"ID": 60}, "turns": turns}
    (tmp_path / "test.json").write_text(json.dumps([talk]), "utf-8")
    assert read_truth(tmp_path / "test.json", get_benchmark("avamerg")) == {"dia03998utt2_60": "anxious"}


def test_custom_truth_files(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("name,label\na,anxious\n", "utf-8")
    (tmp_path / "own.json").write_text('{"a": ["sad", "low"], "b": "joy"}', "utf-8")
    assert read_truth(tmp_path / "own.csv", get_benchmark("avamerg")) == {"a": "anxious"}
    assert read_truth(tmp_path / "own.json", get_benchmark("ov_merd")) == {"a": ("sad", "low"), "b": "joy"}


def sample(name: str, task: str, split: Any = "test") -> Sample:
    labels = ClosedLabels(label="sad", candidates=LABELS) if task == "mer" else OpenLabels(labels=("cross", "sad"))
    return Sample(id=name, corpus="meld", split=split, task=task, labels=labels, subtitle="Oh.")


def test_manifests(tmp_path: Path) -> None:
    path = write_manifest(
        [sample("a", "mer"), sample("a", "ovmer"), sample("b", "mer", "train")], tmp_path / "test.jsonl"
    )
    assert read_truth(path, get_benchmark("meld")) == {"a": "sad"}
    assert read_truth(path, get_benchmark("ov_merd")) == {"a": ("cross", "sad")}
    assert read_truth(tmp_path, get_benchmark("meld")) == {"a": "sad"}
    with pytest.raises(NanoEmoXError, match="holds no label of cmu_mosi's test part"):
        read_truth(path, get_benchmark("cmu_mosi"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npz", b"", "not a file of numpy arrays"),
        ("x.json", b"[]", "not a label file|holds no label"),
        ("x.json", b"[1]", "not a label file of meld"),
        ("x.json", b"{", "not JSON"),
        ("x.json", b"[" * 200_000, "not JSON"),
        ("x.json", b'{"a": [1]}', "neither a text nor a list"),
        ("x.jsonl", b"", "holds no label"),
        ("x.jsonl", b"[1]\n", "x.jsonl"),
        ("x.csv", b"a,b\n1,2\n", "no table of meld; its columns are a, b"),
        ("x.doc", b"", "not a label file: give .npz"),
        ("absent.json", None, "No such file"),
    ],
)
def test_hostile_files(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(NanoEmoXError, match=message):
        read_truth(tmp_path / name, get_benchmark("meld"), trust_npz=True)
