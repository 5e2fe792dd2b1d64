"""Storage of a blind human study in one SQLite file: items, raters and scores, each written immediately.

Clips come in the same order for all raters, so that those who stop early have rated the same clips; the replies to a
clip come in a different order for each rater. A rater's browser knows a reply by an opaque key, unrelated to its run.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final

from nanoemox.study.file import connect, expected_schema, publish_file, schema, write_study
from nanoemox.study.plan import Criterion, RatingPlan, describe_study
from nanoemox.types import NanoEmoXError

MAX_NAME_CHARS: Final = 80


class UnknownError(NanoEmoXError):
    """A rater, reply or criterion that this study does not have."""


@dataclass(frozen=True, slots=True)
class RatingItem:
    """A reply as a rater sees it.

    Attributes:
        position: Its place in the rater's order, from 0.
        total: How many replies the rater is to rate.
        key: Opaque key of the reply for this rater.
        dialogue: Turns, each with role and text.
        text: The reply.
        place: Number of the reply among those to this clip, from 1, and their count.
        scores: Criterion -> score given so far.
    """

    position: int
    total: int
    key: str
    dialogue: list[dict[str, str]]
    text: str
    place: tuple[int, int]
    scores: dict[str, int]


@dataclass(frozen=True, slots=True)
class RaterProgress:
    """The progress of one rater.

    Attributes:
        total: Replies to rate.
        done: Replies with a score on every criterion.
        next: Position of the first incomplete reply; ``total`` if all are complete.
    """

    total: int
    done: int
    next: int


@dataclass(frozen=True, slots=True)
class Rating:
    """One score, unblinded."""

    rater: str
    benchmark: str
    clip: str
    run: str
    criterion: str
    score: int
    rated_at: str


@dataclass(frozen=True, slots=True)
class _RatingSlot:
    """A reply in a rater's order."""

    key: str
    response: int
    item: int


class RatingStore:
    """An existing study.

    Args:
        path: Its file.

    Raises:
        NanoEmoXError: There is none, or the file is something else.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise NanoEmoXError(f"{path}: no such study; start one with nanoemox rate RUN_A RUN_B --out {path}")
        self._lock = Lock()
        self._db = connect(path)
        try:
            if (
                schema(self._db) != expected_schema()
                or self._db.execute("PRAGMA integrity_check").fetchone()[0] != "ok"
            ):
                raise ValueError("its tables are damaged or not ours")
            row = self._db.execute("SELECT fingerprint, seed, lowest, highest FROM study").fetchone()
            self.digest, self.seed, self.scale = str(row[0]), int(row[1]), (int(row[2]), int(row[3]))
            found = self._db.execute("SELECT name, question, anchors FROM criterion ORDER BY id").fetchall()
            self.criteria = tuple(Criterion(name, question, json.loads(anchors)) for name, question, anchors in found)
            self.runs = tuple(str(row[0]) for row in self._db.execute("SELECT name FROM run ORDER BY id"))
            self.num_items = int(self._db.execute("SELECT count(*) FROM item").fetchone()[0])
            low, high = self.scale
            if any(answered.keys() != set(self.runs) for _, _, answered in self.items()):
                raise ValueError("a clip lacks a run")
            if not all(type(rating.score) is int and low <= rating.score <= high for rating in self.ratings()):
                raise ValueError("it holds scores off its scale")
        except (sqlite3.Error, TypeError, ValueError) as error:
            self._db.close()
            raise NanoEmoXError(f"{path}: a study that cannot be read ({error})") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __str__(self) -> str:
        return describe_study(self.runs, self.num_items, self.seed)

    def join(self, name: str) -> str:
        """Register a rater, or recognise a returning one; return the stripped name.

        Raises:
            NanoEmoXError: The name is empty, too long or not printable.
        """
        name = name.strip()
        if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
            raise NanoEmoXError(f"a name has 1 to {MAX_NAME_CHARS} printable characters")
        with self._write() as db:
            db.execute("INSERT OR IGNORE INTO rater (name, joined_at) VALUES (?, ?)", (name, _now()))
        return name

    def progress(self, rater: str) -> RaterProgress:
        """Return the progress of a rater."""
        with self._lock:
            order, done = self._order(rater), self._complete(rater)
        first = next((i for i, place in enumerate(order) if place.response not in done), len(order))
        return RaterProgress(len(order), len(done), first)

    def show(self, rater: str, position: int) -> RatingItem:
        """Return the reply at a position of a rater's order.

        Raises:
            UnknownError: No such rater or position.
        """
        with self._lock:
            order = self._order(rater)
            if not 0 <= position < len(order):
                raise UnknownError(f"position {position}: there are {len(order)} replies")
            place = order[position]
            text, dialogue = self._db.execute(
                "SELECT text, dialogue FROM response JOIN item ON item.id = item WHERE response.id = ?",
                (place.response,),
            ).fetchone()
            scores = self._db.execute(
                "SELECT criterion.name, score FROM rating JOIN criterion ON criterion.id = criterion "
                "JOIN rater ON rater.id = rater WHERE rater.name = ? AND response = ?",
                (rater, place.response),
            ).fetchall()
        same = [p.response for p in order if p.item == place.item]
        nth = (same.index(place.response) + 1, len(same))
        return RatingItem(position, len(order), place.key, json.loads(dialogue), text, nth, dict(scores))

    def rate(self, rater: str, key: str, criterion: str, score: int | None) -> RaterProgress:
        """Save one score, replacing an earlier one; None deletes it.

        Raises:
            UnknownError: No such rater, reply or criterion.
            NanoEmoXError: A score off the scale.
        """
        low, high = self.scale
        if score is not None and not low <= score <= high:
            raise NanoEmoXError(f"score {score}: give a whole number from {low} to {high}")
        if criterion not in {c.name for c in self.criteria}:
            raise UnknownError(f"no criterion {criterion!r}")
        with self._write() as db:
            response = next((place.response for place in self._order(rater) if place.key == key), None)
            if response is None:
                raise UnknownError("this reply is not of this study: reload the page")
            db.execute(
                "DELETE FROM rating WHERE response = ? AND rater = (SELECT id FROM rater WHERE name = ?) "
                "AND criterion = (SELECT id FROM criterion WHERE name = ?)",
                (response, rater, criterion),
            )
            if score is not None:
                db.execute(
                    "INSERT INTO rating SELECT rater.id, ?, criterion.id, ?, ? FROM rater, criterion "
                    "WHERE rater.name = ? AND criterion.name = ?",
                    (response, score, _now(), rater, criterion),
                )
        return self.progress(rater)

    def raters(self) -> tuple[str, ...]:
        """Return the raters' names in the order of joining."""
        with self._lock:
            return tuple(str(row[0]) for row in self._db.execute("SELECT name FROM rater ORDER BY id"))

    def items(self) -> list[tuple[str, str, dict[str, bool]]]:
        """Return (benchmark, clip, run -> answered) of each clip, in the order of the study."""
        found: dict[tuple[str, str], dict[str, bool]] = {}
        with self._lock:
            rows = self._db.execute(
                "SELECT benchmark, item.name, run.name, text IS NOT NULL FROM response JOIN item ON item.id = item "
                "JOIN run ON run.id = run ORDER BY item.id, run.id"
            ).fetchall()
        for benchmark, clip, run, answered in rows:
            found.setdefault((benchmark, clip), {})[run] = bool(answered)
        return [(*key, runs) for key, runs in found.items()]

    def ratings(self) -> list[Rating]:
        """Return every score with its run, in the order of the raters and of the study."""
        with self._lock:
            rows = self._db.execute(
                "SELECT rater.name, benchmark, item.name, run.name, criterion.name, score, rated_at FROM rating "
                "JOIN rater ON rater.id = rater JOIN response ON response.id = response JOIN item ON item.id = item "
                "JOIN run ON run.id = run JOIN criterion ON criterion.id = criterion "
                "ORDER BY rater.id, item.id, run.id, criterion.id"
            ).fetchall()
        return [Rating(*row) for row in rows]

    def _order(self, rater: str) -> list[_RatingSlot]:
        """Return all replies in a rater's order; the caller holds the lock."""
        if self._db.execute("SELECT 1 FROM rater WHERE name = ?", (rater,)).fetchone() is None:
            raise UnknownError(f"no rater {rater!r} in this study: reload the page and give a name")
        rows = self._db.execute("SELECT id, item FROM response WHERE text IS NOT NULL").fetchall()
        places = [_RatingSlot(self._key(rater, response), response, item) for response, item in rows]
        return sorted(places, key=lambda place: (place.item, place.key))

    def _key(self, rater: str, response: int) -> str:
        """Return a key that a rater cannot invert: the digest covers every word of the study."""
        return hashlib.sha256(json.dumps([self.digest, rater, response]).encode()).hexdigest()[:24]

    def _complete(self, rater: str) -> set[int]:
        rows = self._db.execute(
            "SELECT response FROM rating JOIN rater ON rater.id = rater WHERE rater.name = ? "
            "GROUP BY response HAVING count(*) = ?",
            (rater, len(self.criteria)),
        )
        return {int(row[0]) for row in rows}

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside a transaction that is committed to disk when the block ends."""
        with self._lock, self._db as db:
            db.execute("BEGIN IMMEDIATE")
            yield db


def create_study(path: Path, plan: RatingPlan) -> None:
    """Write a new study, or check that the one at ``path`` is the same.

    Raises:
        NanoEmoXError: The file holds another study or something else, or cannot be written.
    """
    if path.exists() and path.stat().st_size:
        with closing(RatingStore(path)) as store:
            if store.digest != plan.digest:
                raise NanoEmoXError(
                    f"{path} is another study ({store}) than the one wanted ({plan}): give another --out"
                )
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # the file appears only when complete
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        with closing(sqlite3.connect(part)) as db, db:
            write_study(db, plan)
        there = not publish_file(part, path)
    except (OSError, sqlite3.Error) as error:
        raise NanoEmoXError(f"{path}: cannot be written ({error}): give another --out") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    if there and path.is_file():
        create_study(path, plan)  # another process was faster: the same study, or an error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
