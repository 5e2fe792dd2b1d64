"""Many clips, many engines: Ray Data hands out sources, its actors decode and answer, results come back as they are.

Only sources and answers travel; a clip is decoded where it is answered. What is written, and what of it was there
before, is the caller's: this gives each source one result.
"""

from __future__ import annotations

import logging
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from nanoemox.scaling.cluster import SEE_MORE, Share
from nanoemox.scaling.sources import copy_clip, is_remote
from nanoemox.types import Answer, NanoEmoXError

Outcome = tuple[Answer, ...] | str
"""The answers about a source, or why there are none."""
Work = Callable[[Sequence[Path]], dict[Path, Outcome]]
"""Answers about some files, in the process that it was made in."""

CLIPS_AT_ONCE: Final = 8
"""Sources that an actor takes together: as many as the engine runs at once."""
MAX_BLOCKS: Final = 20_000
"""Pieces of the list of sources at most; Ray keeps account of each."""
TRIES: Final = 2
"""How often a source is retried after its process died."""
LOST: Final = "the process that had it died, again and again: look at it with nanoemox answer"


def spread(ray: Any, sources: Sequence[str], opener: Callable[[], Work], share: Share) -> Iterator[tuple[str, Outcome]]:
    """Answer about every source, in whatever order they are done.

    Args:
        ray: Ray, from :func:`~nanoemox.scaling.cluster.ray_at`.
        sources: Paths that every machine sees, or URIs.
        opener: Called once in each actor, for what answers there; it is pickled.
        share: How many actors, and what each takes.

    Raises:
        NanoEmoXError: Ray Data stopped, e.g. because no actor could be started.
    """
    data = ray.data
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = -1  # losses are reported below
    # Results come back by the block, so a block is what an actor takes at once, as long as there are not too many.
    blocks = min(MAX_BLOCKS, -(-len(sources) // CLIPS_AT_ONCE))
    with warnings.catch_warnings():
        # Ray has no other way yet to limit restarts, and its default is none: a clip that kills its process would never
        # be given up.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated", DeprecationWarning)
        dataset = data.from_items([{"source": s} for s in sources], override_num_blocks=blocks).map_batches(
            Answering,
            fn_constructor_args=(opener,),
            batch_size=CLIPS_AT_ONCE,
            compute=data.ActorPoolStrategy(min_size=share.least, max_size=share.most),
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            max_restarts=TRIES * len(sources),
            max_task_retries=TRIES,
        )
    lost = dict.fromkeys(sources)
    try:
        for row in dataset.iter_rows():
            source = str(row["source"])
            del lost[source]
            yield source, pickle.loads(row["outcome"])  # noqa: S301 (our own actors wrote it)
    except (ray.exceptions.RayError, RuntimeError) as error:
        if isinstance(error, NanoEmoXError):
            raise
        said = str(error).strip().splitlines()[-1][:200]
        raise NanoEmoXError(
            f"Ray stopped ({said}); what was answered is kept: repeat the command ({SEE_MORE})"
        ) from error
    yield from ((source, LOST) for source in lost)


class Answering:
    """What runs in an actor.

    Args:
        opener: Gives what answers.
    """

    def __init__(self, opener: Callable[[], Work]) -> None:
        self._work = opener()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Answer about the sources of a batch; each gets its outcome, whatever it is."""
        outcomes: dict[str, Outcome] = {}
        with tempfile.TemporaryDirectory(prefix="nanoemox-") as folder:
            files: dict[Path, str] = {}
            for i, source in enumerate(map(str, batch["source"])):
                try:
                    files[_file_of(source, Path(folder) / str(i))] = source
                except NanoEmoXError as error:
                    outcomes[source] = str(error)
            outcomes |= {files[file]: outcome for file, outcome in self._work(list(files)).items()}
        found = np.empty(len(outcomes), object)
        found[:] = [pickle.dumps(outcome) for outcome in outcomes.values()]
        return {"source": np.array(list(outcomes), object), "outcome": found}


def _file_of(source: str, folder: Path) -> Path:
    if not is_remote(source):
        return Path(source)
    folder.mkdir()
    return copy_clip(source, folder)
