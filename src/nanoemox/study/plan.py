"""Plan a blind human study: the replies of several runs to the same clips, each clip with its dialogue.

It reads the rows of ``predictions.jsonl`` (``runs``) of benchmarks with empathetic replies. The criteria are those of
the language-model judges (``prompts/erg.yaml``), so that human and model scores are comparable.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from nanoemox.benchmarks.records import get_benchmark
from nanoemox.benchmarks.runs import PREDICTIONS, Key, prediction_file, read_dialogue, read_rows
from nanoemox.judging.judge_prompts import MAX_TEXT_CHARS, load_prompt
from nanoemox.tasks import ERG
from nanoemox.types import NanoEmoXError, Turn

_TASK: Final = ERG.key
_CRITERION: Final = re.compile(r"^- (\w+): (.+)\n +1: (.+) 3: (.+) 5: (.+)$", re.MULTILINE)

Dialogue = tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Criterion:
    """A rating criterion, from 1 to 5.

    Attributes:
        name: Its name.
        question: Question about the reply.
        anchors: Score -> what it means.
    """

    name: str
    question: str
    anchors: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StudyClip:
    """One clip.

    Attributes:
        benchmark: Id of the benchmark.
        name: Id of the clip.
        dialogue: The conversation so far; empty if the runs do not contain it.
        replies: One per run, in the order of the runs; None if a run has no answer.
    """

    benchmark: str
    name: str
    dialogue: Dialogue
    replies: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class RatingPlan:
    """A study before anyone has rated.

    Attributes:
        runs: Names of the runs.
        seed: Seed of sampling and shuffling.
        criteria: The criteria.
        scale: Lowest and highest score.
        items: The clips, shuffled.
    """

    runs: tuple[str, ...]
    seed: int
    criteria: tuple[Criterion, ...]
    scale: tuple[int, int]
    items: tuple[StudyClip, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of everything that raters see and of the mapping from runs to replies."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        return describe_study(self.runs, len(self.items), self.seed)


def describe_study(runs: Sequence[str], num_items: int, seed: int) -> str:
    """Describe a study in one line."""
    return f"{', '.join(runs)}; {num_items} clips; seed {seed}"


def plan_study(paths: Sequence[Path], sample: int, seed: int) -> RatingPlan:
    """Sample clips that all runs have in common, and shuffle them; equal arguments give equal plans.

    Args:
        paths: Folders of runs, or their ``predictions.jsonl``.
        sample: Number of clips; all if there are fewer.
        seed: Seed of the sampling.

    Raises:
        NanoEmoXError: A run without replies, a run named twice, no clip in common, or dialogues that differ.
    """
    files = [prediction_file(path) for path in paths]
    if not files or len({file.resolve() for file in files}) < len(files):
        raise NanoEmoXError("name each run once, and at least one: nanoemox rate RUN_A RUN_B")
    runs = [_read(file) for file in files]
    names = _names(files)
    common = [key for key in runs[0] if all(key in run for run in runs[1:])]
    if not common:
        raise NanoEmoXError(f"{', '.join(names)}: no common clip with a reply task")
    drawn = sorted(common, key=lambda key: hashlib.sha256(json.dumps([seed, *key]).encode()).digest())[:sample]
    items = [StudyClip(*key, _dialogue(key, runs, names), tuple(run[key][1] for run in runs)) for key in drawn]
    return RatingPlan(names, seed, load_criteria(), _scale(), tuple(items))


def load_criteria() -> tuple[Criterion, ...]:
    """Read the criteria from the judges' prompt.

    Raises:
        NanoEmoXError: The prompt does not contain them in the expected format.
    """
    prompt = load_prompt(_TASK)
    found = []
    for name, question, *anchors in _CRITERION.findall(prompt.system):
        text = question.replace("ANSWER", "the reply")
        meanings = dict(zip("135", (text.strip() for text in anchors), strict=True))
        found.append(Criterion(name, text[0].upper() + text[1:], meanings))
    if tuple(c.name for c in found) != prompt.dimensions:
        raise NanoEmoXError(f"prompt {_TASK} defines {[c.name for c in found]}, not {list(prompt.dimensions)}")
    return tuple(found)


def _scale() -> tuple[int, int]:
    return load_prompt(_TASK).scale


def _read(file: Path) -> dict[Key, tuple[Dialogue, str | None]]:
    """Return clip -> its dialogue and the run's reply."""
    found: dict[Key, tuple[Dialogue, str | None]] = {}
    for key, row in read_rows(file).items():
        if get_benchmark(key[0]).task == _TASK:
            turns = tuple(Turn(_truncated(turn.role), _truncated(turn.text)) for turn in read_dialogue(row, file))
            found[key] = (turns, _reply(row.get("parsed")))
    if not any(reply for _, reply in found.values()):
        raise NanoEmoXError(f"{file}: holds no empathetic reply; people rate replies, such as those of avamerg")
    return found


def _reply(parsed: object) -> str | None:
    text = parsed.get("reply") if isinstance(parsed, dict) else None
    return _truncated(text) if isinstance(text, str) and text.strip() else None


def _truncated(text: str) -> str:
    """Truncate a text as for judges."""
    return text[:MAX_TEXT_CHARS]


def _dialogue(key: Key, runs: Sequence[Mapping[Key, tuple[Dialogue, str | None]]], names: Sequence[str]) -> Dialogue:
    dialogues = {name: run[key][0] for name, run in zip(names, runs, strict=True) if run[key][0]}
    if len(set(dialogues.values())) > 1:
        raise NanoEmoXError(
            f"{', '.join(dialogues)} hold different dialogues of clip {key[1]!r}: are their data the same?"
        )
    return next(iter(dialogues.values()), ())


def _names(files: Sequence[Path]) -> tuple[str, ...]:
    """Name runs by the shortest suffixes of their paths that differ."""
    parts = [(file.resolve().parent if file.name == PREDICTIONS else file.resolve()).parts for file in files]
    for depth in range(1, max(map(len, parts)) + 1):
        names = tuple("/".join(part[-depth:]) for part in parts)
        if len(set(names)) == len(names):
            break
    return names
