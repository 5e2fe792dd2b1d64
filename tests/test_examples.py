"""Every example that needs no service of others runs; those of LiveKit and Pipecat run in tests/serving/plugins."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from nanoemox import Engine

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SAMPLE = str(files("nanoemox") / "assets" / "sample.mp4")
pytestmark = [pytest.mark.timeout(900)]


def run(example: str, *arguments: str | Path) -> str:
    """Run an example and return what it prints."""
    command = [sys.executable, str(EXAMPLES / example), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a server with the embedded model."""
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from nanoemox.serving.service import Service
    from tests.serving.conftest import running

    with running(Service(Engine.from_pretrained("mini"))) as url:
        yield url


def test_answer_clip() -> None:
    assert "mer " in run("answer_clip.py")


def test_answer_page(tmp_path: Path) -> None:
    page = tmp_path / "answer.html"
    assert run("answer_page.py", SAMPLE, page).strip() == str(page)
    assert 'data-task="erg"' in page.read_text("utf-8")


def test_train_mini_and_its_adapters_by_name(tmp_path: Path) -> None:
    assert "trained model:" in run("train_mini.py", tmp_path / "out")
    lines = dict(line.split(" ", 1) for line in run("named_adapters.py", tmp_path / "out" / "run").splitlines())
    assert list(lines) == ["base", "align", "together"]
    assert len(set(lines.values())) == 3


def test_add_physiology(tmp_path: Path) -> None:
    assert "physiology" in run("add_physiology.py", tmp_path / "body").split()
    assert (tmp_path / "body" / "model.safetensors").is_file()


def test_own_task_and_benchmark() -> None:
    answers, _, accuracy = run("own_task_and_benchmark.py").partition("} ")
    assert answers.count("'") == 12
    assert 0 <= float(accuracy.split()[0]) <= 1


def test_client_affect(address: str) -> None:
    pytest.importorskip("httpx")
    emotion, _, reply = run("client_affect.py", SAMPLE, address).partition(" - ")
    assert emotion
    assert reply.strip()


def test_client_decisions(address: str) -> None:
    pytest.importorskip("openai", reason="needs the extra eval")
    printed = run("client_decisions.py", SAMPLE, address)
    assert "sarcastic: " in printed
    assert "tension: " in printed
