"""Files on this machine that somebody else names (an agent, a page): which may be read, and within what limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nanoemox.inference.engine import Engine
from nanoemox.inference.options import LoadOptions
from nanoemox.media.load import load_clip
from nanoemox.serving.limits import Limits
from nanoemox.types import Clip, MediaError, NanoEmoXError, Turn

MAX_FILE_BYTES = 256 * 2**20


class Folders:
    """The folders whose files may be read.

    Args:
        folders: At least one; a relative path is looked for in the first.

    Raises:
        NanoEmoXError: One is not there.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise NanoEmoXError(f"--folder {folder}: no such folder")
        self._folders = tuple(folder.resolve() for folder in folders)

    def find(self, name: str) -> Path:
        """Return the file of that name, links followed.

        Raises:
            MediaError: It is in none of the folders (whether it exists elsewhere is not told), is not there or is too
                large.
        """
        try:
            path = (self._folders[0] / name).resolve()
            inside = any(path.is_relative_to(folder) for folder in self._folders)
            size = path.stat().st_size if inside and path.is_file() else None
        except (OSError, ValueError, RuntimeError) as error:
            raise MediaError("path: it cannot be a file's name") from error
        if not inside:
            raise MediaError("path: not in a folder that may be read; start the server with --folder to allow another")
        if size is None:
            raise MediaError("path: no such file in the folders that may be read")
        if size > MAX_FILE_BYTES:
            raise MediaError(f"path: {size} bytes, limit {MAX_FILE_BYTES}: cut the clip")
        return path


def read_file(
    engine: Engine, path: Path, text: str | None = None, history: Sequence[Turn] = (), limits: Limits | None = None
) -> Clip:
    """Read a clip in a process of its own, as the engine needs it.

    Args:
        engine: Whose frames, words and face are looked for.
        path: The file.
        text: The words; None takes those beside or in the file, else what is heard.
        history: Earlier turns, oldest first.
        limits: Bounds of length, pictures, time and memory.

    Raises:
        MediaError: It cannot be read, or a limit is passed.
    """
    config = engine.processor.config.vision
    options = (limits or Limits()).media(config.num_frames, config.frame_sampling)
    options = replace(options, max_bytes=MAX_FILE_BYTES)
    clip = load_clip(path, num_frames=config.num_frames, subtitle=text, history=history, isolated=True, options=options)
    return engine.complete(clip, options=LoadOptions(hear=text is None))
