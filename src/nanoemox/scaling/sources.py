"""Clips that lie in an object store: listed and copied through the file systems of pyarrow (s3, gs, hdfs, file)."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from nanoemox.media.decode import MediaOptions
from nanoemox.media.subtitles import SIDECAR_SUFFIXES
from nanoemox.types import MediaError, NanoEmoXError, needs_extra


def is_remote(source: str) -> bool:
    """Whether this is a URI, not a path."""
    return "://" in source


def list_clips(uri: str, suffixes: Collection[str]) -> list[str]:
    """Return the URIs of the clips under a URI, sorted, or itself where it is a file.

    Args:
        uri: ``s3://bucket/folder``; further settings of the file system are in its query, as pyarrow reads it
            (``?endpoint_override=...``), and secrets in the environment.
        suffixes: How names of clips end, in lower case.

    Raises:
        NanoEmoXError: Nothing can be listed there, or nothing is.
    """
    if "@" in urlsplit(uri).netloc:
        raise NanoEmoXError("the URI holds a key: put it into the environment (AWS_ACCESS_KEY_ID and the like)")
    fs = _fs()
    try:
        system, path = fs.FileSystem.from_uri(uri)
        found = system.get_file_info(path)
        if found.type == fs.FileType.Directory:
            inside = system.get_file_info(fs.FileSelector(path, recursive=True))
            clips = [f.path for f in inside if f.is_file and f".{f.extension.lower()}" in suffixes]
        else:
            clips = [found.path] if found.is_file else []
    except (OSError, ValueError) as error:
        raise NanoEmoXError(f"{uri}: cannot be listed ({_short(error)})") from error
    if not clips:
        raise NanoEmoXError(f"{uri}: no video, audio or picture file there")
    return sorted(_uri_of(uri, clip) for clip in clips)


def copy_clip(uri: str, folder: Path) -> Path:
    """Copy a clip and its subtitle files into a folder, and return its path.

    Raises:
        MediaError: It cannot be read, or is larger than what is decoded.
    """
    fs = _fs()
    limit = MediaOptions().max_bytes
    try:
        system, path = fs.FileSystem.from_uri(uri)
        beside = [str(Path(path).with_suffix(suffix)) for suffix in SIDECAR_SUFFIXES]
        clip, *subtitles = system.get_file_info([path, *beside])
        if not clip.is_file:
            raise MediaError(f"{uri}: no such file")
        if clip.size > limit:
            raise MediaError(f"{uri}: {clip.size} bytes, limit {limit}: cut it")
        for info in (clip, *(s for s in subtitles if s.is_file)):
            with system.open_input_stream(info.path) as source, (folder / info.base_name).open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
    except (OSError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"{uri}: cannot be read ({_short(error)})") from error
    return folder / str(clip.base_name)


def _fs() -> Any:
    with needs_extra("ray", "an object store"):
        from pyarrow import fs
    return fs


def _uri_of(asked: str, path: str) -> str:
    """Write a path of the file system, which may start with a bucket, as a URI of the same place."""
    parts = urlsplit(asked)
    at = f"{parts.scheme}://{parts.netloc if path.startswith('/') else ''}{quote(path)}"
    return f"{at}?{parts.query}" if parts.query else at


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
