"""The page with gradio's client and a headless browser; nothing leaves the machine."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import httpx
import pytest

pytest.importorskip("gradio", reason="needs gradio: pip install 'nanoemox[demo]'")
pytest.importorskip("fastapi")
import uvicorn
from gradio_client import Client, handle_file

from nanoemox.demo.backend import NO_CONSENT, DemoBackend, Inputs
from nanoemox.demo.server import POLICY, create_app
from nanoemox.inference.engine import Engine
from nanoemox.listening import listening_at
from nanoemox.serving.limits import Limits
from nanoemox.types import NanoEmoXError, Think, Turn
from tests.tiny import save_tiny

SAMPLE = Path(__file__).parents[2] / "src/nanoemox/assets/sample.mp4"
CHROMIUM = os.environ.get("NANOEMOX_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.filterwarnings("default")]  # gradio's own warnings are its own
QUESTIONS = "predicate: Is it a joke?\n\nchoice: Who? me|you\nscore: How loud? low|mid|high"
HOSTILE = "<img src=x onerror=alert(1)> ${7*7} {{7*7}}"


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """Gradio leaves event loops open: they are closed here, before a warning of them fails a later test."""
    yield
    gc.collect()
    for loop in [o for o in gc.get_objects() if issubclass(type(o), asyncio.BaseEventLoop)]:
        if not loop.is_running():
            loop.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.from_pretrained(save_tiny(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def address(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    with listening_at(0) as (listening, address):
        server = uvicorn.Server(uvicorn.Config(create_app(engine), log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield address
        server.should_exit = True
        thread.join(30)


def test_no_clip_is_decoded_in_the_process_of_the_page(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, opened = DemoBackend(engine), []
    real = av.open
    monkeypatch.setattr(av, "open", lambda *args, **options: opened.append(args) or real(*args, **options))
    inputs = Inputs(video=str(SAMPLE), agreed=True)
    assert 'data-part="timeline"' in backend.timeline(inputs, 2.0)
    assert backend.card(inputs)
    assert opened == []


def test_backend_functions(engine: Engine) -> None:
    backend = DemoBackend(engine)
    inputs = Inputs(video=str(SAMPLE), words=HOSTILE, agreed=True)
    card = backend.card(inputs)
    assert card.count('data-task="') == 6
    assert "<img src=x" not in card
    assert 'data-part="timeline"' in backend.timeline(inputs, 2.0)
    rows = backend.decide(inputs, QUESTIONS)
    assert [row[0] for row in rows] == ["Is it a joke?", "Who?", "How loud?"]
    reply, _ = backend.reply(Inputs(), "I lost it.", [Turn("user", "hello")])
    assert isinstance(reply, str)
    assert 'data-task="' in backend.card(Inputs(words="only words"))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (Inputs(video=str(SAMPLE)), NO_CONSENT),
        (Inputs(), "no input"),
        (Inputs(words="w" * 20_001), "limit 20000"),
        (Inputs(video="/nowhere.mp4", agreed=True), "no such file"),
    ],
)
def test_mistakes_give_messages(engine: Engine, inputs: Inputs, said: str) -> None:
    with pytest.raises(NanoEmoXError, match=said.split(":")[0]):
        DemoBackend(engine).card(inputs)
    with pytest.raises(NanoEmoXError, match="limit"):
        DemoBackend(engine, Limits(duration_s=1.0)).card(Inputs(video=str(SAMPLE), agreed=True))
    with pytest.raises(NanoEmoXError, match="text has no duration"):
        DemoBackend(engine).timeline(Inputs(words="hello"), 2.0)


def test_gradio_client_gets_every_answer(address: str) -> None:
    client = Client(address, verbose=False, analytics_enabled=False)
    inputs: list[Any] = [handle_file(str(SAMPLE)), None, HOSTILE, True]
    card = client.predict(*inputs, api_name="/answer")
    assert card.startswith('<div class="nx">')
    assert card.count('data-task="') == 6
    assert not set("{}$") & set(card)
    assert 'data-part="timeline"' in client.predict(*inputs, 2, api_name="/timeline")
    assert len(client.predict(*inputs, QUESTIONS, api_name="/decide")["data"]) == 3
    box, turns = client.predict(None, None, "", False, "I lost it.", [], api_name="/talk")
    assert box == ""
    assert turns[0]["role"] == "user"
    assert turns[-1]["role"] == "assistant"
    with pytest.raises(Exception, match="Tick the box first"):
        client.predict(inputs[0], None, "", False, api_name="/answer")


def test_page_is_loopback_only_and_connects_to_no_other_host(address: str) -> None:
    page = httpx.get(address)
    assert page.status_code == 200
    assert page.headers["content-security-policy"] == POLICY
    assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 400
    config = httpx.get(f"{address}/config").json()
    assert config["analytics_enabled"] is False
    assert "https://fonts" not in str(config.get("stylesheets"))
    assert httpx.get(f"{address}/gradio_api/file=/etc/passwd").status_code in (403, 404)


def test_the_chain_is_a_folded_turn_and_no_part_of_the_dialogue(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    histories: list[list[Turn]] = []
    monkeypatch.setattr(DemoBackend, "reply", thoughtful(histories))
    client = Client(address, verbose=False, analytics_enabled=False)
    _, turns = client.predict(None, None, "", False, "I lost it.", [], api_name="/talk")
    assert [turn["role"] for turn in turns] == ["user", "assistant", "assistant"]
    assert turns[1]["metadata"]["title"] == "Reasoning behind this reply"
    assert "lost a key" in str(turns[1]["content"])
    assert not (turns[2].get("metadata") or {}).get("title")
    client.predict(None, None, "", False, "And now?", turns, api_name="/talk")
    assert histories == [[], [Turn("user", "I lost it."), Turn("assistant", "Reply 1.")]]


def thoughtful(histories: list[list[Turn]]) -> Any:
    """A reply with its chain, which a random model does not finish; notes the histories."""

    def reply(_: DemoBackend, given: Inputs, message: str, history: list[Turn]) -> tuple[str, Think]:
        histories.append(history)
        return f"Reply {len(histories)}.", Think("lost a key", "sad", "it is gone", "comfort")

    return reply


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "at_work"), [("SIGTERM", False), ("SIGTERM", True), ("SIGHUP", False)])
def test_no_clip_data_stays_on_disk(tmp_path: Path, name: str, at_work: bool) -> None:
    model, temporary = save_tiny(tmp_path / "tiny"), tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-u", "-m", "nanoemox", "demo", "--model", str(model), "--port", "0"]
    environment = os.environ | {"TMPDIR": str(temporary)}

    def files() -> list[Path]:
        return [path for path in temporary.rglob("*") if path.is_file()]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as demo:
        assert demo.stdout is not None
        url = next(word for word in demo.stdout.readline().split() if word.startswith("http"))
        client = Client(url, verbose=False, analytics_enabled=False)
        job = client.submit(handle_file(str(SAMPLE)), None, "", True, api_name="/answer")
        if at_work:
            while not any(path.name == "result" for path in files()):  # being decoded
                time.sleep(0.01)
        else:
            job.result(600)
        assert any(path.suffix == ".mp4" for path in files())
        demo.send_signal(getattr(signal, name))
        _, said = demo.communicate(timeout=600)
    assert demo.returncode == 0, said
    assert "Traceback" not in said
    assert files() == []


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: install it, or set NANOEMOX_CHROMIUM to its path")
def test_a_browser_answers_a_clip(address: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'nanoemox[dev]'")
    from tools.screenshot import answer_sample

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(120_000)
        hosts: set[str] = set()
        page.on("response", lambda r: hosts.add(urlsplit(r.url).hostname or ""))
        answer_sample(page, address)
        assert page.locator("#card [data-task]").count() == 6
        page.locator("#along").click()
        page.locator("#timeline svg.along").first.wait_for()
        page.evaluate("document.querySelector('#clip video').currentTime = 2.0")
        page.wait_for_function("Number(document.querySelector('#timeline .cursor')?.getAttribute('x1')) > 300")
        browser.close()
    assert hosts - {""} == {"127.0.0.1"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: install it, or set NANOEMOX_CHROMIUM to its path")
def test_a_browser_asks_freely_and_talks(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'nanoemox[dev]'")
    monkeypatch.setattr(DemoBackend, "reply", thoughtful([]))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(300_000)
        page.goto(address)
        page.get_by_label("What is said").fill("I lost my key.")
        page.get_by_label("Questions").fill("predicate: Is it a joke?\nchoice: Who? me|you")
        page.locator("#decide").click()
        page.get_by_text(re.compile(r"^me \d+%, you \d+%$")).first.wait_for(state="attached")
        page.get_by_text(re.compile(r"^(True|yes) \d+%, (False|no) \d+%$", re.IGNORECASE)).first.wait_for(
            state="attached"
        )

        page.locator("#message textarea").fill("I lost it.")
        page.locator("#message textarea").press("Enter")
        page.get_by_text("Reply 1.").wait_for()
        folded, chain = page.get_by_text("Reasoning behind this reply"), page.get_by_text("it is gone")
        assert not chain.is_visible()
        folded.click()
        chain.wait_for()
        browser.close()
