"""The study file: order, immediate saving, resuming, invalid files."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from nanoemox.study.plan import plan_study
from nanoemox.study.store import MAX_NAME_CHARS, RaterProgress, RatingStore, UnknownError, create_study
from nanoemox.types import NanoEmoXError
from tests.study.rated_runs import CRITERIA, reply_row, two_runs, write_run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "sub" / "study.sqlite"
    create_study(path, plan_study(two_runs(tmp_path), 200, 0))
    return path


def texts(store: RatingStore, rater: str) -> list[str]:
    return [store.show(rater, i).text for i in range(store.progress(rater).total)]


def rate_all(store: RatingStore, rater: str, position: int, score: int) -> RaterProgress:
    key = store.show(rater, position).key
    return [store.rate(rater, key, name, score) for name in CRITERIA][-1]


def test_order(study: Path) -> None:
    with closing(RatingStore(study)) as store:
        orders = [texts(store, store.join(f"rater {i}")) for i in range(12)]
    for order in orders:
        assert len(set(order)) == 12
        assert [a.split()[1] for a in order[::2]] == [b.split()[1] for b in order[1::2]]  # replies to a clip together
        assert [a.split()[1] for a in order] == [a.split()[1] for a in orders[0]]  # clips in one order for all
    assert len({tuple(order) for order in orders}) > 8
    first = [text.startswith("Hm") for order in orders for text in order[::2]]
    assert 0.3 < sum(first) / len(first) < 0.7


def test_keys_differ_by_rater_and_are_opaque(study: Path) -> None:
    with closing(RatingStore(study)) as store:
        keys = [[store.show(store.join(name), i).key for i in range(12)] for name in ("a", "b")]
    assert len({*keys[0], *keys[1]}) == 24


def test_rater_resumes_where_they_stopped(study: Path, tmp_path: Path) -> None:
    with closing(RatingStore(study)) as store:
        name = store.join("  Änne O'Neill ")
        assert name == "Änne O'Neill"
        assert rate_all(store, name, 0, 4) == RaterProgress(12, 1, 1)
        store.rate(name, store.show(name, 1).key, "insight", 2)
        rate_all(store, name, 2, 5)
        before = texts(store, name)
    create_study(study, plan_study([tmp_path / "alpha", tmp_path / "omega"], 200, 0))
    with closing(RatingStore(study)) as store:
        assert store.join("Änne O'Neill") == name
        assert store.raters() == (name,)
        assert store.progress(name) == RaterProgress(12, 2, 1)
        assert store.show(name, 1).scores == {"insight": 2}
        assert texts(store, name) == before


def test_scores_can_be_changed_and_withdrawn(study: Path) -> None:
    with closing(RatingStore(study)) as store:
        name = store.join("a")
        key = store.show(name, 0).key
        for score in (1, 5, 5):
            store.rate(name, key, "safety", score)
        assert [(r.criterion, r.score) for r in store.ratings()] == [("safety", 5)]
        store.rate(name, key, "safety", None)
        assert store.ratings() == []


def test_scores_survive_a_kill(study: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from nanoemox.study.store import RatingStore\n"
        "store = RatingStore(Path(sys.argv[1]))\nname = store.join('a')\n"
        "store.rate(name, store.show(name, 0).key, 'empathy', 3)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(study)], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    with closing(RatingStore(study)) as store:
        assert [(r.rater, r.criterion, r.score) for r in store.ratings()] == [("a", "empathy", 3)]


def test_unanswered_clips_are_not_rated(tmp_path: Path) -> None:
    first = write_run(tmp_path / "x", [reply_row("a", "A"), reply_row("b", "B")])
    second = write_run(tmp_path / "y", [reply_row("a", None), reply_row("b", "BB")])
    create_study(tmp_path / "s", plan_study([first, second], 9, 0))
    with closing(RatingStore(tmp_path / "s")) as store:
        assert sorted(texts(store, store.join("r"))) == ["A", "B", "BB"]
        places = {(s.text, s.place[1]) for i in range(3) if (s := store.show("r", i))}
        assert places == {("A", 1), ("B", 2), ("BB", 2)}


def test_another_study_is_refused(study: Path, tmp_path: Path) -> None:
    runs = [tmp_path / "alpha", tmp_path / "omega"]
    RatingStore(study).close()
    before = study.read_bytes()
    for plan in (plan_study(runs[:1], 200, 0), plan_study(runs, 3, 0), plan_study(runs, 200, 1)):
        with pytest.raises(NanoEmoXError, match=r"another study .*give another --out"):
            create_study(study, plan)
    write_run(tmp_path / "omega", [reply_row(f"c{i}", f"changed {i}") for i in range(6)])
    with pytest.raises(NanoEmoXError, match="alpha, omega; 6 clips; seed 0"):
        create_study(study, plan_study(runs, 200, 0))
    assert study.read_bytes() == before


def test_files_that_are_not_studies(tmp_path: Path) -> None:
    plan = plan_study(two_runs(tmp_path), 2, 0)
    text, foreign, cut = tmp_path / "t.txt", tmp_path / "f.sqlite", tmp_path / "cut.sqlite"
    text.write_text("my thesis" * 500)
    with closing(sqlite3.connect(foreign)) as db, db:
        db.execute("CREATE TABLE mine (x)")
    create_study(cut, plan)
    with closing(sqlite3.connect(cut)) as db, db:
        db.execute("DELETE FROM study")
    wrong = {
        "trigger": "CREATE TRIGGER t AFTER INSERT ON rater BEGIN DELETE FROM rating; END",
        "fewer": "DROP TABLE rating",
        "lack": "DELETE FROM response WHERE id = 1",
        "off": "INSERT INTO rater VALUES (1, 'r', ''); INSERT INTO rating VALUES (1, 1, 1, 9, '')",
        "text": "INSERT INTO rater VALUES (1, 'r', ''); INSERT INTO rating VALUES (1, 1, 1, 'much', '')",
    }
    for name, change in wrong.items():
        create_study(tmp_path / name, plan)
        with closing(sqlite3.connect(tmp_path / name)) as db, db:
            db.executescript(change)
        with pytest.raises(NanoEmoXError, match=f"{name}: a study that cannot be read"):
            RatingStore(tmp_path / name)
    for path in (text, foreign, cut):
        before = path.read_bytes()
        with pytest.raises(NanoEmoXError, match=f"{path.name}: (not a study|a study that cannot be read)"):
            create_study(path, plan)
        assert path is cut or path.read_bytes() == before
    with pytest.raises(NanoEmoXError, match="cannot be written"):
        create_study(text / "study.sqlite", plan)
    with pytest.raises(NanoEmoXError, match="no such study; start one"):
        RatingStore(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["", "  ", "x" * (MAX_NAME_CHARS + 1), "a\nb", "a\0b", "\u202egnp"])
def test_invalid_rater_names(study: Path, name: str) -> None:
    with closing(RatingStore(study)) as store, pytest.raises(NanoEmoXError, match="a name has 1 to 80"):
        store.join(name)


def test_unknown_keys_and_criteria(study: Path) -> None:
    with closing(RatingStore(study)) as store:
        name, key = store.join("a"), store.show("a", 0).key
        other = store.show(store.join("b"), 0).key
        with pytest.raises(UnknownError, match="no rater 'c'"):
            store.progress("c")
        for position in (-1, 12):
            with pytest.raises(UnknownError, match="there are 12 replies"):
                store.show(name, position)
        for reply, criterion in ((other, "empathy"), ("", "empathy"), (key, "charm")):
            with pytest.raises(UnknownError):
                store.rate(name, reply, criterion, 3)
        for score in (0, 6, -1):
            with pytest.raises(NanoEmoXError, match="from 1 to 5"):
                store.rate(name, key, "empathy", score)
        assert store.ratings() == []
