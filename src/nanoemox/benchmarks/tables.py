"""The report of a run in Markdown: its scores, the blind baselines, and every unanswered clip."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from nanoemox.benchmarks.clusters import clusters_text
from nanoemox.printing import one_line

NO_SHARES: Final = ("labels_per_answer", "clue_overlap", "label_overlap")
"""Scores that are no share of one: words an answer, and points of a judge."""
_MARKS: Final = re.compile(r"[\\`|<>&]|(?<=\])\(|!(?=\[)")
_ENTITIES: Final = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_SHOWN: Final = 50
"""Unanswered clips that are listed; the prediction file holds them all."""
ROW_NOTES: Final = {
    "majority": "the most common answer of the corpus, to every clip",
    "text-only": "the model with picture and sound withheld",
    "shuffled-media": "the model with picture and sound of another clip",
    "other-order": "the model with the labels to choose from in another order",
}


def format_report(metrics: Mapping[str, Any]) -> str:
    """Return the report in Markdown; scores in percent with 95 % intervals."""
    parts = [f"# {markdown(metrics['model'])}", f"Scorer: {metrics['scorer']}. Intervals: 95 %, cluster bootstrap."]
    parts += map(markdown, settings_lines(metrics.get("settings", {}), metrics.get("cost", {})))
    for key, found in metrics["benchmarks"].items():
        by = clusters_text(next(iter(found["rows"].values())).get("clusters"))
        parts += [
            f"## {markdown(found['title'])} (`{_code(key)}`)",
            _table(found),
            f"Intervals by {by}.",
            *_notes(found),
        ]
    given = {name for found in metrics["benchmarks"].values() for name in found["rows"]}
    parts += ["## Rows", "\n".join(f"- `{name}`: {note}" for name, note in ROW_NOTES.items() if name in given)]
    return "\n\n".join(parts) + "\n"


def markdown(text: object) -> str:
    """Escape text for Markdown, in a paragraph or the cell of a table, as one line without HTML."""
    return _MARKS.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), one_line(str(text)))


def _code(text: object) -> str:
    """Return text for a span of code, in which only its own quote means something."""
    return one_line(str(text)).replace("`", "'")


def settings_lines(settings: Mapping[str, Any], cost: Mapping[str, int]) -> list[str]:
    """Return a line for the settings of a run and one for its cost, if they are known."""
    lines = {"Settings": settings, "Cost": cost}
    return [
        f"{head}: {', '.join(f'{_words(key)} {_value(value)}' for key, value in values.items())}."
        for head, values in lines.items()
        if values
    ]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(found: Mapping[str, Any]) -> str:
    rows = found["rows"]
    columns = shown_metrics(found["headline"], [row["metrics"] for row in rows.values()])
    lines = ["| row | clips | unanswered | " + " | ".join(columns) + " |", "|---" * (len(columns) + 3) + "|"]
    for name, row in rows.items():
        cells = [cell(m, row["metrics"].get(m), row["intervals"].get(m)) for m in columns]
        lines.append(f"| {markdown(name)} | {row['n']} | {row['n_unanswered']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown_metrics(headline: Iterable[str], rows: Sequence[Mapping[str, float | None]]) -> list[str]:
    """Return the scores that a table shows: the benchmark's, or whatever there is where it has none of them."""
    shown = [name for name in headline if any(name in row for row in rows)]
    return shown or list(dict.fromkeys(name for row in rows for name in row))


def cell(name: str, value: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a score with its interval as tables show it: percent, but for what is no share."""
    if value is None:
        return "-"
    if name in NO_SHARES:
        return f"{value:.2f}"
    ends = "" if interval is None else f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return f"{100 * value:.2f}{ends}"


def _notes(found: Mapping[str, Any]) -> list[str]:
    lines = [f"- {markdown(name)}: {markdown(note)}" for name, row in found["rows"].items() for note in row["notes"]]
    parts = ["\n".join(lines)] if lines else []
    unanswered = found["unanswered"]
    if unanswered:
        shown = [
            f"- `{_code(name)}`: {markdown(' '.join(why.split()))}" for name, why in list(unanswered.items())[:_SHOWN]
        ]
        more = len(unanswered) - len(shown)
        rest = [f"- and {more} more"] if more else []
        parts += [f"Unanswered, and counted as wrong: {len(unanswered)}", "\n".join([*shown, *rest])]
    return parts
