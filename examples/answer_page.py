"""Write the answers to a clip, and what the model used, as one HTML page.

python examples/answer_page.py [clip.mp4 [answer.html]]
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from nanoemox import AnswerOptions, Engine
from nanoemox.reporting.answer_page import ClipAnswers, write_page
from nanoemox.reporting.clip_view import view_clip


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else str(files("nanoemox") / "assets" / "sample.mp4")
    page = Path(sys.argv[2] if len(sys.argv) > 2 else "answer.html")
    engine = Engine.from_pretrained()
    clip = engine.load(path)
    answer = engine.answer(clip, options=AnswerOptions(explain=True))
    write_page(page, [ClipAnswers((answer,), view_clip(clip))])
    print(page)


if __name__ == "__main__":
    main()
