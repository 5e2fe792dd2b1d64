"""The code around Ray without Ray: options, workers, proxy response, file systems."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanoemox import cli
from nanoemox.scaling.cluster import Cluster, Share, parse_workers, ray_at
from nanoemox.scaling.spread import Answering
from nanoemox.scaling.unanswered import PROXY_VARIABLES, Unanswered, middlewares
from nanoemox.types import Answer, NanoEmoXError


@pytest.mark.parametrize(("text", "found"), [("1", (1, 1)), ("3", (3, 3)), ("1:4", (1, 4))])
def test_workers(text: str, found: tuple[int, int]) -> None:
    assert parse_workers(text) == found


@pytest.mark.parametrize("text", ["", "x", "1:", ":2", "-1", "1.5", "1:2:3", "²"])
def test_no_workers(text: str) -> None:
    with pytest.raises(NanoEmoXError, match=r"give one such as 2, or a range such as 1:4"):
        parse_workers(text)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ({"least": 0}, "0 to 1 workers"),
        ({"least": 3, "most": 2}, "3 to 2 workers"),
        ({"cpus": -1.0}, "-1 cores each"),
        ({"cpus": float("nan")}, "nan cores each"),
        ({"gpus": 1.5}, "1.5 GPUs each: Ray gives a fraction of one, or whole ones"),
    ],
)
def test_invalid_shares_are_refused(share: dict[str, Any], message: str) -> None:
    with pytest.raises(NanoEmoXError, match=message):
        Share(**share)


def test_workers_use_only_gpus_known_to_ray() -> None:
    assert Share().device("auto") == "cpu"
    assert Share(gpus=0.25).device("auto") == "auto"
    assert Share().device("cuda:1") == "cuda:1"


def test_excess_resources_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(share: Share, **resources: float) -> None:
        there = SimpleNamespace(address_info={"node_ip_address": "127.0.0.1"})
        ray = SimpleNamespace(init=lambda **_: there, shutdown=lambda **_: None, cluster_resources=lambda: resources)
        monkeypatch.setitem(sys.modules, "ray", ray)
        with ray_at(Cluster(), share) as found:
            assert found is ray

    start(Share(2, 4, cpus=0.5, gpus=0.25), CPU=2.0, GPU=1.0)
    with pytest.raises(NanoEmoXError, match=r"3 worker\(s\) of 1 cores each want 3, there are 2: .* --cpus"):
        start(Share(3, 3), CPU=2.0)
    with pytest.raises(NanoEmoXError, match=r"of 0.5 GPUs each want 1, there are 0: .* --gpus"):
        start(Share(2, 2, gpus=0.5), CPU=2.0)


def test_an_interrupted_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    folders, ended = [], []

    def init(**options: Any) -> None:
        folders.append(Path(options["_temp_dir"]))
        folders[0].mkdir()
        raise KeyboardInterrupt

    ray = SimpleNamespace(init=init, shutdown=lambda **_: ended.append(folders[0].exists()))
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(KeyboardInterrupt), ray_at(Cluster(), Share()):
        pass
    assert ended == [True]  # its processes, before their folder goes
    assert not folders[0].parent.exists()


def test_missing_ray_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NanoEmoXError, match=r"pip install 'nanoemox\[ray\]'"), ray_at(Cluster(), Share()):
        pass


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in args])
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("serve", "--workers", 2), "--workers: only with --ray"),
        (("serve", "--gpus", 0.5, "--cpus", 2), "--cpus, --gpus: only with --ray"),
        (("serve", "--ray", "--workers", "two"), "no number of workers"),
        (("serve", "--ray", "--host", "0.0.0.0"), "set --token"),
        (("serve", "--host", "0.0.0.0", "--model", "gone/"), "set --token"),
        (("serve", "--ray", "--model", "gone/"), "gone"),
        (("answer", "a.mp4", "--ray"), "name it with --csv FILE"),
        (("answer", "a.mp4", "--csv", "t.csv", "--ray-cpus", 2), "--ray-cpus: only with --ray"),
        (("answer", "s3://bucket/clips", "--json"), "are read with --ray and --csv FILE"),
        (("answer", "--text", "hello", "--ray", "--csv", "t.csv"), "cannot be combined with --csv, --ray"),
    ],
)
def test_invalid_options_are_refused(
    args: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert run(*args) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


# -------------------------------------------------------------------- the proxy's answer


def through(messages: list[dict[str, Any]], kind: str = "http") -> list[dict[str, Any]]:
    """What a client gets where the proxy sends these messages."""
    sent: list[dict[str, Any]] = []

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    asyncio.run(Unanswered(proxy)({"type": kind}, receive, send))
    return sent


def start(status: int, kind: bytes = b"text/plain") -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]}


END = {"type": "http.response.body", "body": b"words", "more_body": False}


@pytest.mark.parametrize("messages", [[], [start(503), END], [start(429), END], [start(408), END]])
def test_missing_replica_gives_503_with_retry_after(messages: list[dict[str, Any]]) -> None:
    first, body = through(messages)
    assert first["status"] == 503
    assert dict(first["headers"])[b"retry-after"] == b"1"
    assert json.loads(body["body"])["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    "messages",
    [[start(200), END], [start(429, b"application/json"), END], [start(500, b"application/json"), END], [start(200)]],
)
def test_replica_responses_pass_unchanged(messages: list[dict[str, Any]]) -> None:
    assert through(messages) == messages
    assert through([], "websocket") == []


def test_ray_serve_loads_the_middleware() -> None:
    (name,) = PROXY_VARIABLES.values()
    assert name == f"{middlewares.__module__}:{middlewares.__name__}"
    assert [m.cls for m in middlewares()] == [Unanswered]


# -------------------------------------------------------------------- an actor's work


def test_actor_reports_every_source_of_a_batch(tmp_path: Path) -> None:
    import pickle

    def opener() -> Any:
        def work(paths: Any) -> Any:
            return {p: (Answer(p.name, "m", {}),) if p.name != "bad.wav" else "cannot be read" for p in paths}

        return work

    found = Answering(opener)({"source": [str(tmp_path / "a.wav"), str(tmp_path / "bad.wav")]})
    outcomes = [pickle.loads(o) for o in found["outcome"]]
    assert list(found["source"]) == [str(tmp_path / "a.wav"), str(tmp_path / "bad.wav")]
    assert outcomes[0][0].clip == "a.wav"
    assert outcomes[1] == "cannot be read"


def test_links_to_one_file_are_clips_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blob").write_bytes(b"x")
    clips = [tmp_path / "one.mp4", tmp_path / "two.mp4"]
    for clip in clips:
        clip.symlink_to(tmp_path / "blob")
    sent: list[str] = []

    def spread(ray: object, sources: list[str], *_: object) -> Iterator[tuple[str, str]]:
        sent.extend(sources)
        return ((source, "not read here") for source in sources)

    monkeypatch.setattr("nanoemox.scaling.cluster.ray_at", lambda *_: nullcontext())
    monkeypatch.setattr("nanoemox.scaling.spread.spread", spread)
    assert run("answer", *clips, "--ray", "--csv", tmp_path / "t.csv", "--model", "mini") != 0
    assert sent == [str(clip) for clip in clips]  # subtitles lie beside the link
    said = capsys.readouterr().err
    assert "one.mp4" in said
    assert "two.mp4" in said
