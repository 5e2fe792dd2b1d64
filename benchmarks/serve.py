"""What batching across requests is worth: 16 clients at once against the same requests one after another.

    python benchmarks/serve.py [--model DIR] [--clients 16] [--rounds N] [--soak SECONDS] [--json]

The server runs in a process of its own, as ``nanoemox serve`` starts it. Every answer is compared with the one that the
engine gives alone. ``--soak`` keeps the clients at it and prints the server's memory before, midway and after.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from nanoemox.inference.engine import Engine

SAMPLE = Path(__file__).parents[1] / "src" / "nanoemox" / "assets" / "sample.mp4"
WORDS = ["I got the job!", "It is over.", "Leave me alone.", "Thank you so much.", "What was that?", "I miss her."]


class Server:
    """``nanoemox serve`` in a process of its own."""

    def __init__(self, model: str, clients: int) -> None:
        options = ["--model", model, "--port", "0", "--batch", str(clients), "--decoders", "2"]
        command = [sys.executable, "-u", "-m", "nanoemox", "serve", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = next(word for word in line.split() if word.startswith("http"))

    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmRSS"))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def requests(kind: str, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Path and body of some requests; neighbours differ in their words."""
    video = base64.b64encode(SAMPLE.read_bytes()).decode()
    out: list[tuple[str, dict[str, Any]]] = []
    for i in range(count):
        words = WORDS[i % len(WORDS)]
        if kind == "words":
            out.append(("/v1/affect", {"text": words}))
        elif kind == "clip":
            out.append(("/v1/affect", {"text": words, "video": video}))
        elif kind == "decide":
            asked = [{"type": "predicate", "instructions": f"Is the speaker {a}?"} for a in ("sad", "tired", "proud")]
            out.append(("/v1/decisions", {"model": "nanoemox", "input": words, "questions": asked}))
        else:
            message = {"role": "user", "content": words}
            out.append(("/v1/chat/completions", {"model": "nanoemox", "messages": [message]}))
    return out


def signature(path: str, found: dict[str, Any]) -> Any:
    """What of an answer must not depend on who else is asking."""
    if path == "/v1/affect":
        return {k: (r["raw"], _rounded(r.get("probabilities"))) for k, r in found["tasks"].items()}
    if path == "/v1/decisions":
        return [round(a["probability"], 3) for a in found["answers"]]
    return found["choices"][0]["message"]["content"]


def _rounded(shares: dict[str, float] | None) -> dict[str, float] | None:
    return None if shares is None else {k: round(v, 3) for k, v in shares.items()}


def ask(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    while True:
        answer = client.post(path, json=body)
        if answer.status_code != 429:
            break
        time.sleep(float(answer.headers["retry-after"]) * random.uniform(0.5, 1.5))
    answer.raise_for_status()
    return signature(path, answer.json())


def compare(url: str, kind: str, clients: int, rounds: int) -> dict[str, Any]:
    """Requests a second, one by one and at once."""
    asked = requests(kind, clients)
    alone, together, seconds = [], [], []
    wrong = 0
    with httpx.Client(base_url=url, timeout=600) as client, ThreadPoolExecutor(clients) as pool:
        wanted = [ask(client, *request) for request in asked]  # warms up, too
        for _ in range(rounds):
            begin = time.perf_counter()
            for request in asked:
                ask(client, *request)
            alone.append(len(asked) / (time.perf_counter() - begin))

            def timed(request: tuple[str, dict[str, Any]]) -> Any:
                start = time.perf_counter()
                found = ask(client, *request)
                seconds.append(time.perf_counter() - start)
                return found

            begin = time.perf_counter()
            found = list(pool.map(timed, asked))
            together.append(len(asked) / (time.perf_counter() - begin))
            wrong += sum(a != b for a, b in zip(found, wanted, strict=True))
    ratio = statistics.median(together) / statistics.median(alone)
    return {
        "one_by_one_per_s": round(statistics.median(alone), 2),
        "at_once_per_s": round(statistics.median(together), 2),
        "ratio": round(ratio, 2),
        "p95_at_once_s": round(sorted(seconds)[int(0.95 * (len(seconds) - 1))], 2),
        "wrong_answers": wrong,
    }


def soak(server: Server, clients: int, seconds: float) -> dict[str, Any]:
    """Keep clients at it with requests of all kinds; memory and answers are checked."""
    kinds = [r for kind in ("words", "clip", "decide", "chat") for r in requests(kind, len(WORDS))]
    with httpx.Client(base_url=server.url, timeout=600) as client:
        wanted = [ask(client, *r) for r in kinds]
    end = time.monotonic() + seconds
    counts, wrong, memory = [0] * clients, [0] * clients, []

    def work(i: int) -> None:
        chosen = random.Random(i)
        with httpx.Client(base_url=server.url, timeout=600) as client:
            while time.monotonic() < end:
                k = chosen.randrange(len(kinds))
                wrong[i] += ask(client, *kinds[k]) != wanted[k]
                counts[i] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(server.memory_mb())
        time.sleep(min(5.0, seconds / 20))
    fifth = max(1, len(memory) // 5)
    return {
        "soak_s": seconds,
        "answers": sum(counts),
        "wrong_answers": sum(wrong),
        "memory_mb_fifths": [round(max(memory[i : i + fifth])) for i in range(0, fifth * 5, fifth)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", default="words,clip,decide,chat")
    parser.add_argument("--soak", type=float, default=0.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    server = Server(args.model, args.clients)
    try:
        found: dict[str, Any] = {
            k: compare(server.url, k, args.clients, args.rounds) for k in args.kinds.split(",") if k
        }
        if args.soak:
            found["soak"] = soak(server, args.clients, args.soak)
        _check_against_the_engine(server.url, args.model)
    finally:
        server.stop()
    if args.json:
        print(json.dumps(found))
        return
    for kind, row in found.items():
        print(kind)
        for name, value in row.items():
            print(f"  {name:<20}{value}")


def _check_against_the_engine(url: str, model: str) -> None:
    """The server's answers are those of the engine alone."""
    engine = Engine.from_pretrained(model)
    with httpx.Client(base_url=url, timeout=600) as client:
        for path, body in requests("words", len(WORDS)):
            wanted = signature(path, json.loads(json.dumps(engine.answer(None, text=body["text"]).to_dict())))
            assert ask(client, path, body) == wanted


if __name__ == "__main__":
    main()
