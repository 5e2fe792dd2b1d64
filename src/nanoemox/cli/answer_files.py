"""``nanoemox answer``: from files and folders to cards, JSON lines or a table that can be resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoemox.cli.answer_inputs import Source, expand
from nanoemox.cli.answer_options import (
    DEFAULT_WINDOW_S,
    AnswerJob,
    answer_options,
    beside_clip,
    check_request,
    check_words_alone,
    load_options,
    table_settings,
    window_s_of,
)
from nanoemox.cli.answer_request import AnswerRequest
from nanoemox.cli.answer_table import AnswerTable, path_cell
from nanoemox.cli.app import print_json
from nanoemox.cli.render import progress_over, show_card, show_line, show_problems
from nanoemox.types import Answer, Clip, NanoEmoXError

if TYPE_CHECKING:
    from nanoemox.scaling.spread import Outcome, Work


def answer_files(named: Sequence[Source], request: AnswerRequest) -> int:
    """Answer about every clip, continuing after a bad one.

    Returns:
        0, or 2 if a clip could not be answered; those are listed on stderr.

    Raises:
        NanoEmoXError: An invalid option.
    """
    job = check_request(request)
    if request.text is not None:
        check_words_alone(named, request)
        return _answer_words(request.text, request, job)
    if not named:
        raise NanoEmoXError("nothing to answer about: name clips or folders, or give words alone with --text")
    clips, missing = expand(named)
    if request.face_vectors is not None and len(clips) > 1:
        raise NanoEmoXError(f"--face-vectors takes one clip, {len(clips)} are given: answer about one at a time")
    job.problems |= missing
    if job.page is not None:
        job.page.check_number(len(clips))
        if clips:
            _answer_all(clips, request, job, job.page.add)
            job.page.write()
    elif request.csv is None:
        if clips:
            _answer_all(clips, request, job, _show_json if request.json else _show_cards)
    else:
        with AnswerTable(request.csv, job.tasks, table_settings(request, job)) as table:
            left = [p for p in clips if path_cell(p) not in table.done]
            if len(left) < len(clips):
                show_line(f"{len(clips) - len(left)} clip(s) are in {request.csv.name} already and are skipped")
            if left:
                _answer_all(left, request, job, table.add)
                show_line(f"written: {request.csv}")
    show_problems(job.problems)
    return 2 if job.problems else 0


def _answer_words(text: str, request: AnswerRequest, job: AnswerJob) -> int:
    from nanoemox.inference.engine import Engine

    engine = Engine.from_pretrained(request.model, device=request.device)
    options = answer_options(request)
    answer = engine.answer(None, job.tasks, job.labels, text=text, history=job.history, options=options)
    path = Path(answer.clip)
    if job.page is not None:
        job.page.see(path, Clip(answer.clip, subtitle=text))
        job.page.add(path, [answer])
        job.page.write()
    else:
        (_show_json if request.json else _show_cards)(path, [answer])
    return 0


def _answer_all(
    clips: list[Source], request: AnswerRequest, job: AnswerJob, write: Callable[[Any, list[Answer]], None]
) -> None:
    with progress_over(len(clips)) as advance:
        for source, answers, last in _answers(clips, request, job):
            write(source, answers)
            if last:
                advance(len(job.problems))


def _answers(
    clips: list[Source], request: AnswerRequest, job: AnswerJob
) -> Iterator[tuple[Source, list[Answer], bool]]:
    """Yield each clip with some of its answers, and whether they are the last."""
    if request.ray:
        return _answer_with_ray(clips, request, job)
    from nanoemox.inference.engine import Engine

    engine = Engine.from_pretrained(request.model, device=request.device)
    return answer_with(engine, [Path(c) for c in clips], request, job)


def _answer_with_ray(
    clips: Sequence[Source], request: AnswerRequest, job: AnswerJob
) -> Iterator[tuple[Source, list[Answer], bool]]:
    """Yield each clip with its answers; ``job.problems`` gets those that have none.

    Raises:
        NanoEmoXError: No such model, or Ray cannot be started or ended early.
    """
    from nanoemox.inference.checkpoints import find_checkpoint
    from nanoemox.scaling.cluster import ray_at
    from nanoemox.scaling.spread import spread

    where = request.where()
    assert where is not None
    cluster, share = where
    find_checkpoint(request.model)  # better now than in every process
    opener = _Opener(replace(request, device=share.device(request.device)), job)
    sources: dict[str, Source] = {str(c if isinstance(c, str) else os.path.abspath(c)): c for c in clips}
    with ray_at(cluster, share) as ray:
        for name, outcome in spread(ray, list(sources), opener, share):
            if isinstance(outcome, str):
                job.problems[sources[name]] = outcome.removeprefix(f"{name}: ")
            else:
                yield sources[name], list(outcome), True


@dataclass(frozen=True, slots=True)
class _Opener:
    """Loads an engine in the process where it is called, and returns a function that answers with it."""

    request: AnswerRequest
    job: AnswerJob

    def __call__(self) -> Work:
        from nanoemox.cli.app import quieten_libraries
        from nanoemox.inference.engine import Engine

        quieten_libraries()
        engine = Engine.from_pretrained(self.request.model, device=self.request.device)

        def work(paths: Sequence[Path]) -> dict[Path, Outcome]:
            job = replace(self.job, problems={})
            found: dict[Path, Outcome] = {
                path: tuple(answers) for path, answers, _ in answer_with(engine, list(paths), self.request, job)
            }
            return found | {Path(path): reason for path, reason in job.problems.items()}

        return work


def answer_with(
    engine: Any, paths: list[Path], request: AnswerRequest, job: AnswerJob
) -> Iterator[tuple[Path, list[Answer], bool]]:
    """Yield each file with some of its answers, and whether they are the last; ``job.problems`` gets the rest."""
    along = request.every_s is not None or request.by == "utterance"
    return (_timelines if along else _whole_clips)(engine, paths, request, job)


def _whole_clips(
    engine: Any, paths: list[Path], request: AnswerRequest, job: AnswerJob
) -> Iterator[tuple[Path, list[Answer], bool]]:
    """Yield each path with its one answer, flagged as the last."""

    def load(path: Path) -> Clip:
        clip: Clip = engine.load(path, **beside_clip(request, job), options=load_options(request))
        if job.page is not None:
            job.page.see(path, clip)
        return clip

    def failed(i: int, error: NanoEmoXError) -> None:
        job.problems[paths[i]] = _reason(error, paths[i])

    clips = (partial(load, path) for path in paths)
    answers = engine.answer_many(clips, job.tasks, job.labels, options=answer_options(request), on_error=failed)
    left = iter(paths)
    for answer in answers:
        yield next(path for path in left if path not in job.problems), [answer], True


def _timelines(
    engine: Any, paths: list[Path], request: AnswerRequest, job: AnswerJob
) -> Iterator[tuple[Path, list[Answer], bool]]:
    """Yield each path with the answers of its windows: one by one for the screen, else all together."""
    from nanoemox.inference.timeline import TimelineOptions

    options = TimelineOptions(
        every_s=request.every_s or DEFAULT_WINDOW_S,
        window_s=window_s_of(request),
        by="utterance" if request.by == "utterance" else "window",
        tasks=job.tasks,
        labels=job.labels,
        answer=answer_options(request),
        load=load_options(request),
        **beside_clip(request, job),
    )
    together = request.csv is not None or job.page is not None
    for path in paths:
        answers: list[Answer] = []
        try:
            for answer in engine.timeline(path, options):
                answers.append(answer)
                if not together:
                    yield path, [answer], False
        except NanoEmoXError as error:
            job.problems[path] = _reason(error, path)
            continue
        if not any(a.tasks for a in answers):
            job.problems[path] = answers[0].warnings[0]
            continue
        if job.page is not None:
            with suppress(NanoEmoXError):  # longer than what is read at once: the page then has no pictures
                unheard = replace(load_options(request), hear=False)
                job.page.see(path, engine.load(path, **beside_clip(request, job), options=unheard))
        yield path, answers if together else [], True


def _reason(error: NanoEmoXError, path: Path) -> str:
    """Drop the file name, which the list shows already."""
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{path.name}: ")


def _show_cards(_: Path, answers: list[Answer]) -> None:
    for answer in answers:
        show_card(answer)


def _show_json(_: Path, answers: list[Answer]) -> None:
    for answer in answers:
        print_json(answer.to_dict())
