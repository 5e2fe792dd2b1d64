"""MCP tools with the official SDK's client: in process, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs mcp: pip install 'nanoemox[serve]'")

from mcp import Client, StdioServerParameters

from nanoemox import cli
from nanoemox.inference.engine import Engine
from nanoemox.serving import agents, local_files
from nanoemox.serving.agents import Analysis, DecisionsOut, ReplyOut, build_server
from nanoemox.serving.limits import Limits
from nanoemox.tasks import ALL_TASKS
from nanoemox.types import NanoEmoXError
from tests.tiny import save_tiny

SAMPLE = Path(__file__).parents[2] / "src/nanoemox/assets/sample.mp4"
TOOLS = {"analyze_clip", "decide", "empathetic_reply"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def engine(model: Path) -> Engine:
    return Engine.from_pretrained(model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copy(SAMPLE, folder / "sample.mp4")
    (tmp_path / "secret.mp4").write_bytes(SAMPLE.read_bytes())
    (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "broken.mp4").write_bytes(b"\0" * 64)
    return folder


def with_client(target: Any, action: Callable[[Client], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Client(target) as client:
            return await action(client)

    return asyncio.run(run())


def call(target: Any, tool: str, **arguments: Any) -> Any:
    return with_client(target, lambda client: client.call_tool(tool, arguments))


def told(result: Any) -> str:
    assert result.is_error
    return str(result.content[0].text)


def test_the_tools_have_schemas(engine: Engine, folder: Path) -> None:
    tools = with_client(build_server(engine, [folder]), lambda client: client.list_tools()).tools
    assert {t.name for t in tools} == TOOLS
    for tool in tools:
        assert tool.output_schema["type"] == "object"
        assert tool.annotations.read_only_hint
        assert tool.description
        assert "\n " not in tool.description


def test_analyze_clip_equals_the_engine(engine: Engine, folder: Path) -> None:
    server = build_server(engine, [folder])
    found = Analysis.model_validate(call(server, "analyze_clip", path="sample.mp4").structured_content)
    expected = engine.answer(folder / "sample.mp4")
    assert list(found.tasks) == list(ALL_TASKS)
    for key, reading in expected.tasks.items():
        ours = found.tasks[key].model_dump(exclude_none=True)
        theirs = {k: v for k, v in reading.to_dict().items() if k in ours}
        assert ours.pop("probabilities", {}) == pytest.approx(theirs.pop("probabilities", {}), abs=1e-5)
        assert ours == (pytest.approx(theirs, abs=1e-5) if "valence" in ours else theirs)
    assert found.modalities == list(expected.modalities)
    few = Analysis.model_validate(call(server, "analyze_clip", text="I got it!", tasks=["msa"]).structured_content)
    assert list(few.tasks) == ["msa"]
    assert few.modalities == ["text"]


def test_decide_and_reply_tools(engine: Engine, folder: Path) -> None:
    server = build_server(engine, [folder])
    asked = ["predicate: Is it a joke?", "choice: Who? me|you", "score: How loud? low|mid|high"]
    found = DecisionsOut.model_validate(call(server, "decide", questions=asked, path="sample.mp4").structured_content)
    assert [a.type for a in found.answers] == ["predicate", "choice", "score"]
    assert all(sum(o.probability for o in a.options) == pytest.approx(1) for a in found.answers)
    assert found.answers[0].probability == pytest.approx(
        engine.decide(folder / "sample.mp4", asked).answers[0].probability, abs=1e-5
    )
    history = [{"role": "A", "text": "How was it?"}]
    result = call(server, "empathetic_reply", text="I lost it.", history=history)
    reply = ReplyOut.model_validate(result.structured_content)
    assert isinstance(reply.reply, str)


def test_only_allowed_folders_are_read(engine: Engine, folder: Path) -> None:
    server = build_server(engine, [folder])
    for outside in ("../secret.mp4", str(folder.parent / "secret.mp4"), "link.mp4", "/etc/passwd", "../none.mp4"):
        assert "not in an allowed folder" in told(call(server, "analyze_clip", path=outside))
    assert "no such file" in told(call(server, "analyze_clip", path="none.mp4"))
    assert "not a valid file name" in told(call(server, "analyze_clip", path="a\0b"))
    assert "no such file" in told(call(server, "analyze_clip", path="."))
    with pytest.raises(NanoEmoXError, match="no such folder"):
        build_server(engine, [folder / "none"])


def test_mistakes_give_messages_and_nothing_is_logged(
    engine: Engine, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    server = build_server(engine, [folder], Limits(duration_s=1.0))
    assert "give path, text" in told(call(server, "analyze_clip", text="  "))
    assert "unknown task 'xyz'" in told(call(server, "analyze_clip", text="secretword", tasks=["xyz"]))
    assert "write 'predicate" in told(call(server, "decide", text="secretword", questions=["hm"]))
    assert "20000 characters" in told(call(server, "decide", text="w" * 20_001, questions=["predicate: so?"]))
    assert "limit" in told(call(server, "analyze_clip", path="sample.mp4"))
    assert "broken.mp4" in told(call(server, "analyze_clip", path="broken.mp4"))
    monkeypatch.setattr(local_files, "MAX_FILE_BYTES", 10)
    assert "limit 10" in told(call(server, "analyze_clip", path="sample.mp4"))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secretword")

    monkeypatch.setattr(engine, "answer", fail)
    assert "the server failed (RuntimeError)" in told(call(server, "analyze_clip", text="secretword"))
    assert "secretword" not in caplog.text
    assert "sample.mp4" not in caplog.text


def test_over_stdio(model: Path, folder: Path) -> None:
    arguments = ["-m", "nanoemox", "mcp", "--model", str(model), "--folder", str(folder)]
    keep = {k: v for k, v in os.environ.items() if k in ("PYTHONPATH", "NANOEMOX_HOME", "OMP_NUM_THREADS")}
    server = StdioServerParameters(command=sys.executable, args=arguments, env=keep)
    result = call(server, "analyze_clip", path="sample.mp4", tasks=["mer"])
    assert sum(result.structured_content["tasks"]["mer"]["probabilities"].values()) == pytest.approx(1)


@pytest.mark.slow
def test_over_http_on_loopback(model: Path, folder: Path) -> None:
    command = [sys.executable, "-u", "-m", "nanoemox", "mcp", "--http", "--port", "0", "--model", str(model)]
    command += ["--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            (address,) = re.findall(r"http://127.0.0.1:\d+/mcp", process.stdout.readline())
            result = call(address, "empathetic_reply", text="I lost it.")
            assert not result.is_error
        finally:
            process.send_signal(signal.SIGINT)
            problems = process.communicate(timeout=60)[1]
    assert "I lost it" not in problems
    assert process.returncode == 0


def test_missing_folder_is_reported_before_the_model_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["mcp", "--folder", "/nowhere", "--model", "/nowhere"])
    assert stop.value.code == 2
    assert "--folder /nowhere: no such folder" in capsys.readouterr().err


def test_tool_description_names_every_task() -> None:
    described = agents.Tools.analyze_clip.__doc__ or ""
    assert all(f"{key} (" in described for key in ALL_TASKS)
