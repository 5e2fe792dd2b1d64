"""Ray on this machine: a replica killed under load, a job killed and resumed."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.serving.conftest import wav
from tests.tiny import save_tiny

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

NUM_CLIPS = int(os.environ.get("NANOEMOX_TEST_CLIPS", "2000"))
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F")
PATIENCE_S = 600
"""A busy machine needs minutes to start Ray's processes."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model") / "tiny"))


@contextmanager
def nanoemox(*args: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, with Ray on two cores; nothing of it is left afterwards."""
    command = [sys.executable, "-u", "-m", "nanoemox", *map(str, args), "--ray", "--ray-cpus", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            family = descendants(process.pid)
            process.kill()
            until(lambda: not any(alive(pid) for pid in family), "Ray's processes outlive the command", 300)


def until(done: Callable[[], object], complaint: str, seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, complaint
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for at in found:
        for children in Path("/proc").glob(f"{at}/task/*/children"):
            found += map(int, children.read_text().split())
    return found


def replicas(pid: int) -> list[int]:
    """Processes of replicas; Ray puts the name of what runs into their title."""
    return [p for p in descendants(pid) if re.match(rb"ray::.*Serve_?Replica", title(p), re.IGNORECASE)]


def title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """Addresses (in hexadecimal) and ports where these processes listen."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(link)) if link.is_symlink() else ())
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    places = [row[1].split(":") for row in rows if row[3] == "0A" and row[9] in inodes]
    return {(address, int(port, 16)) for address, port in places}


def refusal(port: int) -> str:
    """What a port of Ray Serve between replicas says to somebody without the key."""
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as told:
        channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=30)
    return str(told.value.code().name)


def memory_mb(pids: list[int]) -> float:
    """Memory of processes that is not shared, together."""
    total = 0.0
    for pid in pids:
        if alive(pid):
            found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            total += int(found[1]) / 1e3 if found else 0.0
    return total


def test_a_replica_killed_under_load(model: str) -> None:
    with nanoemox("serve", "--model", model, "--port", 0, "--workers", 2) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("2 replica(s) at http://127.0.0.1:"), process.stderr and process.stderr.read()
        url = line.split()[3]
        until(lambda: len(replicas(process.pid)) == 2, "no two replicas")
        before = set(replicas(process.pid))
        open_ports = [port for address, port in listening(descendants(process.pid)) if address not in LOOPBACK]
        assert {port for _, port in listening(replicas(process.pid))} >= set(open_ports)
        assert len(open_ports) <= 2
        assert [refusal(port) for port in open_ports] == ["UNAUTHENTICATED"] * len(open_ports)

        done, statuses, bare = threading.Event(), Counter[int](), []

        def ask() -> None:
            with httpx.Client(base_url=url, timeout=120) as client:
                while not done.is_set():
                    answer = client.post("/v1/affect", json={"text": "I got the job!", "tasks": ["mer"]})
                    statuses[answer.status_code] += 1
                    if answer.status_code == 503:
                        bare.extend([] if "retry-after" in answer.headers else [answer.text])
                        time.sleep(1)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: statuses[200] > 50, "no answers")
        os.kill(min(before), signal.SIGKILL)
        killed_at = statuses[200]
        until(lambda: statuses[200] > killed_at + 50, "no answers after the kill")
        until(lambda: len(set(replicas(process.pid)) - {min(before)}) == 2, "the replica is not replaced")
        until(lambda: statuses[200] > killed_at + 100, "no answers after the replacement")
        done.set()
        for thread in threads:
            thread.join(120)
        print(dict(statuses))
        assert set(statuses) <= {200, 503}
        assert not bare
        refused = httpx.post(f"{url}/v1/files", files={"file": b"x"}, data={"purpose": "user_data"})
        assert refused.status_code == 400
        assert "send the clip itself" in refused.json()["error"]["message"]
        process.terminate()
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        # Ray tells of processes that were killed: the replica, and often its own controller at the end.
        assert [line for line in out.splitlines() if "(raylet)" not in line or "killed" not in line] == []


def test_resumed_job_answers_each_clip_once(model: str, tmp_path: Path) -> None:
    folder, table = tmp_path / "clips", tmp_path / "answers.csv"
    folder.mkdir()
    (folder / "0.wav").write_bytes(wav(0.2))
    for i in range(1, NUM_CLIPS):
        os.link(folder / "0.wav", folder / f"{i}.wav")
    args = ("answer", folder, "--model", model, "--csv", table, "--task", "mer", "--workers", 2)

    def rows() -> list[str]:
        text = table.read_text("utf-8") if table.exists() else ""
        return [row["path"] for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines())]

    with nanoemox(*args) as process:
        until(lambda: len(rows()) >= NUM_CLIPS // 2 or process.poll() is not None, "too slow", 900)
        assert process.poll() is None, process.stderr and process.stderr.read()
        process.send_signal(signal.SIGKILL)
    half = len(rows())
    assert half < NUM_CLIPS

    used = []
    with nanoemox(*args) as process:
        while process.poll() is None:
            if len(rows()) > half + 50:  # all engines are loaded
                used.append(memory_mb(descendants(process.pid)))
            time.sleep(0.5)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()
        assert process.stdout.read() == ""
        assert f"{half} clip(s) are in answers.csv already" in process.stderr.read()
    assert sorted(rows()) == sorted(str(folder / f"{i}.wav") for i in range(NUM_CLIPS))
    third = max(1, len(used) // 3)
    print(f"killed at {half}; memory in MB: {[round(max(used[i : i + third])) for i in range(0, third * 3, third)]}")
    assert max(used[-third:]) < 1.1 * max(used[:third]) + 50


def test_a_bad_clip_and_uris(model: str, tmp_path: Path) -> None:
    folder, table = tmp_path / "clips", tmp_path / "answers.csv"
    folder.mkdir()
    (folder / "good.wav").write_bytes(wav(0.2))
    (folder / "bad.mp4").write_bytes(b"\0" * 64)
    shutil.copy(folder / "good.wav", folder / "a b.wav")
    with nanoemox("answer", f"file://{folder}", "--model", model, "--csv", table, "--task", "mer") as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (2, ""), err
    assert "1 clip(s) could not be answered" in err
    assert f"file://{folder}/bad.mp4: " in err
    assert "Traceback" not in err
    assert "Warning" not in err
    found = {row["path"]: row["clip"] for row in csv.DictReader(table.read_text("utf-8").splitlines())}
    assert found == {f"file://{folder}/a%20b.wav": "a b.wav", f"file://{folder}/good.wav": "good.wav"}
