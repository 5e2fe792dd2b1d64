"""Synthetic runs with empathetic replies for rating."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CRITERIA = ("empathy", "insight", "safety")
TALK = [{"role": "listener", "text": "How was your day?"}, {"role": "speaker", "text": "I lost my job."}]


def reply_row(clip: str, text: str | None, context: Any = None) -> dict[str, Any]:
    parsed = None if text is None else {"think": None, "reply": text, "raw": text}
    row = {"benchmark": "avamerg", "id": clip, "truth": "sad", "raw": text, "parsed": parsed}
    return row if context is None else row | {"context": context}


def write_run(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def two_runs(folder: Path, num_clips: int = 6) -> list[Path]:
    """Write ``alpha`` and ``omega``; each reply says which clip it is of, and by a letter whose it is."""
    return [
        write_run(folder / name, [reply_row(f"c{i}", f"{mark} c{i}", TALK) for i in range(num_clips)])
        for name, mark in (("alpha", "Hm,"), ("omega", "Oh,"))
    ]
