"""Results of a blind human study, unblinded: means, intervals, differences, agreement, and a CSV table.

The score of a reply is the mean over its raters, that of a run the mean over clips. If a run has no reply to a clip
that was rated for others, it gets the lowest score of the scale; otherwise not replying would pay (as in ``judge``).
Letters: ``R`` raters, ``U`` replies.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nanoemox.benchmarks.clusters import clusters_of
from nanoemox.benchmarks.records import get_benchmark
from nanoemox.data.files import write_text
from nanoemox.printing import escaped, no_formula
from nanoemox.scoring.metrics.agreement import fleiss_kappa, krippendorff_alpha
from nanoemox.scoring.metrics.bootstrap import Interval, bootstrap_difference, bootstrap_interval, mean_statistic
from nanoemox.study.store import Rating, RatingStore
from nanoemox.types import NanoEmoXError, check_output

COLUMNS: Final = ("rater", "benchmark", "clip", "run", "criterion", "score", "rated_at")

ClipKey = tuple[str, str]
Scores = dict[str, dict[ClipKey, float]]
"""Run -> clip -> score."""


def export_ratings(study: Path, path: Path) -> int:
    """Write every score with its run as a row of a CSV table, and return how many there are.

    Text that a spreadsheet would evaluate as a formula is prefixed with an apostrophe.

    Raises:
        NanoEmoXError: No such study, a file that is no table, or one that cannot be written.
    """
    check_output("--export", path, ".csv")
    with closing(RatingStore(study)) as store:
        ratings = store.ratings()
    if not path.parent.is_dir():
        raise NanoEmoXError(f"{path}: there is no folder {path.parent}: make it, or give another file")
    try:
        if path.exists() and path.samefile(study):
            raise NanoEmoXError(f"--export {path}: is the study itself: give another name")
        with io.StringIO(newline="") as text:
            table = csv.writer(text)
            table.writerow(COLUMNS)
            table.writerows([_cell(getattr(rating, column)) for column in COLUMNS] for rating in ratings)
            write_text(path, text.getvalue())
    except OSError as error:
        raise NanoEmoXError(f"{path}: {error.strerror or error}") from error
    return len(ratings)


def _cell(value: str | int) -> str | int:
    """Write text so that no spreadsheet evaluates it; less the first apostrophe it is as it was."""
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.startswith("'") else no_formula(escaped(value))


def measure_study(study: Path) -> dict[str, Any]:
    """Return a study's results.

    Returns:
        ``scale``, ``clips``, ``seed``, ``criteria`` (the questions); ``raters``: name -> replies rated in full, out of
        ``replies``; ``runs``: name -> ``unanswered`` and, by criterion, ``mean``, ``interval``, ``n`` clips,
        ``n_unanswered`` of these, ``n_ratings``; ``agreement`` by criterion; ``differences`` of each two runs.

    Raises:
        NanoEmoXError: No such study.
    """
    with closing(RatingStore(study)) as store:
        ratings, items, raters = store.ratings(), store.items(), store.raters()
        done = {name: store.progress(name) for name in raters}
        runs, criteria, scale, seed = store.runs, store.criteria, store.scale, store.seed
    finished = [name for name, progress in done.items() if progress.done == progress.total]
    given = {c.name: [rating for rating in ratings if rating.criterion == c.name] for c in criteria}
    scores = {name: _scores(rows, items, runs, scale[0]) for name, rows in given.items()}
    missing = {run: {(b, clip) for b, clip, answered in items if not answered[run]} for run in runs}
    return {
        "scale": list(scale),
        "seed": seed,
        "clips": len(items),
        "replies": sum(sum(answered.values()) for _, _, answered in items),
        "criteria": {c.name: c.question for c in criteria},
        "raters": {name: progress.done for name, progress in done.items()},
        "finished": len(finished),
        "runs": {
            run: {"unanswered": len(missing[run])}
            | {name: _metric(run, scores[name][run], missing[run], given[name]) for name in given}
            for run in runs
        },
        "agreement": {name: _agreement(rows, finished) for name, rows in given.items()},
        "differences": [row for pair in combinations(runs, 2) for row in _differences(pair, scores)],
    }


def _scores(
    ratings: Sequence[Rating], items: Sequence[tuple[str, str, dict[str, bool]]], runs: Sequence[str], lowest: int
) -> Scores:
    found: dict[tuple[str, ClipKey], list[int]] = defaultdict(list)
    for rating in ratings:
        found[rating.run, (rating.benchmark, rating.clip)].append(rating.score)
    rated = {clip for _, clip in found}
    out: Scores = {run: {} for run in runs}
    for benchmark, name, answered in items:
        clip = (benchmark, name)
        for run in runs:
            if (run, clip) in found:
                out[run][clip] = fmean(found[run, clip])
            elif clip in rated and not answered[run]:
                out[run][clip] = float(lowest)
    return out


def _metric(
    run: str, scores: Mapping[ClipKey, float], missing: set[ClipKey], ratings: Sequence[Rating]
) -> dict[str, Any]:
    values = list(scores.values())
    interval = (
        bootstrap_interval(mean_statistic(values), len(values), clusters=_clusters(list(scores))) if values else None
    )
    return {
        "mean": None if interval is None else interval.estimate,
        "interval": None if interval is None else _ends(interval),
        "n": len(values),
        "n_unanswered": len(missing & scores.keys()),
        "n_ratings": Counter(rating.run for rating in ratings)[run],
    }


def _agreement(ratings: Sequence[Rating], finished: Sequence[str]) -> dict[str, Any]:
    """Return alpha over all ratings, and kappa, which needs complete ratings.

    Kappa covers the raters who have finished or, before two have, the replies that all raters have rated.
    """
    names = list(dict.fromkeys(rating.rater for rating in ratings))
    table = _table(ratings, names)
    chosen = _table(ratings, finished if len(finished) >= 2 else names)
    whole = chosen[:, ~np.isnan(chosen).any(0)]
    return {
        "krippendorff_alpha": krippendorff_alpha(table, "ordinal"),
        "fleiss_kappa": fleiss_kappa(whole),
        "n_raters": len(names),
        "n_replies": int(((~np.isnan(table)).sum(0) >= 2).sum()),
        "n_raters_kappa": whole.shape[0],
        "n_replies_kappa": whole.shape[1] if whole.shape[0] >= 2 else 0,
    }


def _table(ratings: Sequence[Rating], raters: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return float[R, U], NaN where a rater has not rated a reply."""
    replies = {(r.benchmark, r.clip, r.run): 0 for r in ratings}
    places = {reply: place for place, reply in enumerate(replies)}
    rows = {name: place for place, name in enumerate(raters)}
    table = np.full((len(rows), len(places)), np.nan)
    for rating in ratings:
        if rating.rater in rows:
            table[rows[rating.rater], places[rating.benchmark, rating.clip, rating.run]] = rating.score
    return table


def _differences(pair: tuple[str, str], scores: Mapping[str, Scores]) -> list[dict[str, Any]]:
    rows = []
    for criterion, by_run in scores.items():
        first, second = (by_run[run] for run in pair)
        common = [clip for clip in first if clip in second]
        if common:
            both = [mean_statistic([side[clip] for clip in common]) for side in (first, second)]
            found = bootstrap_difference(both[0], both[1], len(common), clusters=_clusters(common))
            rows.append({"first": pair[0], "second": pair[1], "criterion": criterion, "n": len(common),
                         "difference": found.interval.estimate, "interval": _ends(found.interval),
                         "p_value": found.p_value})  # fmt: skip
    return rows


def _clusters(clips: Sequence[ClipKey]) -> list[Hashable]:
    """Return the dialogue of each clip, or the clip itself if its name does not contain one."""
    names: dict[str, list[str]] = defaultdict(list)
    for benchmark, name in clips:
        names[benchmark].append(name)
    found = {}
    for benchmark, several in names.items():
        keys = clusters_of(get_benchmark(benchmark), several).keys
        found.update({(benchmark, name): (benchmark, key) for name, key in zip(several, keys, strict=True)})
    return [found[clip] for clip in clips]


def _ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def format_study(result: Mapping[str, Any]) -> str:
    """Format the results as text."""
    low, high = result["scale"]
    raters = ", ".join(f"{name} {done}" for name, done in result["raters"].items()) or "none yet"
    lines = [
        f"{len(result['runs'])} runs · {result['clips']} clips · {result['replies']} replies · seed {result['seed']}",
        f"replies rated in full: {raters}",
        f"{low} to {high}; mean over clips with 95 % interval (bootstrap over dialogues)",
    ]
    for run, found in result["runs"].items():
        unanswered = f" · {found['unanswered']} clips without a reply, scored {low}" if found["unanswered"] else ""
        lines.append(f"{run}{unanswered}")
        for name in result["criteria"]:
            row = found[name]
            lines.append(f"  {name:<10} {_number(row['mean'], row['interval'])}  {_counts(row)}")
    lines.append("agreement")
    for name, row in result["agreement"].items():
        kappa = f"Fleiss' kappa {_number(row['fleiss_kappa'])} ({row['n_replies_kappa']} replies)"
        alpha = f"Krippendorff's alpha {_number(row['krippendorff_alpha'])} ({row['n_replies']} replies, ordinal)"
        lines.append(f"  {name:<10} {kappa}  {alpha}")
    for row in result["differences"]:
        number = _number(row["difference"], row["interval"], sign="+")
        pair = f"{row['first']} - {row['second']}"
        lines.append(f"{pair}  {row['criterion']:<10} {number}  p {row['p_value']:.3f}  n {row['n']}")
    return "\n".join(lines)


def _counts(row: Mapping[str, Any]) -> str:
    return f"n {row['n']} clips, {row['n_ratings']} ratings"


def _number(value: float | None, interval: Sequence[float] | None = None, sign: str = "") -> str:
    if value is None:
        return "-"
    ends = "" if interval is None else f" [{interval[0]:{sign}.2f}, {interval[1]:{sign}.2f}]"
    return f"{value:{sign}.2f}{ends}"
