"""The source files of a cache entry, and their decoding in worker processes or threads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy.typing as npt
import torch

from nanoemox.media.decode import MediaOptions
from nanoemox.media.load import load_clip
from nanoemox.model.branches import BRANCHES, read_branches
from nanoemox.model.processing import NanoEmoXProcessor
from nanoemox.types import Clip, MediaError

NO_MEDIA: Final = "contains neither video nor audio"
Arrays = dict[str, npt.NDArray[Any]]


class Source(NamedTuple):
    """The source files of one entry.

    Attributes:
        media: Video, image or audio file, if there is one.
        beside: Branch and its sidecar file, such as face vectors.
    """

    media: str | None = None
    beside: tuple[tuple[str, str], ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are present."""
        return tuple(path for path in (self.media, *(file for _, file in self.beside)) if path)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return " with ".join(self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """The keys under which it may be listed as bad."""
        return (*self.files, self.name)

    def key(self, contents: Mapping[str, str]) -> str:
        """Return the key of its entry, given the content key of each of its files."""
        if self.media and not self.beside:
            return contents[self.media]
        joined = "+".join(contents[path] if path else "" for path in (self.media, *(file for _, file in self.beside)))
        what = "+".join(BRANCHES[branch].cached_as for branch, _ in self.beside)
        return hashlib.sha256(f"{what}: {joined}".encode()).hexdigest()

    def relocated(self, place: Callable[[str], str]) -> Source:
        """Return the source with every path put through ``place``."""
        beside = tuple((branch, place(file)) for branch, file in self.beside)
        return Source(place(self.media) if self.media else None, beside)


def prepare(processor: NanoEmoXProcessor) -> NanoEmoXProcessor:
    """Initialise a decoder process, which uses one core."""
    import multiprocessing

    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)
    return processor


def decode(processor: NanoEmoXProcessor, source: Source, careful: bool) -> Arrays | str:
    """Return the encoder inputs of a file, as arrays: tensors would use shared memory.

    Returns:
        See :meth:`NanoEmoXProcessor.media`; or why the file cannot be used.
    """
    try:
        clip = _read(processor.config, source, careful)
    except (MediaError, MemoryError) as error:
        return str(error).removeprefix(f"{os.path.basename(source.files[0])}: ") or "too large for the memory"
    media = {name: tensor.numpy() for name, tensor in processor.media(clip).items()}
    return media or NO_MEDIA


def _read(config: Any, source: Source, careful: bool) -> Clip:
    """Read a file and the other inputs of the branches."""
    if source.media is None:
        clip = Clip(name=os.path.basename(source.name))
    else:
        options = MediaOptions(frame_sampling=config.vision.frame_sampling)
        clip = load_clip(source.media, num_frames=config.vision.num_frames, isolated=careful, options=options)
    return read_branches(clip, config, dict(source.beside))
