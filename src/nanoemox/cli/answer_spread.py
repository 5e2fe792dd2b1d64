"""``nanoemox answer --ray``: engines in Ray processes, one table in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nanoemox.cli.answer_files import answer_with
from nanoemox.cli.answer_inputs import Source
from nanoemox.cli.answer_options import AnswerJob
from nanoemox.cli.answer_request import AnswerRequest
from nanoemox.inference.checkpoints import find_checkpoint
from nanoemox.scaling.cluster import ray_at
from nanoemox.scaling.spread import Outcome, Work, spread
from nanoemox.types import Answer


def answer_spread(
    clips: Sequence[Source], request: AnswerRequest, job: AnswerJob
) -> Iterator[tuple[Source, list[Answer], bool]]:
    """Yield each clip with its answers; ``job.problems`` gets those that have none.

    Raises:
        NanoEmoXError: No such model, or Ray cannot be started or ended early.
    """
    where = request.where()
    assert where is not None
    cluster, share = where
    find_checkpoint(request.model)  # better now than in every process
    opener = _Opener(replace(request, device=share.device(request.device)), job)
    sources: dict[str, Source] = {str(c if isinstance(c, str) else c.resolve()): c for c in clips}
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
