"""The SQLite file of a study: how it is made, recognised and opened."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Final

from nanoemox.study.plan import RatingPlan
from nanoemox.types import NanoEmoXError

_APPLICATION: Final = 0x4E454D58
"""Marks our files among all of SQLite's ("NEMX")."""
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE study (id INTEGER PRIMARY KEY CHECK (id = 1), fingerprint TEXT NOT NULL,
    seed INTEGER NOT NULL, lowest INTEGER NOT NULL, highest INTEGER NOT NULL);
CREATE TABLE criterion (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, question TEXT NOT NULL,
    anchors TEXT NOT NULL);
CREATE TABLE run (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE item (id INTEGER PRIMARY KEY, benchmark TEXT NOT NULL, name TEXT NOT NULL, dialogue TEXT NOT NULL,
    UNIQUE (benchmark, name));
CREATE TABLE response (id INTEGER PRIMARY KEY, item INTEGER NOT NULL REFERENCES item, run INTEGER NOT NULL
    REFERENCES run, text TEXT, UNIQUE (item, run));
CREATE TABLE rater (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, joined_at TEXT NOT NULL);
CREATE TABLE rating (rater INTEGER NOT NULL REFERENCES rater, response INTEGER NOT NULL REFERENCES response,
    criterion INTEGER NOT NULL REFERENCES criterion, score INTEGER NOT NULL, rated_at TEXT NOT NULL,
    PRIMARY KEY (rater, response, criterion));
"""


def publish_file(part: Path, path: Path) -> bool:
    """Move a file to its final name; return False if another, non-empty file has that name."""
    if path.is_file() and not path.stat().st_size:
        path.unlink()
    try:
        path.hardlink_to(part)
    except FileExistsError:
        if path.is_file():
            return False
        raise
    except OSError:  # no links on this file system
        part.replace(path)
    return True


def write_study(db: sqlite3.Connection, plan: RatingPlan) -> None:
    """Write a whole study into an empty file."""
    db.executescript(_SCHEMA)
    db.execute(f"PRAGMA application_id = {_APPLICATION}")
    db.execute(f"PRAGMA user_version = {_VERSION}")
    db.execute("INSERT INTO study VALUES (1, ?, ?, ?, ?)", (plan.digest, plan.seed, *plan.scale))
    for c in plan.criteria:
        row = (c.name, c.question, json.dumps(dict(c.anchors)))
        db.execute("INSERT INTO criterion (name, question, anchors) VALUES (?, ?, ?)", row)
    runs = [db.execute("INSERT INTO run (name) VALUES (?)", (name,)).lastrowid for name in plan.runs]
    for item in plan.items:
        turns = json.dumps([asdict(turn) for turn in item.dialogue])
        row_id = db.execute(
            "INSERT INTO item (benchmark, name, dialogue) VALUES (?, ?, ?)", (item.benchmark, item.name, turns)
        ).lastrowid
        rows = [(row_id, run, text) for run, text in zip(runs, item.replies, strict=True)]
        db.executemany("INSERT INTO response (item, run, text) VALUES (?, ?, ?)", rows)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for use by several threads, one at a time."""
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    db.text_factory = lambda data: data.decode("utf-8", "replace")
    try:
        mark = (db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0])
        if mark != (_APPLICATION, _VERSION):
            raise ValueError("of this version of nanoemox")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
    except sqlite3.OperationalError as error:
        db.close()
        raise NanoEmoXError(
            f"{path}: cannot be opened ({error}): make room on its disk, or allow writing there"
        ) from error
    except (sqlite3.Error, ValueError) as error:
        db.close()
        raise NanoEmoXError(f"{path}: not a study ({error}): give another --out") from error
    return db


def schema(db: sqlite3.Connection) -> dict[str, str]:
    """Return what a file defines: tables, and whatever else could run, such as triggers."""
    return dict(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def expected_schema() -> dict[str, str]:
    """Return what a file of ours defines."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_SCHEMA)
        return schema(db)
