"""Send a clip to a running server and print its emotion and a reply.

nanoemox serve --port 8000
python examples/client_affect.py [clip.mp4 [http://127.0.0.1:8000]]
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import httpx


def main() -> None:
    clip = Path(sys.argv[1] if len(sys.argv) > 1 else str(files("nanoemox") / "assets" / "sample.mp4"))
    address = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
    with clip.open("rb") as file:
        form = {"tasks": "mer,erg"}
        response = httpx.post(f"{address}/v1/affect", files={"file": file}, data=form, timeout=120)
    answer = response.raise_for_status().json()
    print(answer["tasks"]["mer"]["label"], "-", answer["tasks"]["erg"]["reply"])


if __name__ == "__main__":
    main()
