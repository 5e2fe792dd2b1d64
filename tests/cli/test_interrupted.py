"""SIGKILL, full disks and concurrent writers: a run and a study recover or refuse."""

from __future__ import annotations

import errno
import json
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanoemox import cli
from nanoemox.benchmarks import evaluate as run_module
from nanoemox.benchmarks.answerer import Reply
from nanoemox.benchmarks.evaluate import EvaluateOptions, evaluate_run
from nanoemox.benchmarks.predict import ProcessRank
from nanoemox.benchmarks.records import Benchmark
from nanoemox.data.files import sole_writer
from nanoemox.data.manifest import Sample
from nanoemox.study.plan import plan_study
from nanoemox.study.results import export_ratings
from nanoemox.study.store import RatingStore, create_study
from nanoemox.types import NanoEmoXError
from tests.study.rated_runs import two_runs

LABELS = ("joy", "anger", "sadness", "neutral", "disgust", "fear", "surprise")
KILLER = """
import os, signal, sys
from pathlib import Path
left, fsync, replace = [int(sys.argv[3])], os.fsync, Path.replace
def count():
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def dying_fsync(handle):
    count(); fsync(handle); count()
def dying_replace(self, target):
    count(); found = replace(self, target); count(); return found
os.fsync, Path.replace = dying_fsync, dying_replace
from tests.cli.test_interrupted import evaluate
evaluate(Path(sys.argv[1]), Path(sys.argv[2]))
"""


class Echo:
    """Answers by the number in the words."""

    name = "echo"
    settings = {"model": "echo"}  # noqa: RUF012

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        labels = [LABELS[len(s.subtitle or "") % 7] for s in samples]
        return [Reply(label, {"label": label, "probabilities": {label: 0.5}}, "0" * 64) for label in labels]


def evaluate(data_root: Path, out: Path) -> dict[str, Any] | None:
    @contextmanager
    def opened(*_: object) -> Iterator[Any]:
        yield Echo(), ProcessRank(), lambda: None

    before, run_module.open_answerer = run_module.open_answerer, opened
    try:
        return evaluate_run(EvaluateOptions(benchmarks=("meld",), data_root=data_root, out=out, batch=2))
    finally:
        run_module.open_answerer = before


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    rows = [
        {"id": f"test_dia{i // 2}_utt{i}", "split": "test", "subtitle": "w" * i + "!", "corpus": "meld", "task": "mer",
         "labels": {"label": LABELS[i % 7], "candidates": LABELS}}
        for i in range(6)
    ]  # fmt: skip
    folder = tmp_path / "data" / "manifests"
    folder.mkdir(parents=True)
    (folder / "meld.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder.parent


def contents(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in sorted(out.rglob("*")):
        if file.suffix in (".jsonl", ".json", ".md"):
            found[str(file.relative_to(out))] = file.read_text("utf-8")
    return found


@pytest.mark.parametrize("at", [1, 4, 9, 30, 35, 46])
def test_kill_nine_and_resume(data_root: Path, tmp_path: Path, at: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    evaluate(data_root, whole)
    command = [sys.executable, "-c", KILLER, str(data_root), str(killed), str(at)]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-300:]
    evaluate(data_root, killed)
    assert contents(killed) == contents(whole)


@pytest.mark.parametrize("limit", [30, 700, 2000, 4000])
def test_full_disk_is_reported_and_finished_answers_are_kept(data_root: Path, tmp_path: Path, limit: int) -> None:
    """A limit on the size of files fails in the middle of a write, as a full disk does."""
    whole, full = tmp_path / "whole", tmp_path / "full"
    evaluate(data_root, whole)
    with small_files(limit), pytest.raises(NanoEmoXError, match="answers so far are kept"):
        evaluate(data_root, full)
    evaluate(data_root, full)
    assert contents(full) == contents(whole)
    assert not list(full.rglob("*.partial"))


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_second_writer_is_refused(data_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with sole_writer(out), pytest.raises(NanoEmoXError, match="another process is writing here"):
        evaluate(data_root, out)
    assert evaluate(data_root, out) is not None


def test_two_servers_of_one_study_lose_no_score(tmp_path: Path) -> None:
    study = tmp_path / "study.sqlite"
    create_study(study, plan_study(two_runs(tmp_path), 200, 0))

    def rate(name: str) -> None:
        with closing(RatingStore(study)) as store:
            store.join(name)
            for position in range(12):
                store.rate(name, store.show(name, position).key, "empathy", 1 + position % 5)

    threads = [threading.Thread(target=rate, args=(name,)) for name in ("ann", "bob", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with closing(RatingStore(study)) as store:
        assert len(store.ratings()) == 36


def test_existing_study_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are started at once: the second finds the file only when its own is ready."""
    study, runs = tmp_path / "study.sqlite", two_runs(tmp_path)
    ours, theirs = plan_study(runs, 200, 0), plan_study(runs, 2, 1)
    create_study(study, theirs)
    exists = Path.exists
    hidden = iter([True])
    monkeypatch.setattr(Path, "exists", lambda self: False if self == study and next(hidden, False) else exists(self))
    with pytest.raises(NanoEmoXError, match="is another study"):
        create_study(study, ours)
    with closing(RatingStore(study)) as store:
        assert store.digest == theirs.digest
    assert not list(tmp_path.glob("*.part"))


NEW_STUDY = """
import os, signal, sys
from pathlib import Path
from nanoemox.study.plan import plan_study
from nanoemox.study.store import create_study
link = Path.hardlink_to
def dying(self, target):
    if sys.argv[2] == "after":
        link(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.hardlink_to = dying
create_study(Path(sys.argv[1]), plan_study([Path(run) for run in sys.argv[3:]], 200, 0))
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_kill_nine_while_a_study_is_created(tmp_path: Path, when: str) -> None:
    study, runs = tmp_path / "study.sqlite", two_runs(tmp_path)
    command = [sys.executable, "-c", NEW_STUDY, str(study), when, *map(str, runs)]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-300:]
    assert study.exists() == (when == "after")
    plan = plan_study(runs, 200, 0)
    create_study(study, plan)
    with closing(RatingStore(study)) as store:
        assert store.digest == plan.digest


def test_full_disk_while_rating(tmp_path: Path) -> None:
    study, plan = tmp_path / "study.sqlite", plan_study(two_runs(tmp_path), 200, 0)
    with small_files(4096), pytest.raises(NanoEmoXError, match="cannot be written"):
        create_study(study, plan)
    assert not list(tmp_path.glob("study*"))
    create_study(study, plan)
    with small_files(1000), pytest.raises(NanoEmoXError, match=r"cannot be opened .*: make room"):
        RatingStore(study)
    saved: dict[tuple[str, int], int] = {}
    with closing(RatingStore(study)) as store:
        store.join("ann")
        keys = [store.show("ann", position).key for position in range(12)]

        def rate(number: int) -> None:
            for i in range(number):
                store.rate("ann", keys[i % 12], "empathy", 1 + i % 5)
                saved["empathy", i % 12] = 1 + i % 5

        with small_files(60_000), pytest.raises(sqlite3.Error, match=r"full|disk I/O"):
            rate(500)
        store.rate("ann", keys[0], "insight", 5)
    with closing(RatingStore(study)) as store:
        found = {(c, i): score for i in range(12) for c, score in store.show("ann", i).scores.items()}
    assert saved
    assert found == saved | {("insight", 0): 5}


def test_full_disk_keeps_the_old_ratings_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, table = tmp_path / "study.sqlite", tmp_path / "ratings.csv"
    create_study(study, plan_study(two_runs(tmp_path), 200, 0))
    table.write_text("old", "utf-8")

    def full(self: Path, text: str, *_: object) -> int:
        with self.open("w", encoding="utf-8") as file:
            file.write(text[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(NanoEmoXError, match=r"ratings.csv.*: No space left on device"):
        export_ratings(study, table)
    assert table.read_text("utf-8") == "old"
    assert not list(tmp_path.glob("*.partial"))


ANSWERING = """
import io, os, signal, sys
from nanoemox import cli

class Dying(io.FileIO):
    writes = 0
    def write(self, data):
        Dying.writes += 1
        if Dying.writes == 2:
            super().write(data[: int(len(data) * float(sys.argv[1]))])
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(data)

io.FileIO = Dying
cli.main(sys.argv[2:])
"""
"""Dies when a part of the second clip's row is written."""


def answer_into(table: Path, clips: Path) -> list[str]:
    return ["answer", str(clips), "--model", "mini", "--device", "cpu", "--task", "mer", "--csv", str(table)]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_kill_nine_while_a_table_of_answers_is_written(tmp_path: Path, share: float) -> None:
    clips, whole, killed = tmp_path / "clips", tmp_path / "whole.csv", tmp_path / "killed.csv"
    clips.mkdir()
    for i in range(3):
        with wave.open(str(clips / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            noise = np.random.default_rng(i).normal(0, 3000, 8000)
            file.writeframes(noise.astype("<i2").tobytes())
    command = [sys.executable, "-c", ANSWERING, str(share), *answer_into(killed, clips)]
    done = subprocess.run(command, capture_output=True, timeout=240, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-300:]
    left = killed.read_bytes()
    for table in (whole, killed):
        with pytest.raises(SystemExit) as stop:
            cli.main(answer_into(table, clips))
        assert not stop.value.code
    assert 0 < len(left) < len(whole.read_bytes())
    assert killed.read_bytes() == whole.read_bytes()
