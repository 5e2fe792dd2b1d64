"""``nanoemox answer --html``: collect the answers and write them as one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nanoemox.cli.render import show_line
from nanoemox.types import Answer, Clip, NanoEmoXError, check_output

if TYPE_CHECKING:
    from nanoemox.reporting.clip_view import ClipView


class PageWriter:
    """The page of one call; nothing is written before the last clip is answered.

    Args:
        file: The page to write.

    Raises:
        NanoEmoXError: The name is not that of a page, so a clip could be overwritten by mistake.
    """

    def __init__(self, file: Path) -> None:
        check_output("--html", file, ".html", ".htm")
        self._file = file
        self._views: dict[Path, ClipView] = {}
        self._answers: dict[Path, tuple[Answer, ...]] = {}

    def check_number(self, number: int) -> None:
        """Raise if there are more clips than fit on one page."""
        from nanoemox.reporting.answer_page import MAX_CLIPS

        if number > MAX_CLIPS:
            raise NanoEmoXError(f"--html: {number} clips, limit {MAX_CLIPS} on one page: give fewer, or use --csv FILE")

    def see(self, path: Path, clip: Clip) -> None:
        """Keep the displayed parts of a clip, so that the clip itself can be freed."""
        from nanoemox.reporting.clip_view import view_clip

        self._views[path] = view_clip(clip)

    def add(self, path: Path, answers: Sequence[Answer]) -> None:
        """Add the answers about a clip."""
        self._answers[path] = tuple(answers)

    def write(self) -> None:
        """Write the page if anything was answered.

        Raises:
            NanoEmoXError: The file cannot be written.
        """
        from nanoemox.reporting.answer_page import ClipAnswers, write_page

        if self._answers:
            write_page(self._file, [ClipAnswers(a, self._views.get(p)) for p, a in self._answers.items()])
            show_line(f"written: {self._file}")
