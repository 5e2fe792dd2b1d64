"""Answers as one HTML page, or as a card inside another page.

A page is one file without network or scripts: its policy forbids both, and allows the one style sheet by its hash.
Every word of a clip or a model is escaped, and what cannot be printed is dropped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nanoemox import __version__
from nanoemox.data.files import write_text
from nanoemox.printing import printable
from nanoemox.reporting import answer_chart
from nanoemox.reporting.clip_view import ClipView
from nanoemox.tasks import CHAIN_FIELDS, TASKS
from nanoemox.types import Answer, NanoEmoXError

MAX_CLIPS: Final = 200
"""Most clips on one page: each takes about 0.1 MB."""
PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito (2008): safe for all common types of colour blindness."""
NUM_BARS: Final = 5
"""Candidates that are shown before the rest is folded."""


@dataclass(frozen=True, slots=True)
class ClipAnswers:
    """One clip with the answers about it.

    Attributes:
        answers: One, or one per window in order of time, each with ``span_s`` then.
        view: Frames, audio and words of the clip; None shows the answers only.
    """

    answers: tuple[Answer, ...]
    view: ClipView | None = None

    @property
    def along(self) -> bool:
        """Whether the answers lie along the clip."""
        return self.answers[0].span_s is not None

    @property
    def duration_s(self) -> float:
        """Length of the clip in seconds, as far as is known."""
        ends = [a.span_s[1] for a in self.answers if a.span_s is not None]
        return max([*ends, self.view.duration_s if self.view else 0.0])


def render_page(clips: Sequence[ClipAnswers]) -> str:
    """Return a whole page.

    Args:
        clips: At least one.

    Raises:
        NanoEmoXError: There are none, or more than ``MAX_CLIPS``.
    """
    if not 0 < len(clips) <= MAX_CLIPS:
        raise NanoEmoXError(f"a page of {len(clips)} clips: give 1 to {MAX_CLIPS}, or write a table with --csv")
    names = dict.fromkeys(printable(c.answers[0].clip) for c in clips)
    title = next(iter(names)) if len(names) == 1 else f"{len(clips)} clips"
    css = style_sheet()
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    page = _pages().get_template("answer.html.j2")
    return page.render(title=title, version=__version__, css=Markup(css), digest=digest, clips=clips)  # noqa: S704


def render_card(clip: ClipAnswers) -> str:
    """Return the same view of one clip as an HTML fragment, for another page that includes :func:`style_sheet`.

    It holds neither braces nor dollars, so that no template of that page reads a subtitle as its own language.
    """
    card = _pages().get_template("answer_card.html.j2").render(item=clip)
    return card.replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;")


def write_page(path: Path, clips: Sequence[ClipAnswers]) -> None:
    """Write a page, the whole file or none.

    Raises:
        NanoEmoXError: As in :func:`render_page`, or the file cannot be written.
    """
    page = render_page(clips)
    try:
        write_text(path, page)
    except OSError as error:
        raise NanoEmoXError(f"{path}: {error.strerror or error}: name another file") from error


@cache
def style_sheet() -> str:
    """Return the style of a card; all of it lies under the class ``nx``."""
    return (files("nanoemox.reporting") / "page" / "answer.css").read_text("utf-8")


@cache
def _pages() -> Environment:
    pages = Environment(
        loader=PackageLoader("nanoemox.reporting", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"plain": lambda text: printable(str(text)), "percent": lambda share: f"{share:.0%}"}
    pages.globals |= {
        "chart": answer_chart,
        "palette": PALETTE,
        "num_bars": NUM_BARS,
        "tasks": TASKS,
        "chain": CHAIN_FIELDS,
        "ranked": lambda probabilities: sorted(probabilities.items(), key=lambda pair: -pair[1]),
        "signed": lambda value: round(value, 2) + 0.0,  # no -0.00
    }
    return pages
