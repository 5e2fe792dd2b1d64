"""Files of a hub repository at one commit: looked up first, fetched with resume, and verified by hash.

``hf_hub_download`` drops partial files when a process ends; here the library's own download appends to a file that
is kept, so that the next pull requests the rest.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nanoemox.types import CheckpointError
from nanoemox.weights.authors_catalogue import Repository
from nanoemox.weights.fetch import Tell, sha256_of

Moved = Callable[[int], None]
"""Called with the number of new bytes; negative if some have to be fetched again."""
Result = TypeVar("Result")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BUSY, _REFUSED = (429, 500, 502, 503, 504), (401, 403, 404)
_TRIES, _LONGEST_WAIT_S = 6, 60.0


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file as the hub describes it.

    Attributes:
        path: Its path in the repository.
        size_bytes: Its size.
        sha256: Its hash; None for a file stored in git itself.
        blob: Git's hash of its content (SHA-1), used if there is no ``sha256``.
    """

    path: str
    size_bytes: int
    sha256: str | None
    blob: str | None

    def fits(self, path: Path) -> bool:
        """Whether a file on the disk is this one."""
        if path.stat().st_size != self.size_bytes:
            return False
        return sha256_of(path) == self.sha256 if self.sha256 is not None else _git_blob(path) == self.blob


@dataclass(frozen=True, slots=True)
class FoundRepository:
    """A repository as the hub describes it.

    Attributes:
        repository: Its record in the catalogue.
        commit: The commit that everything is fetched from.
        stated_licence: Licence in its card, or None.
        files: In the order of the catalogue.
    """

    repository: Repository
    commit: str
    stated_licence: str | None
    files: tuple[FoundFile, ...]

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(f.size_bytes for f in self.files)

    @property
    def licence(self) -> str:
        """The licence, for display."""
        recorded, stated = self.repository.licence, self.stated_licence
        if recorded is None or stated is None or recorded.lower() == stated.lower():
            return stated or recorded or "none stated"
        return f"{recorded} (recorded), {stated} (its card)"


def endpoint() -> str:
    """Return the address of the hub: ``HF_ENDPOINT``, or the public one."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def look_up(repository: Repository, tell: Tell) -> FoundRepository:
    """Look up a repository on the hub, without fetching anything.

    Args:
        repository: Repository, revision and files.
        tell: Called with a line while the hub is busy.

    Raises:
        CheckpointError: There is no such repository, revision or file; a file is too large, or not the recorded one;
            the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    where = f"{repository.repo} at {repository.revision}"
    info = _patiently(
        where,
        lambda: HfApi(endpoint=endpoint()).model_info(
            repository.repo, revision=repository.revision, files_metadata=True
        ),
        tell,
    )
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit) or (_COMMIT.fullmatch(repository.revision) and commit != repository.revision):
        raise CheckpointError(f"{where}: the hub answers with commit {commit[:80]!r}: not the requested one")
    there = {s.rfilename: s for s in info.siblings or []}
    if missing := [f.path for f in repository.files if f.path not in there]:
        raise CheckpointError(f"{where}: the repository has no {', '.join(missing)} at commit {commit}")
    files = []
    for file in repository.files:
        found = there[file.path]
        lfs: Any = found.lfs
        # A recorded hash holds also where the hub states none.
        sha256 = lfs["sha256"] if lfs else file.sha256
        files.append(FoundFile(file.path, int(found.size or 0), sha256, found.blob_id))
        _check_recorded(where, files[-1], file.most_bytes, file.size_bytes, file.sha256)
    card: Any = info.card_data
    licence = str(card["license"]) if card and card.get("license") else None
    return FoundRepository(repository, commit, licence, tuple(files))


def _check_recorded(where: str, found: FoundFile, most: int, size: int | None, sha256: str | None) -> None:
    if not 0 < found.size_bytes <= most:
        raise CheckpointError(
            f"{where}: {found.path} has {found.size_bytes:,} bytes, limit {most:,}: it is not fetched"
        )
    if found.sha256 is None and found.blob is None:
        raise CheckpointError(f"{where}: the hub states no hash of {found.path}, so it could not be checked")
    stated = {"bytes": found.size_bytes, "SHA-256": found.sha256}
    recorded = {"bytes": size, "SHA-256": sha256}
    if wrong := {n: v for n, v in recorded.items() if v is not None and stated[n] != v}:
        raise CheckpointError(f"{where}: {found.path} has {stated}, recorded is {wrong}: another file, so not fetched")


def fetch(found: FoundRepository, file: FoundFile, folder: Path, moved: Moved, tell: Tell) -> Path:
    """Fetch one file, resuming an interrupted download, and verify it.

    Args:
        found: Its repository.
        file: The file.
        folder: Folder of the repository's files.
        moved: Called with the progress.
        tell: Called with a line while the hub is busy.

    Raises:
        CheckpointError: It cannot be fetched, or its hash is wrong; a wrong file is deleted.
    """
    target = folder / file.path
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    where = f"{found.repository.repo}, {file.path}"
    if target.is_file() and file.fits(target):
        moved(file.size_bytes)
        return target
    _patiently(where, lambda: _download(found, file, part, moved), tell)
    part.replace(target)
    if not file.fits(target):
        target.unlink()
        moved(-file.size_bytes)
        raise CheckpointError(
            f"{where}: the download differs from commit {found.commit} on the hub (its hash differs), so it is "
            "deleted: run the same command again"
        )
    return target


def _download(found: FoundRepository, file: FoundFile, part: Path, moved: Moved) -> None:
    """Let the library append what is missing to a partial file."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(found.repository.repo, file.path, revision=found.commit, endpoint=endpoint())
    start = part.stat().st_size if part.is_file() else 0
    if start > file.size_bytes:
        part.unlink()
        start = 0
    moved(start)
    with part.open("ab") as handle:
        counted = _Counted(handle, moved, file.size_bytes)
        try:
            headers = build_hf_headers()
            http_get(url, counted, resume_size=start, headers=headers, expected_size=file.size_bytes)  # type: ignore[arg-type]
        except HfHubHTTPError as error:
            moved(-handle.tell())
            if error.response is not None and error.response.status_code == 416:  # the rest that we want is not there
                part.unlink()
            raise
        except OSError as error:
            moved(-handle.tell())
            if error.errno is not None:
                raise
            part.unlink()
            raise CheckpointError(
                f"{found.repository.repo}, {file.path}: the hub sent more or fewer bytes than the "
                f"{file.size_bytes:,} that it states, so they are deleted: run the same command again"
            ) from None
        except BaseException:
            moved(-handle.tell())
            raise


class _Counted:
    """A file of limited size that reports progress; the library starts over by truncating it."""

    def __init__(self, handle: Any, moved: Moved, most: int) -> None:
        self._handle, self._moved, self._most = handle, moved, most

    def write(self, block: bytes) -> int:
        if self.tell() + len(block) > self._most:
            raise OSError("more bytes than stated")
        self._moved(len(block))
        return int(self._handle.write(block))

    def tell(self) -> int:
        return int(self._handle.tell())

    def seek(self, at: int, whence: int = 0) -> int:
        return int(self._handle.seek(at, whence))

    def truncate(self, size: int | None = None) -> int:
        at = self.tell() if size is None else size
        self._moved(at - self._handle.seek(0, 2))
        return int(self._handle.truncate(at))


def _patiently(where: str, call: Callable[[], Result], tell: Tell) -> Result:
    """Call, with retries while the hub is busy; other failures become a CheckpointError."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    for left in reversed(range(_TRIES)):
        try:
            return call()
        except CheckpointError:
            raise
        except GatedRepoError:
            raise CheckpointError(
                f"{where}: its owner asks for an agreement: accept it on {endpoint()}, log in (`hf auth login`) and "
                "run the same command again"
            ) from None
        except RevisionNotFoundError:
            raise CheckpointError(f"{where}: the hub has no such revision of it") from None
        except RepositoryNotFoundError:
            raise CheckpointError(f"{where}: the hub has no such repository, or shows it to others only") from None
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status not in _BUSY or not left:
                again = "" if status in _REFUSED else "; run the same command again"
                raise CheckpointError(f"{where}: the hub answers {status or error}{again}") from None
            wait = _wait_s(error, _TRIES - left)
            tell(f"{where}: the hub answers {status}; waiting {wait:.0f} s")
            time.sleep(wait)
        except Exception as error:  # (the library's client is httpx or httpx2, by its version)
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(
                f"{where}: cannot be fetched from {endpoint()}: {reason}. Check the network, HF_ENDPOINT and "
                "HF_HUB_OFFLINE, then run the same command again: what was fetched is kept"
            ) from None
    raise AssertionError


def _wait_s(error: Any, tries: int) -> float:
    wait = str(error.response.headers.get("Retry-After", ""))
    return min(float(wait) if wait.isdigit() else 2.0**tries, _LONGEST_WAIT_S)


def _git_blob(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
