"""Fetch the public parts of `small` as `nanoemox pull small` does, and keep them apart: what training starts from.

python -m tools.small.parts --out PARTS
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from nanoemox.weights.catalogue import LANGUAGE, SPEECH
from nanoemox.weights.fetch import fetch_part
from nanoemox.weights.parts import write_language_model, write_whisper


def write_parts(out: Path) -> None:
    """Write ``smollm2`` and ``whisper-base`` into ``out``, a folder that is absent or has neither."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as name:
        work = Path(name)
        fetch_part(LANGUAGE, work / "downloads", work / "language", print)
        write_language_model(work / "language", out / "smollm2")
        fetch_part(SPEECH, work / "downloads", work / "speech", print)
        write_whisper(work / "speech", out / "whisper-base")


def main() -> None:
    """Fetch and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    write_parts(parser.parse_args().out)


if __name__ == "__main__":
    main()
