"""``nanoemox judge``: language models score the explanations (ERI) and replies (ERG) of a run.

Each judge scores each answer; the score of an answer is the median over judges, and Krippendorff's alpha (ordinal)
measures their agreement. A failed call is counted and reported, and is not a score. A clip that the model did not
answer gets the lowest score of the scale without a call; otherwise not answering would improve the score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from nanoemox.benchmarks.clusters import Clusters, clusters_of, clusters_text
from nanoemox.benchmarks.records import Benchmark, get_benchmark
from nanoemox.benchmarks.runs import Row, prediction_file, read_dialogue, read_rows, speakers_of
from nanoemox.data.files import write_json
from nanoemox.judging.endpoint import CallOptions, Completion, EndpointError
from nanoemox.judging.judge_prompts import JUDGE_TASKS, JudgePrompt, UnreadableError, load_prompt, parse_scores
from nanoemox.judging.language_models import MAX_TOKENS, THREADS, LanguageModel, check_name, cost_line, open_model
from nanoemox.scoring.metrics.agreement import krippendorff_alpha
from nanoemox.scoring.metrics.bootstrap import bootstrap_interval, mean_statistic
from nanoemox.types import NanoEmoXError

RESULT: Final = "judge.json"
CACHE: Final = "judge_cache"
MAX_REASONS: Final = 3
"""Most frequent failure reasons that are printed; ``judge.json`` holds all."""

Ask = Callable[[Sequence[Mapping[str, Any]], int], Completion]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judge's scores of one answer.

    Attributes:
        scores: Dimension -> score, None if the call failed or the answer could not be parsed.
        strict: Whether the answer had exactly the requested format.
        failure: Reason of a failure.
    """

    scores: Mapping[str, int] | None
    strict: bool = False
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """One answer to be judged.

    Attributes:
        benchmark: Id of the benchmark.
        name: Id of the clip.
        material: Texts shown to the judge, by name in the prompt; None if the clip was not answered.
        speaker: Speaker of the clip; None if unknown.
    """

    benchmark: str
    name: str
    material: Mapping[str, str] | None
    speaker: str | None = None


def judge(items: Sequence[JudgeItem], judges: Mapping[str, LanguageModel]) -> dict[str, Any]:
    """Score answers with language models.

    Args:
        items: The answers.
        judges: Name -> language model.

    Returns:
        ``judges``, ``prompts``, ``rows`` and, by benchmark, ``metrics`` with means, intervals and agreement.
    """
    prompts = {task: load_prompt(task) for task in JUDGE_TASKS}
    return summarise(items, prompts, {name: _ask_all(items, prompts, m.complete) for name, m in judges.items()})


def judge_run(path: Path, judges: Sequence[str], options: CallOptions | None = None) -> dict[str, Any]:
    """Judge the explanations and replies of a run, and write ``judge.json`` into its folder.

    Args:
        path: Folder of a run, or its ``predictions.jsonl``.
        judges: Names, ``openai:http://host:port/v1#NAME`` or ``transformers:DIR_OR_ID``.
        options: How servers are called.

    Returns:
        The content of ``judge.json``.

    Raises:
        NanoEmoXError: No such run, nothing to judge, a wrong name, or a server that refuses every call.
    """
    names = [check_name(text) for text in judges]
    if not names or len(set(names)) < len(names):
        raise NanoEmoXError("name each judge once, and at least one, with --judge openai:http://host:port/v1#NAME")
    file = prediction_file(path)
    items = read_judge_items(file)
    prompts = {task: load_prompt(task) for task in JUDGE_TASKS}
    verdicts, cost, settings = {}, {}, {}
    for name in names:
        with closing(open_model(name, file.parent / CACHE, options)) as model:
            verdicts[name] = _ask_all(items, prompts, model.complete)
            cost[name], settings[name] = asdict(model.usage), dict(model.settings)
    result = summarise(items, prompts, verdicts) | {"settings": settings, "cost": cost}
    write_json(file.with_name(RESULT), result)
    return result


def read_judge_items(file: Path) -> list[JudgeItem]:
    """Read the answers of a prediction file (``runs``) that can be judged.

    Raises:
        NanoEmoXError: It is none, or holds no explanation or reply.
    """
    found = []
    for key, row in read_rows(file).items():
        benchmark = get_benchmark(key[0])
        if benchmark.task in JUDGE_TASKS:
            speaker = speakers_of({key[1]: row}).get(key[1])
            found.append(JudgeItem(*key, _material(benchmark, row, file), speaker))
    if not found:
        tasks = " or ".join(JUDGE_TASKS)
        raise NanoEmoXError(f"{file}: nothing to judge; judges score answers of {tasks}, such as those of emer")
    return found


def _material(benchmark: Benchmark, row: Row, file: Path) -> dict[str, str] | None:
    truth, parsed = row.get("truth"), row.get("parsed")
    if benchmark.form == "text" and not (isinstance(truth, str) and truth.strip()):
        raise NanoEmoXError(f"{file}: clip {row['id']!r} of {benchmark.id} has no reference text under truth")
    field = "text" if benchmark.form == "text" else "reply"
    answer = parsed.get(field) if isinstance(parsed, dict) else None
    if not isinstance(answer, str) or not answer.strip():
        return None
    if benchmark.form == "text":
        return {"REFERENCE": str(truth), "ANSWER": answer}
    context = "\n".join(f"{turn.role}: {turn.text}" if turn.role else turn.text for turn in read_dialogue(row, file))
    known = {"CONTEXT": context, "EMOTION": truth}
    return {name: text for name, text in known.items() if isinstance(text, str) and text} | {"ANSWER": answer}


def _ask_all(items: Sequence[JudgeItem], prompts: Mapping[str, JudgePrompt], ask: Ask) -> list[Verdict | None]:
    """Return a judge's verdict on each item; None for an unanswered one."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(partial(_ask_one, prompts=prompts, ask=ask), items))


def _ask_one(item: JudgeItem, prompts: Mapping[str, JudgePrompt], ask: Ask) -> Verdict | None:
    if item.material is None:
        return None
    prompt = prompts[get_benchmark(item.benchmark).task]
    try:
        scores, strict = parse_scores(ask(prompt.messages(item.material), MAX_TOKENS).text, prompt)
    except (EndpointError, UnreadableError) as error:
        return Verdict(None, failure=str(error))
    return Verdict(scores, strict)


def summarise(
    items: Sequence[JudgeItem], prompts: Mapping[str, JudgePrompt], verdicts: Mapping[str, Sequence[Verdict | None]]
) -> dict[str, Any]:
    """Summarise verdicts: medians and agreement by benchmark, and every row.

    Args:
        items: The judged answers.
        prompts: Task -> prompt.
        verdicts: Judge -> its verdict on each item.
    """
    benchmarks, rows = {}, []
    for key in dict.fromkeys(item.benchmark for item in items):
        places = [place for place, item in enumerate(items) if item.benchmark == key]
        task = get_benchmark(key).task
        speakers = {items[place].name: who for place in places if (who := items[place].speaker) is not None}
        clusters = clusters_of(get_benchmark(key), [items[place].name for place in places], speakers)
        chosen = {judge: [said[place] for place in places] for judge, said in verdicts.items()}
        benchmarks[key] = {
            "task": task,
            "n": len(places),
            "unanswered": sum(items[place].material is None for place in places),
            "scale": list(prompts[task].scale),
            "clusters": clusters.to_dict(),
            "metrics": {
                name: _metric(name, chosen, prompts[task].scale[0], clusters) for name in prompts[task].dimensions
            },
            "judges": {judge: _judge_counts(said) for judge, said in chosen.items()},
        }
    for place, item in enumerate(items):
        said = {judge: found[place] for judge, found in verdicts.items()}
        rows.append({"benchmark": item.benchmark, "id": item.name, "answered": item.material is not None,
                     "judges": {judge: None if v is None else asdict(v) for judge, v in said.items()}})  # fmt: skip
    used = {get_benchmark(key).task for key in benchmarks}
    stored = {task: prompts[task].to_dict() for task in JUDGE_TASKS if task in used}
    return {"judges": list(verdicts), "prompts": stored, "benchmarks": benchmarks, "rows": rows}


def _metric(
    name: str, verdicts: Mapping[str, Sequence[Verdict | None]], lowest: int, clusters: Clusters
) -> dict[str, Any]:
    """Return mean of medians, interval, agreement and each judge's mean of one dimension."""
    table = np.asarray([[_score(verdict, name) for verdict in said] for said in verdicts.values()])  # [R, U]
    unanswered = np.asarray([verdict is None for verdict in next(iter(verdicts.values()))])
    judged = ~np.isnan(table).all(0)
    medians = [median(column[~np.isnan(column)].tolist()) for column in table[:, judged].T]
    scores = [*medians, *[float(lowest)] * int(unanswered.sum())]
    keys = clusters.of([*np.flatnonzero(judged).tolist(), *np.flatnonzero(unanswered).tolist()])
    interval = bootstrap_interval(mean_statistic(scores), len(scores), clusters=keys) if scores else None
    filled = np.where(unanswered, float(lowest), table)
    return {
        "mean": None if interval is None else interval.estimate,
        "interval": None if interval is None else [interval.low, interval.high],
        "n": len(scores),
        "failed": int((~judged & ~unanswered).sum()),
        "alpha": krippendorff_alpha(table, "ordinal"),
        "per_judge": {
            judge: None if np.isnan(row).all() else float(np.nanmean(row))
            for judge, row in zip(verdicts, filled, strict=True)
        },
    }


def _score(verdict: Verdict | None, name: str) -> float:
    return float("nan") if verdict is None or verdict.scores is None else float(verdict.scores[name])


def _judge_counts(said: Sequence[Verdict | None]) -> dict[str, Any]:
    given = [verdict for verdict in said if verdict is not None]
    scored = [verdict for verdict in given if verdict.scores is not None]
    loose = sum(not verdict.strict for verdict in scored)
    reasons = Counter(verdict.failure for verdict in given if verdict.failure is not None)
    return {
        "scored": len(scored),
        "failed": len(given) - len(scored),
        "not_in_form": loose,
        "reasons": dict(reasons.most_common()),
    }


def silent_judges(result: Mapping[str, Any]) -> list[str]:
    """Return the judges that gave no readable score, though there were answers to judge."""
    parts = result["benchmarks"].values()
    counts = {judge: [part["judges"][judge] for part in parts] for judge in result["judges"]}
    return [j for j, of in counts.items() if any(c["failed"] for c in of) and not any(c["scored"] for c in of)]


def format_judge_scores(result: Mapping[str, Any]) -> str:
    """Format the scores as text."""
    lines = []
    for key, part in result["benchmarks"].items():
        low, high = part["scale"]
        unanswered = f", {part['unanswered']} of them unanswered, which counts as {low}" if part["unanswered"] else ""
        by = clusters_text(part["clusters"])
        lines.append(f"{key} · {part['n']} clips{unanswered} · scale {low} to {high} · intervals by {by}")
        for name, row in part["metrics"].items():
            ends = "" if row["interval"] is None else f"  [{row['interval'][0]:.2f}, {row['interval'][1]:.2f}]"
            counts = f"  n {row['n']}  failed {row['failed']}  alpha {_show(row['alpha'])}"
            lines.append(f"  {name:<14} {_show(row['mean']):>5}{ends}{counts}")
        for judge, counts in part["judges"].items():
            means = "  ".join(f"{name} {_show(row['per_judge'][judge])}" for name, row in part["metrics"].items())
            text = f"scored {counts['scored']}, failed {counts['failed']}, not in form {counts['not_in_form']}"
            lines.append(f"  by {judge}: {means} ({text})")
            lines += [f"    {number} x {reason}" for reason, number in [*counts["reasons"].items()][:MAX_REASONS]]
    lines += [cost_line(judge, cost) for judge, cost in result["cost"].items()]
    return "\n".join(lines)


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
