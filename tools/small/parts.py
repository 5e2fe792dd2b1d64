"""Fetch the public parts of `small` like `nanoemox pull small`, as separate folders for training.

python -m tools.small.parts --out PARTS
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from nanoemox.weights.home import WHISPER
from nanoemox.weights.pull import LANGUAGE_MODEL, fetch_parts


def write_parts(out: Path) -> None:
    """Write ``smollm2`` and ``whisper-base`` into ``out``, a folder that is absent or has neither."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as name:
        work = Path(name)
        fetch_parts(work / "downloads", work, print)
        (work / LANGUAGE_MODEL).rename(out / "smollm2")
        (work / WHISPER).rename(out / "whisper-base")


def main() -> None:
    """Fetch and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    write_parts(parser.parse_args().out)


if __name__ == "__main__":
    main()
