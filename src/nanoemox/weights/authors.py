"""``nanoemox pull authors``: the released weights and the public backbones become one model directory.

Everything is looked up, printed and accepted before anything is fetched. Files, partial ones too, are kept in
``downloads-authors`` until the model is complete, so an interrupted pull can be resumed. Commits, hashes and the use of
every tensor are recorded in ``report.json`` of the model.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nanoemox
from nanoemox.types import CheckpointError
from nanoemox.weights.authors_catalogue import RELEASE, Release, Repository
from nanoemox.weights.fetch import Tell
from nanoemox.weights.home import (
    AUTHORS,
    PulledModel,
    PulledPart,
    find_pulled,
    folder_size,
    models_folder,
    read_record,
    work_folders,
    write_record,
)
from nanoemox.weights.hub import FoundRepository, endpoint, fetch, look_up
from nanoemox.weights.place import check_space, disk_errors, pull_lock, replace_model

if TYPE_CHECKING:
    from nanoemox.weights.assemble import Assembly
    from nanoemox.weights.convert import Conversion

REPORT = "report.json"
_ADAPTERS = "adapters"
_MAY_BE_DRAWN = re.compile(r"speech_encoder\..*\.masked_spec_embed")
"""Read while a speech encoder is trained, which no phase does."""
_MODEL_SHARE = {"float16": 1.3, "bfloat16": 1.3, "float32": 2.6}
"""Room for the model and the base it is made from, as a share of what is fetched (half of it in float32)."""
Progress = Callable[[int, int], None]
"""Called with the bytes so far and the total."""


@dataclass(frozen=True, slots=True)
class AuthorsOptions:
    """Options of ``pull_authors``.

    Attributes:
        accept_licence: The user has read and accepts the licences of all parts.
        dtype: Type in the files: float16 (the authors' language model runs in it), bfloat16 or float32.
        max_shard_size: Limit of one file.
        words: A ``templates.yaml`` with the words that the weights were trained with; None takes the package's own.
        lock: ``report.json`` of an earlier pull; its commits and hashes are required.
        force: Pull again even if the model is present.
    """

    accept_licence: bool = False
    dtype: str = "float16"
    max_shard_size: str = "2GB"
    words: Path | None = None
    lock: Path | None = None
    force: bool = False


def pull_authors(
    options: AuthorsOptions | None = None,
    *,
    tell: Tell | None = None,
    progress: Progress | None = None,
    release: Release | None = None,
) -> PulledModel:
    """Fetch the authors' weights and the public backbones, check, join and convert them.

    Args:
        options: The options.
        tell: Called with a line per step.
        progress: Called with the progress of the download.
        release: The repositories; None for :data:`RELEASE`.

    Returns:
        The model, as listed by ``nanoemox models``.

    Raises:
        CheckpointError: The licences were not accepted, the hub cannot be reached or has something else, a file is not
            what the hub says, a tensor is missing or unknown, there is no room, another pull is at work.
    """
    from nanoemox.weights.assemble import parse_size

    options, say = options or AuthorsOptions(), tell or (lambda line: None)
    release = release or RELEASE
    if options.dtype not in _MODEL_SHARE:
        raise CheckpointError(f"dtype {options.dtype!r} is unknown: choose {', '.join(_MODEL_SHARE)}")
    with pull_lock():
        if options.force or find_pulled(AUTHORS) is None:
            parse_size(options.max_shard_size)  # mistakes are found before gigabytes are fetched
            words = _words(options.words)
            found = [look_up(r, say) for r in _locked(release, options.lock).repositories]
            _show(found, say)
            if not options.accept_licence:
                raise CheckpointError(
                    "nothing was fetched: read the licences of the parts above, then run the same command with "
                    "--accept-licence"
                )
            with disk_errors():
                _pull(release.preset, found, options, words, say, progress or (lambda done, total: None))
        else:
            say(f"{AUTHORS} is here already, nothing is fetched: --force pulls it again, with these options")
    return read_record(models_folder() / AUTHORS)


def _words(path: Path | None) -> Any:
    """Read the user's words."""
    from nanoemox.tasks.templates import load_templates

    if path is None:
        return None
    if not path.is_file():
        raise CheckpointError(f"{path}: no such templates file")
    return load_templates(path)


def _locked(release: Release, lock: Path | None) -> Release:
    """Replace what the catalogue leaves open by what an earlier pull found."""
    if lock is None:
        return release
    try:
        before = {r["repo"]: r for r in json.loads(lock.read_text("utf-8"))["repositories"]}
        return replace(release, repositories=tuple(_pinned(r, before[r.repo]) for r in release.repositories))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{lock}: not the {REPORT} of a pulled model: {error!r}") from error


def _pinned(repository: Repository, before: dict[str, Any]) -> Repository:
    files = {f["path"]: f for f in before["files"]}
    pinned = [
        replace(f, size_bytes=int(files[f.path]["size_bytes"]), sha256=files[f.path]["sha256"])
        for f in repository.files
    ]
    return replace(repository, revision=str(before["commit"]), files=tuple(pinned))


def _show(found: list[FoundRepository], say: Tell) -> None:
    """Tell what would be fetched, how much it is, and under which licences."""
    for one in found:
        say(f"{one.repository.part:9} {one.size_bytes / 1e9:6.2f} GB  {one.repository.repo} at {one.commit}")
        say(f"{'':21} licence: {one.licence}; {endpoint()}/{one.repository.repo}")
    say(f"{'total':9} {sum(f.size_bytes for f in found) / 1e9:6.2f} GB")


def _pull(
    preset: str, found: list[FoundRepository], options: AuthorsOptions, words: Any, say: Tell, progress: Progress
) -> None:
    downloads, work = work_folders(AUTHORS)
    total = sum(f.size_bytes for f in found)
    check_space(round(max(0, total - folder_size(downloads)) + _MODEL_SHARE[options.dtype] * total))
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)  # before the download: it may not be allowed
    try:
        sources = _fetch_all(found, downloads, total, say, progress)
        tensors = _join(preset, sources, work, options, words, say)
        _write_report(work / "model", found, options, tensors)
        replace_model(work / "model", models_folder() / AUTHORS)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(downloads, ignore_errors=True)


def _fetch_all(
    found: list[FoundRepository], downloads: Path, total: int, say: Tell, progress: Progress
) -> dict[str, Path]:
    """Bring every file here: part -> its folder, or its file where it has only one."""
    done = 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    sources: dict[str, Path] = {}
    for one in found:
        say(f"fetching {one.repository.repo}, {one.size_bytes / 1e9:.2f} GB")
        folder = downloads / one.repository.part / one.commit
        paths = [fetch(one, file, folder, moved, say) for file in one.files]
        sources[one.repository.part] = paths[0] if len(paths) == 1 else folder
    _check_normalises(sources["speech"])
    return sources


def _check_normalises(speech: Path) -> None:
    """Raise if the speech encoder's own preprocessing differs from the preset."""
    path = speech / "preprocessor_config.json"
    try:
        fields = json.loads(path.read_text("utf-8"))
        fits = fields["do_normalize"] is True and fields["sampling_rate"] == 16_000
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a preprocessor's configuration: {error!r}") from error
    if not fits:
        raise CheckpointError(f"{path}: must normalise a waveform of 16000 Hz, as the preset {AUTHORS} does")


def _join(
    preset: str, sources: dict[str, Path], work: Path, options: AuthorsOptions, words: Any, say: Tell
) -> dict[str, Any]:
    """Assemble the frozen parts and merge the authors' file into them; return the report of the tensors."""
    from nanoemox.weights.assemble import WriteOptions, assemble
    from nanoemox.weights.convert import convert_checkpoints

    say("joining the public backbones")
    backbones: dict[Any, str] = {part: str(place) for part, place in sources.items() if part != _ADAPTERS}
    base = work / "base"
    assembly = assemble(
        preset, base, backbones, WriteOptions(dtype=options.dtype, max_shard_size=options.max_shard_size)
    )
    if words is not None:
        words.save(base)
    say("merging the authors' adapters, LoRA folded in")
    conversion = convert_checkpoints([sources[_ADAPTERS]], work / "model", base)
    return report_tensors(assembly, conversion)


def report_tensors(assembly: Assembly, conversion: Conversion) -> dict[str, Any]:
    """List every tensor by the part whose file holds it.

    Args:
        assembly: How the frozen weights were assembled.
        conversion: How the authors' file was merged into them.

    Returns:
        ``files``: part -> ``used`` (name in the file -> names in the model) and ``unused`` (reason -> names in the
        file); ``model``: part of the model -> number of tensors; ``drawn``: names of the model that no file holds.

    Raises:
        CheckpointError: A tensor of the model comes from no file, or the authors' file is none of the last phase.
    """
    from nanoemox.model.configuration import PAPER_BRANCHES

    changed = {ours for news in conversion.used.values() for ours in news}
    missing = [b for b in PAPER_BRANCHES if b not in conversion.trained_branches]
    if missing or conversion.lora is None:
        absent = [*(f"the adapters of {b}" for b in missing), *([] if conversion.lora else ["LoRA"])]
        raise CheckpointError(f"{', '.join(conversion.files)} lacks {', '.join(absent)}: it is no file of phase 3")
    drawn = sorted({n for names in assembly.initialised.values() for n in names} - changed)
    if left := [n for n in drawn if not _MAY_BE_DRAWN.fullmatch(n)]:
        raise CheckpointError(f"no file holds {len(left)} tensor(s) of the model: {left}")
    files: dict[str, dict[str, dict[str, list[str]]]] = defaultdict(lambda: {"used": {}, "unused": {}})
    for ours, origin in assembly.origins.items():
        part, _, theirs = origin.partition(": ")
        files[part]["used"].setdefault(theirs, []).append(ours)
    for reason, names in assembly.dropped.items():
        for name in names:
            part, _, theirs = name.partition(": ")
            files[part]["unused"].setdefault(reason, []).append(theirs)
    files[_ADAPTERS] = {"used": conversion.used, "unused": conversion.dropped}
    model = Counter(n.partition(".")[0] for n in {*assembly.origins, *changed, *drawn})
    return {"files": dict(files), "model": dict(model), "drawn": drawn}


def _write_report(model: Path, found: list[FoundRepository], options: AuthorsOptions, tensors: dict[str, Any]) -> None:
    repositories = [
        {
            "part": one.repository.part,
            "repo": one.repository.repo,
            "asked": one.repository.revision,
            "commit": one.commit,
            "licence_recorded": one.repository.licence,
            "licence_of_card": one.stated_licence,
            "files": [asdict(f) for f in one.files],
        }
        for one in found
    ]
    report = {
        "name": AUTHORS,
        "pulled": datetime.now(UTC).isoformat(timespec="seconds"),
        "nanoemox": nanoemox.__version__,
        "hub": endpoint(),
        "dtype": options.dtype,
        "words": "the user's" if options.words else "the package's own, where only the meaning is known",
        "repositories": repositories,
        "tensors": tensors,
    }
    (model / REPORT).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    notices = []
    for one in found:
        repo = one.repository.repo
        notices.append(f"{repo} at {one.commit}: {one.licence}; {endpoint()}/{repo}")
    (model / "NOTICE").write_text("\n".join(notices) + "\n", "utf-8")
    write_record(model, AUTHORS, tuple(_record(one) for one in found))


def _record(one: FoundRepository) -> PulledPart:
    weights = max(one.files, key=lambda f: f.size_bytes)
    return PulledPart(
        one.repository.repo, one.licence, f"the hub, commit {one.commit}", weights.sha256 or f"git {weights.blob}"
    )
