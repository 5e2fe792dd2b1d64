"""Answer all six tasks about one clip.

python examples/answer_clip.py [clip.mp4]
"""

from __future__ import annotations

import sys
from importlib.resources import files

from nanoemox import Engine


def main() -> None:
    clip = sys.argv[1] if len(sys.argv) > 1 else str(files("nanoemox") / "assets" / "sample.mp4")
    answer = Engine.from_pretrained().answer(clip)
    for task, reading in answer.tasks.items():
        print(f"{task:6} {reading.raw}")
    for warning in answer.warnings:
        print(f"note: {warning}")


if __name__ == "__main__":
    main()
