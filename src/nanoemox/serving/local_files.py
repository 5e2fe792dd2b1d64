"""Files on this machine that an agent or a page names: which may be read, and within what limits."""

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
        folders: At least one; relative paths start in the first.

    Raises:
        NanoEmoXError: A folder does not exist.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise NanoEmoXError(f"--folder {folder}: no such folder")
        self._folders = tuple(folder.resolve() for folder in folders)

    def find(self, name: str) -> Path:
        """Return the file of that name, symbolic links resolved.

        Raises:
            MediaError: It is outside the folders (whether or not it exists there), missing or too large.
        """
        try:
            path = (self._folders[0] / name).resolve()
            inside = any(path.is_relative_to(folder) for folder in self._folders)
            size = path.stat().st_size if inside and path.is_file() else None
        except (OSError, ValueError, RuntimeError) as error:
            raise MediaError("path: not a valid file name") from error
        if not inside:
            raise MediaError("path: not in an allowed folder; start the server with --folder to allow another")
        if size is None:
            raise MediaError("path: no such file in the allowed folders")
        if size > MAX_FILE_BYTES:
            raise MediaError(f"path: {size} bytes, limit {MAX_FILE_BYTES}: shorten the clip")
        return path


def read_file(
    engine: Engine,
    path: Path,
    text: str | None = None,
    history: Sequence[Turn] = (),
    limits: Limits | None = None,
    span_s: tuple[float, float] | None = None,
) -> Clip:
    """Decode a clip in a child process and complete it with face and words.

    Args:
        engine: The engine that will answer.
        path: The file.
        text: What is said; None takes the file's subtitle, else a transcript.
        history: Earlier turns, oldest first.
        limits: Limits of duration, images, time and memory.
        span_s: Read only from here to there, in seconds.

    Raises:
        MediaError: The file cannot be read or exceeds a limit.
    """
    config = engine.processor.config.vision
    options = (limits or Limits()).media(config.num_frames, config.frame_sampling, span_s)
    options = replace(options, max_bytes=MAX_FILE_BYTES)
    clip = load_clip(
        path,
        num_frames=config.num_frames,
        subtitle=text,
        history=history,
        start_s=options.start_s,
        end_s=options.end_s,
        isolated=True,
        options=options,
    )
    return engine.complete(clip, options=LoadOptions(hear=text is None))
