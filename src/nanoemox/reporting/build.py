"""Collect the contents of a report, one section per benchmark, before anything is drawn or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nanoemox.benchmarks.clusters import clusters_text
from nanoemox.benchmarks.published import PROTOCOL, PublishedResult, published_results
from nanoemox.benchmarks.records import BENCHMARKS, Benchmark
from nanoemox.benchmarks.score import measures_of, score
from nanoemox.benchmarks.tables import shown_metrics
from nanoemox.reporting.cases import (
    Confusions,
    Example,
    Reliability,
    confusions,
    examples,
    reliability,
)
from nanoemox.reporting.compare import Comparison, comparisons
from nanoemox.reporting.data import EvaluatedRun, JudgeScores, ScoreRow
from nanoemox.tasks import ERI, MER, OVMER
from nanoemox.types import NanoEmoXError

_ON_WHEELS: Final = (MER.key, OVMER.key, ERI.key)
"""Tasks for which the published protocol needs the wheel tables."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table of scores: a run, or a baseline of it."""

    run: str
    place: int
    name: str
    baseline: bool
    scorer: str
    scores: ScoreRow


@dataclass(frozen=True, slots=True)
class Section:
    """What a report shows of one benchmark.

    Attributes:
        benchmark: The benchmark.
        metrics: Scores that the tables show.
        lines: Runs and baselines.
        comparisons: Paired differences.
        published: Printed rows.
        legacy: Run -> its scores by the published protocol, with which printed rows can be compared.
        remarks: Sentences on how the two compare, and the scorers' notes.
        unanswered: Run -> clip -> why.
        confusions, reliability, judged: By run, where there are any.
        examples: Clips with truth and answers.
    """

    benchmark: Benchmark
    metrics: tuple[str, ...]
    lines: tuple[Line, ...]
    comparisons: tuple[Comparison, ...]
    published: tuple[PublishedResult, ...]
    legacy: Mapping[str, ScoreRow]
    remarks: tuple[str, ...]
    unanswered: Mapping[str, Mapping[str, str]]
    confusions: Mapping[str, Confusions]
    reliability: Mapping[str, Reliability]
    judged: Mapping[str, JudgeScores]
    examples: tuple[Example, ...]

    @property
    def clusters(self) -> str:
        """What the intervals were drawn over, for people."""
        found = self.lines[0].scores.clusters
        return clusters_text(None if found is None else found.model_dump())

    @property
    def printed_metrics(self) -> list[str]:
        """Scores that any printed row has."""
        return list(dict.fromkeys(name for row in self.published for name in row.metrics))

    def has_printed(self, row: ScoreRow) -> bool:
        """Return whether a row has a score that is also published."""
        return any(row.metrics.get(name) is not None for name in self.printed_metrics)

    def line(self, run: str, baseline: str | None = None) -> Line | None:
        """Return the row of a run, or of one of its baselines; None where it was not evaluated."""
        name = baseline or run
        return next((x for x in self.lines if x.run == run and x.name == name), None)

    def abstained(self, run: str) -> int | None:
        """Return how many answers of a run name none of the labels; None where there are no labels."""
        found, line = self.confusions.get(run), self.line(run)
        return None if found is None or line is None else int(found.counts[:, -1].sum()) - line.scores.n_unanswered

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as the command line prints them."""
        rows = [
            {"run": line.run, "row": line.name, "baseline": line.baseline, **line.scores.model_dump(mode="json")}
            for line in self.lines
        ]
        return {
            "title": self.benchmark.title,
            "rows": rows,
            "comparisons": [c.to_dict() for c in self.comparisons],
            "published": [
                {"system": p.system, "table": p.table, "protocol": PROTOCOL, "metrics": dict(p.metrics)}
                for p in self.published
            ],
            "legacy": {run: row.model_dump(mode="json") for run, row in self.legacy.items()},
            "judged": {run: part.model_dump(mode="json") for run, part in self.judged.items()},
            "unanswered": {run: dict(why) for run, why in self.unanswered.items()},
            "remarks": list(self.remarks),
        }


def build(runs: Sequence[EvaluatedRun], wheel_tables: Path | None = None) -> list[Section]:
    """Build one section per benchmark, in the order of the benchmarks.

    Raises:
        NanoEmoXError: The wheel tables cannot be read.
    """
    keys = [key for key in BENCHMARKS if any(key in run.scores.benchmarks for run in runs)]
    return [
        _section(BENCHMARKS[key], [r for r in runs if key in r.scores.benchmarks], list(runs), wheel_tables)
        for key in keys
    ]


def _section(
    benchmark: Benchmark, having: Sequence[EvaluatedRun], runs: list[EvaluatedRun], wheel_tables: Path | None
) -> Section:
    key = benchmark.id
    lines = tuple(
        Line(run.name, runs.index(run), name, name != run.name, run.scores.scorer, row)
        for run in having
        for name, row in run.score_rows(key).items()
    )
    parts = {run.name: run.parts[run.name][key] for run in having}
    found = {name: confusions(benchmark, part) for name, part in parts.items()}
    curves = {name: reliability(benchmark, part) for name, part in parts.items()}
    printed = published_results(key)
    legacy, remarks = _legacy(benchmark, having, wheel_tables) if printed else ({}, [])
    remarks += _comparable(benchmark) if printed else []
    measures = measures_of(runs[0].scores.scorer, wheel_tables)
    return Section(
        benchmark=benchmark,
        metrics=tuple(shown_metrics(having[0].scores.benchmarks[key].headline, [x.scores.metrics for x in lines])),
        lines=lines,
        comparisons=tuple(comparisons(benchmark, having, measures)),
        published=printed,
        legacy=legacy,
        remarks=tuple([*remarks, *_notes(lines, len(having) > 1)]),
        unanswered={r.name: why for r in having if (why := r.scores.benchmarks[key].unanswered)},
        confusions={name: one for name, one in found.items() if one is not None},
        reliability={name: curve for name, curve in curves.items() if curve is not None},
        judged={run.name: run.judged[key] for run in having if key in run.judged},
        examples=tuple(examples(benchmark, having)),
    )


def _legacy(
    benchmark: Benchmark, runs: Sequence[EvaluatedRun], wheel_tables: Path | None
) -> tuple[dict[str, ScoreRow], list[str]]:
    """Return run -> scores by the published protocol, and why one has none."""
    found: dict[str, ScoreRow] = {}
    remarks = []
    for run in runs:
        if run.scores.scorer == PROTOCOL:
            found[run.name] = run.score_rows(benchmark.id)[run.name]
        elif benchmark.task in _ON_WHEELS and wheel_tables is None:
            return {}, ["our scores by the published protocol need the authors' tables: name them with --wheel-tables"]
        else:
            try:
                answers = run.parts[run.name][benchmark.id]
                scored = score(answers.truth, answers, benchmark, scorer=measures_of(PROTOCOL, wheel_tables))
                found[run.name] = ScoreRow.model_validate(scored.to_dict())
            except NanoEmoXError as error:
                remarks.append(f"{run.name} by the published protocol: {error}")
    return found, remarks


def _comparable(benchmark: Benchmark) -> list[str]:
    remarks = ["printed numbers are of the published protocol, and the best of several checkpoints on the test part"]
    if benchmark.question != benchmark.published_question:
        remarks.append("the published question asks for any emotion words, these runs used the task's own question")
    return remarks


def _notes(lines: Sequence[Line], several: bool) -> list[str]:
    """Tell every note once, and of which rows: all of a run are named by the run alone."""
    rows: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        for note in dict.fromkeys(line.scores.notes):
            rows.setdefault((line.run, note), []).append(line.name)
    notes = []
    for (run, note), names in rows.items():
        baselines = [name for name in names if name != run]
        who = run if run in names else ", ".join(baselines) + (f" of {run}" if several else "")
        notes.append(f"{who}: {note}")
    return notes
