"""Metrics of the ``corrected`` scorer: the answer to the question is scored, and a clip without an answer is wrong.

Differences from the published protocol, task by task: emotion words are mapped by a lexicon of our own (``fear`` is
fear, ``neutral`` counts, long lists do not pay); a ``neutral`` sentiment is neither positive nor negative; intents
are matched in any spelling; both emotions of a reply are mapped to classes by one map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from nanoemox.benchmarks.measures import CLASSIFICATION, TaskScores, Words, classified, labels_statistic, on_wheels
from nanoemox.scoring.corrected.lexicon import look_up
from nanoemox.scoring.corrected.scorer import LEVELS, CorrectedScorer, emotion_report, unknown_words
from nanoemox.scoring.legacy.tasks import EIGHT_CLASSES
from nanoemox.scoring.metrics.bootstrap import Statistic, mean_statistic
from nanoemox.scoring.metrics.classification import classification_scores
from nanoemox.scoring.metrics.diversity import corpus_distinct_n, distinct_n, distinct_statistic
from nanoemox.tasks import ERG, LABEL_SETS, format_label, parse, parse_label

_CLASS_OF_FAMILY: Final = {
    "joy": "happy", "pride": "happy", "love": "happy", "calm": "happy", "interest": "happy", "surprise": "surprised",
    "fear": "fear", "sadness": "sad", "anger": "angry", "disgust": "disgusted", "contempt": "contempt",
    "neutral": "neutral",
}  # fmt: skip
_OURS: Final = {"embarrassed": "sad"}  # the published map lists it twice, as sad and as disgusted


@dataclass(frozen=True, slots=True)
class CorrectedMeasures:
    """The default scores."""

    name: str = "corrected"

    def emotion(self, truth: Sequence[str], answers: Sequence[Words | None], labels: Words) -> TaskScores:
        """Return the hit rate with one label per answer, and the classification scores of these labels.

        ``recall`` is the field's hit rate, for which any word of the answer may be right.
        """
        report = emotion_report(truth, answers, labels)
        names = ("accuracy", "unweighted_average_recall", "macro_f1", "weighted_f1")
        statistics = classified(report.scores, report.pairs, names).statistics
        statistics["hit_rate"] = statistics["accuracy"]
        for name in ("precision", "recall", "f1"):
            statistics[name] = (report.sets.statistic(name), range(report.sets.n))
        statistics["abstained"] = (mean_statistic([read is None for _, read in report.pairs]), range(len(truth)))
        statistics["labels_per_answer"] = labels_statistic(answers)
        return TaskScores(dict(report.metrics), statistics, len(truth), notes=_unknown(report.unknown))

    def open(self, truth: Sequence[Words], answers: Sequence[Words | None]) -> TaskScores:
        """Return F, precision and recall of sets of families; ``per_wheel`` also has synonyms and words."""
        given = [a or () for a in answers]
        levels = {level: CorrectedScorer(level).set_scores(truth, given) for level in LEVELS}
        found = on_wheels(levels["family"], answers, "f1")
        rows = [
            {"wheel": level, "n": s.counted[0], "f1": s.f1, "precision": s.precision, "recall": s.recall}
            for level, s in levels.items()
        ]
        return replace(found, per_wheel=rows, notes=[*found.notes, *_unknown(unknown_words(given))])

    def sentiment(self, truth: Sequence[str], answers: Sequence[str | None]) -> TaskScores:
        """Return scores over three classes, and over the clips that are not neutral (``_nonzero``)."""
        labels = LABEL_SETS["sentiment"]
        truth = [_spelt(label, labels) for label in truth]
        read = [parse_label(a, labels) if a else None for a in answers]
        pairs = list(zip(truth, read, strict=True))
        names = ("weighted_f1", "accuracy", "unweighted_average_recall")
        whole = classified(classification_scores(truth, read, labels), pairs, names)
        kept = [place for place, true in enumerate(truth) if true != "neutral"]
        rest = [pairs[place] for place in kept]
        if rest:
            scores = classification_scores([t for t, _ in rest], [p for _, p in rest], labels)
            part = classified(scores, rest, ("weighted_f1", "accuracy"), kept)
            whole.metrics.update({f"{name}_nonzero": value for name, value in part.metrics.items()})
            whole.statistics.update({f"{name}_nonzero": value for name, value in part.statistics.items()})
        return whole

    def intent(self, truth: Sequence[str], answers: Sequence[str | None], labels: Words) -> TaskScores:
        """Return classification scores of the answered intents."""
        wanted = [_spelt(label, labels) for label in truth]
        read = [parse_label(a, labels) if a else None for a in answers]
        names = tuple(dict.fromkeys([*labels, *wanted]))
        pairs = list(zip(wanted, read, strict=True))
        return classified(classification_scores(wanted, read, names), pairs, tuple(CLASSIFICATION))

    def replies(self, truth: Sequence[str], answers: Sequence[str | None], strays: Sequence[str]) -> TaskScores:
        """Return accuracy of the emotion word, the hit rate of its class, and variety; strays do not count."""
        del strays
        readings = [parse(ERG.key, a) if a else None for a in answers]
        named = [format_label(r.think.emotion) if r and r.think else "" for r in readings]
        wanted = [format_label(word) for word in truth]
        right = [w == n for w, n in zip(wanted, named, strict=True)]
        classes = [eight_class(word) for word in named]
        hits = [c is not None and c == eight_class(w) for w, c in zip(wanted, classes, strict=True)]
        replies = [r.reply if r and r.reply else "" for r in readings]
        metrics: dict[str, float | None] = {"accuracy": sum(right) / len(right), "hit_rate": sum(hits) / len(hits)}
        for n in (1, 2):
            metrics[f"distinct_{n}"] = distinct_n(replies, n)
            metrics[f"corpus_distinct_{n}"] = corpus_distinct_n(replies, n)
        metrics["chains"] = sum(map(bool, named)) / len(named)
        shares = {"accuracy": right, "hit_rate": hits, "chains": list(map(bool, named))}
        every = range(len(truth))
        statistics: dict[str, tuple[Statistic, Sequence[int]]]
        statistics = {name: (mean_statistic(share), every) for name, share in shares.items()}
        statistics |= {f"distinct_{n}": (distinct_statistic(replies, n), every) for n in (1, 2)}
        return TaskScores(metrics, statistics, len(truth))


def eight_class(word: str) -> str | None:
    """Return the class of MEAD that an emotion word falls into, or None for a word that names no emotion."""
    if word in _OURS or word in EIGHT_CLASSES:
        return _OURS.get(word) or EIGHT_CLASSES[word]
    known = look_up(word)
    return _CLASS_OF_FAMILY.get(known.family) if known else None


def _spelt(label: str, labels: Words) -> str:
    """Return a true label in our spelling; unknown ones are only normalised."""
    return parse_label(label, labels) or format_label(label)


def _unknown(counts: Mapping[str, int]) -> list[str]:
    """Return a note on words that the lexicon lacks; they are wrong unless the truth has them."""
    if not counts:
        return []
    few = ", ".join(list(counts)[:5])
    return [f"{sum(counts.values())} words of the answers are not in the lexicon ({len(counts)} different: {few} ...)"]
