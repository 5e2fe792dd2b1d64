"""The server under load: throughput of many clients, a soak, and live streams.

    python benchmarks/serve.py [--model DIR] [--clients 16] [--rounds 5] [--kinds words,clip,decide,chat] [--json]
    python benchmarks/serve.py --kinds '' --soak 600
    python benchmarks/serve.py --kinds '' --live 180 --streams 8

The server is a process of ``nanoemox serve``. The first command compares concurrent with sequential requests,
``--soak`` runs the clients for a time, ``--live`` sends audio and images in real time. All answers of the first two are
compared with those of an engine in this process, one request at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from websockets.sync.client import connect

from nanoemox.inference.engine import Engine
from nanoemox.media.load import load_clip
from nanoemox.serving.app import create_app
from nanoemox.serving.limits import Limits
from nanoemox.serving.service import Service

SAMPLE = Path(__file__).parents[1] / "src" / "nanoemox" / "assets" / "sample.mp4"
KINDS = ("words", "clip", "decide", "chat")
CHUNK_S = 0.1
WORDS = ["I got the job!", "It is over.", "Leave me alone.", "Thank you so much.", "What was that?", "I miss her."]


class Server:
    """A process of ``nanoemox serve``."""

    def __init__(self, model: str, clients: int) -> None:
        options = ["--model", model, "--port", "0", "--batch", str(clients), "--decoders", "2"]
        command = [sys.executable, "-u", "-m", "nanoemox", "serve", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = next(word for word in line.split() if word.startswith("http"))

    def memory_mb(self) -> float:
        """Memory of the server, without its short-lived decoders."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmRSS"))

    def processor_s(self) -> float:
        """Processor time so far, including its child processes, even finished ones."""
        ticks, waiting = 0, [str(self.process.pid)]
        while waiting:
            process = Path("/proc", waiting.pop())
            ticks += sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:15]))
            for thread in (process / "task").iterdir():
                waiting += (thread / "children").read_text().split()
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def requests(kind: str, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Return path and body of some requests; neighbours differ in their text."""
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
    """Return the part of a response that must not depend on concurrent requests."""
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


def reference_answers(model: str, asked: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Return the answers of an engine in this process, one request at a time."""
    service = Service(Engine.from_pretrained(model), Limits(batch=1, decoders=1))

    async def ask_all() -> list[Any]:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=600) as client:
            found = [await client.post(path, json=body) for path, body in asked]
        return [signature(path, a.raise_for_status().json()) for (path, _), a in zip(asked, found, strict=True)]

    try:
        return asyncio.run(ask_all())
    finally:
        service.close()


def compare(server: Server, kind: str, clients: int, rounds: int, model: str) -> dict[str, Any]:
    """Measure requests per second and processor time per request, sequential and concurrent."""
    asked = requests(kind, clients)
    wanted = reference_answers(model, asked[: len(WORDS)])
    alone, together, seconds = [], [], []
    wrong, spent_alone, spent_together = 0, 0.0, 0.0
    with httpx.Client(base_url=server.url, timeout=600) as client, ThreadPoolExecutor(clients) as pool:

        def timed(request: tuple[str, dict[str, Any]]) -> Any:
            start = time.perf_counter()
            found = ask(client, *request)
            seconds.append(time.perf_counter() - start)
            return found

        ask(client, *asked[0])  # warms up
        for _ in range(rounds):
            begin, spent = time.perf_counter(), server.processor_s()
            one_by_one = [ask(client, *request) for request in asked]
            alone.append(len(asked) / (time.perf_counter() - begin))
            begin, half_way = time.perf_counter(), server.processor_s()
            at_once = list(pool.map(timed, asked))
            together.append(len(asked) / (time.perf_counter() - begin))
            spent_alone += half_way - spent
            spent_together += server.processor_s() - half_way
            for found in (one_by_one, at_once):
                wrong += sum(a != wanted[i % len(wanted)] for i, a in enumerate(found))
    return {
        "one_by_one_per_s": round(statistics.median(alone), 2),
        "at_once_per_s": round(statistics.median(together), 2),
        "ratio": round(statistics.median(together) / statistics.median(alone), 2),
        "one_by_one_cpu_s": round(spent_alone / (rounds * len(asked)), 3),
        "at_once_cpu_s": round(spent_together / (rounds * len(asked)), 3),
        "p95_at_once_s": percentile(seconds, 0.95),
        "wrong_answers": wrong,
    }


def percentile(values: list[float], share: float) -> float | None:
    return round(sorted(values)[int(share * (len(values) - 1))], 3) if values else None


def soak(server: Server, clients: int, seconds: float, model: str) -> dict[str, Any]:
    """Run clients with all kinds of requests for a time; check memory and answers."""
    kinds = [r for kind in KINDS for r in requests(kind, len(WORDS))]
    wanted = reference_answers(model, kinds)
    end = time.monotonic() + seconds

    def work(i: int) -> Counter[str]:
        chosen, counts = random.Random(i), Counter[str]()
        with httpx.Client(base_url=server.url, timeout=600) as client:
            while time.monotonic() < end:
                k = chosen.randrange(len(kinds))
                counts["sent"] += 1
                try:
                    counts["wrong"] += ask(client, *kinds[k]) != wanted[k]
                    counts["answers"] += 1
                except httpx.HTTPError as error:
                    counts[f"lost: {type(error).__name__}"] += 1
        return counts

    with ThreadPoolExecutor(clients) as pool:
        workers = [pool.submit(work, i) for i in range(clients)]
        memory = watch_memory(server, seconds, lambda: all(w.done() for w in workers))
        counts = sum((w.result() for w in workers), Counter[str]())
    lost = {name: n for name, n in counts.items() if name.startswith("lost")}
    return {
        "soak_s": seconds,
        "sent": counts["sent"],
        "answers": counts["answers"],
        "lost_answers": counts["sent"] - counts["answers"],
        "wrong_answers": counts["wrong"],
        "memory_mb_fifths": memory,
        **lost,
    }


def watch_memory(server: Server, seconds: float, done: Callable[[], bool]) -> list[int]:
    """Return the server's peak memory in MB in each fifth of the time until ``done``."""
    memory = []
    while not done():
        memory.append(server.memory_mb())
        time.sleep(min(5.0, seconds / 20))
    fifth = max(1, len(memory) // 5)
    return [round(max(part)) for i in range(0, fifth * 5, fifth) if (part := memory[i : i + fifth])]


def live(server: Server, streams: int, seconds: float) -> dict[str, Any]:
    """Stream the sample clip in real time; latency is from the last audio of a window to its measurement."""
    begin = server.processor_s()
    with ThreadPoolExecutor(streams) as pool:
        workers = [pool.submit(stream, server.url, seconds, seed) for seed in range(streams)]
        memory = watch_memory(server, seconds, lambda: all(w.done() for w in workers))
        found = [w.result() for w in workers]
    delays = [d for f in found for d in f["delays"]]
    return {
        "streams": streams,
        "live_s": seconds,
        "readings": len(delays),
        "p50_latency_s": percentile(delays, 0.5),
        "p95_latency_s": percentile(delays, 0.95),
        "dropped": sum(f["dropped"] for f in found),
        "ended_as_asked": sum(f["ended"] for f in found),
        "processor_s_per_stream_s": round((server.processor_s() - begin) / (streams * seconds), 3),
        "behind_s": round(max(f["behind_s"] for f in found), 2),
        "memory_mb_fifths": memory,
    }


def pictures(seed: int) -> Iterator[bytes]:
    """Yield JPEGs of the sample clip forever; as from a camera, no two are equal."""
    frames = load_clip(SAMPLE, num_frames=40).frames
    assert frames is not None
    noise = np.random.default_rng(seed)
    for frame in itertools.cycle(frames):
        grain = noise.integers(-2, 3, frame.shape, dtype=np.int16)
        yield cv2.imencode(".jpg", np.clip(frame + grain, 0, 255).astype(np.uint8)[..., ::-1])[1].tobytes()


def stream(url: str, seconds: float, seed: int) -> dict[str, Any]:
    """Run one client: audio every 0.1 s, two images per second."""
    waveform, shown = load_clip(SAMPLE).waveform, pictures(seed)
    assert waveform is not None
    sound = (np.clip(waveform, -1, 1) * 32767).astype("<i2")
    size, count = round(16_000 * CHUNK_S), round(seconds / CHUNK_S)
    sent_at: list[float] = []
    found: dict[str, Any] = {"delays": [], "dropped": 0, "ended": False}
    with connect(url.replace("http", "ws") + "/v1/live", open_timeout=60, ping_interval=None) as wire:

        def read() -> None:
            for message in wire:
                told = json.loads(message)
                found["ended"] |= told["type"] == "session.ended"
                if told["type"] == "measurement.result":
                    last = min(len(sent_at), max(1, round(told["end_s"] / CHUNK_S))) - 1
                    found["delays"].append(time.monotonic() - sent_at[last])
                    found["dropped"] = told["dropped"]

        reader = threading.Thread(target=read)
        reader.start()
        begin = time.monotonic()
        for i in range(count):
            time.sleep(max(0.0, begin + i * CHUNK_S - time.monotonic()))
            if i % 5 == 0:
                wire.send(next(shown))
            wire.send(np.take(sound, range(i * size, (i + 1) * size), mode="wrap").tobytes())
            sent_at.append(time.monotonic())
        found["behind_s"] = sent_at[-1] - begin - (count - 1) * CHUNK_S
        wire.send('{"type": "session.end"}')
        reader.join(600)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas between; '' for none")
    parser.add_argument("--soak", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--live", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    server = Server(args.model, args.clients)
    try:
        found: dict[str, Any] = {
            k: compare(server, k, args.clients, args.rounds, args.model) for k in args.kinds.split(",") if k
        }
        if args.soak:
            found["soak"] = soak(server, args.clients, args.soak, args.model)
        if args.live:
            found["live"] = live(server, args.streams, args.live)
    finally:
        server.stop()
    if args.json:
        print(json.dumps(found))
        return
    for kind, row in found.items():
        print(kind)
        for name, value in row.items():
            print(f"  {name:<20}{value}")


if __name__ == "__main__":
    main()
