"""Protocol of answerers: local models, served models, baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from nanoemox.benchmarks.records import Benchmark
from nanoemox.data.manifest import Sample
from nanoemox.types import Clip, NanoEmoXError


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one clip.

    Attributes:
        raw: Output text; None if the clip could not be answered.
        parsed: The task object of the command line's answer.
        prompt: SHA-256 of the text of the prompt, without media.
        error: Why there is no answer.
        timing_s: Stage -> seconds.
    """

    raw: str | None = None
    parsed: Mapping[str, Any] | None = None
    prompt: str | None = None
    error: str | None = None
    timing_s: Mapping[str, float] = field(default_factory=dict)


class Answerer(Protocol):
    """Something that answers questions about clips."""

    @property
    def name(self) -> str:
        """Display name."""

    def answer(self, benchmark: Benchmark, samples: Sequence[Sample]) -> list[Reply]:
        """Answer a batch, one reply per sample in order; a bad clip is a reply with its error, not an exception."""


class Model(Answerer, Protocol):
    """An answerer that is evaluated."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that its answers depend on; a run is resumed only with equal settings."""


def media_file(data_root: Path, source: str) -> Path:
    """Return the path of a media file of a manifest.

    Raises:
        NanoEmoXError: The path leads out of the data root.
    """
    if Path(source).is_absolute() or ".." in Path(source).parts:
        raise NanoEmoXError(f"{source}: a path of media must stay below {data_root}: put the file there, or a link")
    return data_root / source


def clip_of(sample: Sample, data_root: Path, load: Callable[..., Clip]) -> Clip:
    """Load the clip of a sample.

    The transcript is the manifest's. Subtitles next to or inside the file are ignored: baselines that withhold or
    exchange the media could not read them, or would read those of another clip.

    Args:
        sample: The sample.
        data_root: Folder that media paths are relative to.
        load: Reads a file, with the keywords ``subtitle`` and ``history`` of ``load_clip``.

    Raises:
        MediaError: A file cannot be read.
    """
    source = sample.media or sample.audio
    if source is None:
        return Clip(name=sample.id, subtitle=sample.subtitle, history=sample.history)
    clip = load(data_root / source, subtitle=sample.subtitle or "", history=sample.history)
    if sample.media and sample.audio:
        clip = replace(clip, waveform=load(data_root / sample.audio, subtitle="").waveform)
    return replace(clip, name=sample.id)
