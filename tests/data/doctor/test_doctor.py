from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from nanoemox.cli import app
from nanoemox.data.doctor.check import CheckOptions, Report, check
from nanoemox.data.doctor.findings import REMEDIES
from nanoemox.data.doctor.known import KNOWN_BAD, known_bad
from nanoemox.data.doctor.text import misread, nearest
from nanoemox.data.manifest import ClosedLabels, Sample, write_manifest
from nanoemox.data.prepare import prepare
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import RecipeError
from tests.training.toy import write_wav

CREMA = LABEL_SETS["crema_d"]


def row(key: str, **fields: Any) -> dict[str, Any]:
    """A line of a manifest of CREMA-D's kind."""
    label = fields.pop("label", "sad")
    base = {"id": key, "corpus": "crema_d", "split": "train", "task": "mer"}
    return {**base, "labels": {"label": label, "candidates": list(CREMA)}, "subtitle": f"Words of {key}.", **fields}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return path


def look(path: Path, **options: Any) -> Report:
    return check(path, options=CheckOptions(**options))


def found(report: Report, kind: str) -> list[tuple[str, str]]:
    return [(f.level, f.where) for f in report.findings if f.kind == kind]


def only(report: Report, *kinds: str) -> None:
    assert {f.kind for f in report.findings} == set(kinds), report.findings


# -------------------------------------------------------------------- media


@pytest.fixture
def media(tmp_path: Path) -> Path:
    write_wav(tmp_path / "voice.wav", 200)
    write_wav(tmp_path / "other.wav", 300)
    write_wav(tmp_path / "silent.wav", 0)
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    whole = (tmp_path / "voice.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "random.mp4").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "pointer.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    (tmp_path / "copy.wav").write_bytes(whole)
    return tmp_path


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_files_are_found(media: Path, workers: int) -> None:
    files = ("voice.wav", "gone.wav", "silent.wav", "noise.png", "cut.wav", "random.mp4", "pointer.wav")
    report = look(write(media / "m.jsonl", *(row(f, media=f) for f in files)), workers=workers)
    assert found(report, "missing") == [("error", "gone.wav")]
    assert found(report, "silent") == [("error", "silent.wav")]
    assert found(report, "faceless") == [("warning", "noise.png")]
    assert found(report, "truncated") == [("error", "cut.wav")]
    assert found(report, "unreadable") == [("error", "random.mp4"), ("error", "pointer.wav")]
    assert "git lfs pull" in next(f.what for f in report.findings if f.where == "pointer.wav")
    only(report, "missing", "silent", "faceless", "truncated", "unreadable")
    assert (report.samples, report.files, report.sound) == (7, 7, False)


def test_files_are_checked_for_the_modalities_in_use(media: Path) -> None:
    lines = [row("a", corpus="composed", media="noise.png", audio="voice.wav")]
    only(look(write(media / "m.jsonl", *lines)), "faceless")
    lines = [row("a", corpus="composed", media="noise.png", audio="silent.wav")]
    only(look(write(media / "m.jsonl", *lines)), "faceless", "silent")


def test_duplicates_are_found_and_worse_with_different_labels(media: Path) -> None:
    report = look(write(media / "m.jsonl", row("a", media="voice.wav"), row("b", media="copy.wav")))
    assert [level for level, _ in found(report, "duplicate")] == ["warning"]
    report = look(write(media / "m.jsonl", row("a", media="voice.wav"), row("b", media="copy.wav", label="anger")))
    assert [level for level, _ in found(report, "duplicate")] == ["error"]
    assert "anger, sad" in report.findings[0].what


def test_real_clips(shared: Path, tmp_path: Path) -> None:
    clips = shared / "data/media"
    for name in ("clips/sample_00002422.mp4", "clips/02-01-01-01-01-01-01.mp4", "broken/truncated_half.webm"):
        shutil.copy(clips / name, tmp_path)
    names = ("sample_00002422.mp4", "02-01-01-01-01-01-01.mp4", "truncated_half.webm")
    report = look(write(tmp_path / "m.jsonl", *(row(n, media=n) for n in names)))
    assert found(report, "silent") == [("warning", "02-01-01-01-01-01-01.mp4")]
    assert found(report, "truncated") == [("error", "truncated_half.webm")]
    only(report, "silent", "truncated")


# -------------------------------------------------------------------- lines, labels, words


def test_every_bad_line_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", row("a"), row("a"), {**row("b"), "spliit": 1}, row("c"))
    path.write_text(path.read_text() + "{oops\n")
    report = look(path)
    assert found(report, "line") == [("error", "m.jsonl:2"), ("error", "m.jsonl:3"), ("error", "m.jsonl:5")]
    assert report.samples == 2


def test_misspelt_labels(tmp_path: Path) -> None:
    lines = [*(row(str(i)) for i in range(4)), row("typo", label="hapy")]
    lines.append({**row("t2"), "labels": {"label": "angery", "candidates": [*CREMA, "angery"]}})
    report = look(write(tmp_path / "m.jsonl", *lines))
    assert found(report, "label") == [("error", "m.jsonl:5"), ("error", "t2")]
    assert "near 'happy'" in report.findings[0].what
    assert "'angery' (1 samples) is no mer label of crema_d: near 'anger'" in report.findings[1].what
    only(report, "label")


def test_rare_labels_of_a_table_that_resemble_others(tmp_path: Path) -> None:
    labels = {"candidates": ["cheerful", "chearful", "gloomy"]}
    words = ["cheerful"] * 30 + ["gloomy"] * 30 + ["chearful"]
    lines = [row(str(i), corpus="calls", labels={**labels, "label": w}) for i, w in enumerate(words)]
    report = look(write(tmp_path / "m.jsonl", *lines))
    assert found(report, "label") == [("warning", "60")]
    assert report.sound


def test_labels_are_checked_against_the_set_of_their_task(tmp_path: Path) -> None:
    labels = {"label": "positive", "candidates": list(LABEL_SETS["sentiment"])}
    mir = {"label": "greet", "candidates": ["greet", "leave"]}
    only(look(write(tmp_path / "m.jsonl", row("a", task="msa", labels=labels), row("b", task="mir", labels=mir))))


@pytest.mark.parametrize(
    ("label", "meant"), [("hapy", "happy"), ("Happiness", "happy"), ("SAD", "sad"), ("dancing", None)]
)
def test_nearest(label: str, meant: str | None) -> None:
    assert nearest(label, CREMA) == meant


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("Iâ€™m fine", "error"),
        ("caf\u00c3\u00a9", "error"),
        ("a \ufffd b", "error"),
        ("锟斤拷", "error"),
        ("it\u0092s", "error"),
        ("\ufeffhello", "warning"),
        ("It’s “fine”", "note"),
    ],
)
def test_wrong_encodings(tmp_path: Path, text: str, level: str) -> None:
    report = look(write(tmp_path / "m.jsonl", row("a", subtitle=text)))
    assert found(report, "encoding")[0] == (level, "a")
    only(report, "encoding")


@pytest.mark.parametrize(
    "text", ["café, naïve, Übermut", "你好，世界", "ça va? «Oui»", "São João", "Привет", "€5 – ok…"]
)
def test_other_languages_are_no_encoding_errors(text: str) -> None:
    assert misread(text) is None


def test_encoding_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", row("a"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert found(look(path), "encoding") == [("error", "m.jsonl:1")]
    path.write_bytes(json.dumps(row("a", subtitle="x")).replace("x", "é").encode("latin-1"))
    report = look(path)
    assert found(report, "encoding") == [("error", "m.jsonl:1"), ("error", "a")]


# -------------------------------------------------------------------- leaks


def test_leaks_between_splits(media: Path) -> None:
    lines = [
        row("a", media="voice.wav", speaker="ann"),
        row("a", media="other.wav", split="test", task="ovmer", labels={"labels": ["sad"]}),
        row("b", media="copy.wav", split="validation", speaker="ann"),
        row("c", subtitle="I said all of this before", split="train"),
        row("d", subtitle="I SAID all of this, before!", split="test"),
        row("e", subtitle="oh my god"),
        row("f", subtitle="oh my god", split="test"),
    ]
    report = look(write(media / "m.jsonl", *lines))
    assert found(report, "leak by name") == [("error", f"{media / 'm.jsonl'}: a")]
    assert found(report, "leak by content") == [("error", f"{media / 'm.jsonl'}: a")]
    assert found(report, "leak by speaker") == [("warning", f"{media / 'm.jsonl'}: a")]
    assert found(report, "leak by words") == [("error", f"{media / 'm.jsonl'}: c")]


def test_acted_corpora_may_repeat_their_sentences(media: Path) -> None:
    said = "acted words are always the same"
    lines = [row("a", media="voice.wav", subtitle=said), row("b", media="other.wav", subtitle=said, split="test")]
    report = look(write(media / "m.jsonl", *lines))
    assert [level for level, _ in found(report, "leak by words")] == ["note"]
    assert report.sound


def test_leaks_into_others(media: Path, tmp_path: Path) -> None:
    own = write(media / "own.jsonl", row("a", media="voice.wav", subtitle="what a lovely day it is"), row("b"))
    (tmp_path / "there").mkdir()
    shutil.copy(media / "voice.wav", tmp_path / "there/renamed.wav")
    other = write(
        tmp_path / "there/test.jsonl",
        row("x", corpus="calls", split="test", media="renamed.wav"),
        row("y", corpus="calls", split="test", subtitle="What a lovely day it is!"),
        row("b", split="test"),
        row("b", corpus="calls", split="test", task="ovmer", labels={"labels": ["sad"]}),
    )
    report = look(own, against=(other,))
    assert [f.what.split(" in ")[-1] for f in report.findings if f.kind == "leak by content"] == [f"{other}: x"]
    assert [f.what.split(" in ")[-1] for f in report.findings if f.kind == "leak by words"] == [f"{other}: y"]
    assert found(report, "leak by name") == [("error", f"{own}: b")]
    assert not report.sound
    whole = look(own, against=(tmp_path / "there",))  # a prepared folder: what it holds out
    assert whole.counts() == report.counts()


def test_shared_training_clips_are_no_leak(tmp_path: Path) -> None:
    said = "what a lovely day it is"
    own = write(tmp_path / "own.jsonl", row("a", subtitle=said))
    other = write(tmp_path / "other.jsonl", row("b", corpus="calls", subtitle=said))
    report = look(own, against=(other,))
    assert found(report, "leak by words") == [("note", f"{own}: a")]


def test_incomparable_annotations_are_reported(tmp_path: Path) -> None:
    own = write(tmp_path / "own.jsonl", row("a"))
    for name in ("x.npz", "gone.json"):
        with pytest.raises(RecipeError, match=name):
            look(own, against=(tmp_path / name,))


# -------------------------------------------------------------------- leaks in the real files


def test_mintrec_trains_on_the_development_lists_of_mmla(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/annotations"
    for corpus, authors, mmla, shared_clips in (
        ("mintrec", "MIntRec", "MIntRec", 445),
        ("mintrec2", "MIntRec2", "MIntRec2.0", 841),
    ):
        root = tmp_path / corpus
        root.mkdir()
        for part in ("train", "test"):
            shutil.copy(folder / f"mintrec/{part}_{authors}_ann.json", root)
        options = CheckOptions(against=(folder / f"mmla/{mmla}_dev_intent_llamafactory.json",), media=False)
        report = check(corpus, root, options)
        assert report.counts()["leak by name"] == {"error": shared_clips}
        assert report.counts()["leak by words"]["error"] > 350


def _meld_test(shared: Path, out: Path) -> Path:
    prepare("meld", shared / "data/annotations/meld", out)
    return out / "test.jsonl"


def _manifest(path: Path, corpus: str, said: list[tuple[str, str]]) -> Path:
    labels = ClosedLabels(label="neutral", candidates=LABEL_SETS["meld"])
    samples = [
        Sample(id=key, corpus=corpus, split="train", task="mer", labels=labels, subtitle=text)
        for key, text in said
        if text.strip()
    ]
    return write_manifest(samples, path)


def test_ecf_holds_utterances_of_the_test_part_of_meld(shared: Path, tmp_path: Path) -> None:
    said = []
    for part in ("dev", "test"):
        talks = json.loads((shared / f"data/annotations/ecf_emotion_cause/{part}.json").read_text())
        said += [
            (f"{part}_{t['conversation_ID']}_{u['utterance_ID']}", u["text"]) for t in talks for u in t["conversation"]
        ]
    report = look(_manifest(tmp_path / "ecf.jsonl", "ecf", said), against=(_meld_test(shared, tmp_path / "meld"),))
    assert report.counts()["leak by words"] == {"error": 830}


def test_meld_dyadic_is_made_of_meld(shared: Path, tmp_path: Path) -> None:
    test = _meld_test(shared, tmp_path / "meld")
    with (shared / "data/annotations/meld/MELD_Dyadic/test_sent_emo_dya.csv").open(encoding="utf-8") as file:
        said = [(str(i), r["Utterance"]) for i, r in enumerate(csv.DictReader(file))]
    report = look(_manifest(tmp_path / "dyadic.jsonl", "meld_dyadic", said), against=(test,))
    assert report.counts()["leak by words"]["error"] > 1500
    # The other way round, from the annotation file as it is, which does not say what it is for.
    report = look(test, against=(shared / "data/annotations/meld/MELD_Dyadic/test_sent_emo_dya.csv",), media=False)
    assert report.counts()["leak by words"] == {"warning": 1854}
    assert report.counts()["known"] == {"warning": 2}


def test_wrong_encoding_in_the_authors_mintrec2(shared: Path, tmp_path: Path) -> None:
    shutil.copy(shared / "data/annotations/mintrec/train_MIntRec2_ann.json", tmp_path)
    report = check("mintrec2", tmp_path, CheckOptions(media=False))
    wrong = [f for f in report.findings if (f.kind, f.level) == ("encoding", "error")]
    assert [f.where for f in wrong] == ["dia990_utt30", "dia990_utt34", "dia990_utt39"]
    assert "should be 'ö'" in wrong[0].what


# -------------------------------------------------------------------- known clips, command


def test_known_bad_clips() -> None:
    ids = {"meld": "train_dia125_utt3", "cmu_mosi": "c5xsKMxpXnc_3", "crema_d": "1076_MTI_SAD_XX"}
    assert set(ids) == set(KNOWN_BAD)
    samples = [Sample.model_validate(row(key, corpus=corpus)) for corpus, key in ids.items()]
    assert [(f.level, f.where) for f in known_bad(samples)] == [("error", key) for key in ids.values()]
    held = Sample.model_validate(row("test_dia38_utt4", corpus="meld", split="test"))
    assert [(f.level, f.where) for f in known_bad([held, held])] == [("warning", "test_dia38_utt4")]
    good = [Sample.model_validate(row(key, corpus="meld")) for key in ("train_dia125_utt30", "test_dia125_utt3")]
    assert not list(known_bad(good))


def test_known_clips_are_those_of_the_real_tables(shared: Path) -> None:
    report = check("meld", shared / "data/annotations/meld", CheckOptions(media=False))
    assert report.counts()["known"] == {"error": 12, "warning": 3}
    report = check("crema_d", shared / "data/annotations/crema_d", CheckOptions(media=False))
    assert report.counts()["known"] == {"error": 4}


def run(*args: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["check", *map(str, args)], env={"COLUMNS": "160"})
    return done.exit_code, done.output


def test_command(tmp_path: Path) -> None:
    sound = write(tmp_path / "sound.jsonl", row("a"), row("b"))
    code, text = run(sound)
    assert (code, "nothing that would break or spoil training" in text) == (0, True)
    bad = write(tmp_path / "bad.jsonl", row("a", media="gone.mp4"), row("b", subtitle="\x1b[31mIâ€™m"))
    code, text = run(bad, "--against", sound)
    assert code == 2
    for part in ("missing", "encoding", "gone.mp4: no such file", REMEDIES["missing"][:20], "would break or spoil"):
        assert part in text
    assert "\x1b[31mI" not in text
    code, text = run(bad, "--json")
    told = json.loads(text)
    assert (code, told["sound"], told["counts"]) == (2, False, {"encoding": {"error": 1}, "missing": {"error": 1}})
    assert {f["kind"] for f in told["findings"]} <= set(told["remedies"]) == {"encoding", "missing"}
    assert run(bad, "--no-media", "--json")[0] == 2


def test_mistakes_on_the_command_line(tmp_path: Path) -> None:
    code = "from nanoemox.cli import main\nmain(['check', 'gone.jsonl'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("nanoemox: gone.jsonl: no such file")
    with pytest.raises(RecipeError, match="no reader"):
        check("dance", tmp_path)


def test_checking_clips_needs_no_torch() -> None:
    code = "import sys, nanoemox.data.doctor.check, nanoemox.cli.render\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
