"""Ask a running server questions of your own about a clip, with OpenAI's client.

nanoemox serve --port 8000
python examples/client_decisions.py [clip.mp4 [http://127.0.0.1:8000]]
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from openai import OpenAI

QUESTIONS = [
    {"type": "predicate", "instructions": "The speaker is being sarcastic."},
    {"type": "choice", "instructions": "Who is addressed?", "choices": [{"value": "friend"}, {"value": "stranger"}]},
    {"type": "score", "instructions": "How tense is it?", "levels": [{"label": "calm"}, {"label": "tense"}]},
]


def main() -> None:
    clip = Path(sys.argv[1] if len(sys.argv) > 1 else str(files("nanoemox") / "assets" / "sample.mp4"))
    address = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
    client = OpenAI(base_url=f"{address}/v1", api_key="none")
    file = client.files.create(file=clip, purpose="user_data")
    video = {"type": "input_video", "file_id": file.id}
    content = [{"role": "user", "content": [video]}]
    found = client.decisions.create(model="nanoemox", input=content, questions=QUESTIONS)
    sarcastic, addressed, tense = found.answers
    print(f"sarcastic: {sarcastic.probability:.0%}; addressed: {addressed.choice}; tension: {tense.score:.2f} of 1")


if __name__ == "__main__":
    main()
