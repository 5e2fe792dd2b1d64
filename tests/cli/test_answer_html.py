"""``nanoemox answer --html`` on the command line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nanoemox import cli
from tests.tiny import save_tiny

SAMPLE = Path(__file__).parents[2] / "src/nanoemox/assets/sample.mp4"
CHROMIUM = os.environ.get("NANOEMOX_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model") / "tiny"))


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in args])
    return int(stop.value.code or 0)


def test_a_page_of_several_clips_and_a_bad_one(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    shutil.copy(SAMPLE, hostile)
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 64)
    page = tmp_path / "out" / "page.html"
    assert run("answer", SAMPLE, hostile, tmp_path / "broken.mp4", "--model", model, "--html", page) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "written: " in err
    assert "broken.mp4" in err
    html = page.read_text("utf-8")
    assert html.count("<article") == 2
    assert "&lt;img src=x onerror=alert(1)&gt;.mp4" in html
    assert "<img src=x" not in html
    assert html.count('data-part="pictures"') == html.count('data-part="sound"') == 2
    assert "share of the attention" in html  # evidence comes without --explain


def test_a_page_along_a_clip_and_of_words_alone(model: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    options = ("--model", model, "--task", "msa,mer", "--html", page)
    assert run("answer", SAMPLE, "--every", "2", "--window", "2", *options) == 0
    html = page.read_text("utf-8")
    assert html.count('data-part="timeline"') == 2
    assert html.count('data-part="pictures"') == 1
    assert run("answer", "--text", "I <b>got</b> it!", *options) == 0
    html = page.read_text("utf-8")
    assert "I &lt;b&gt;got&lt;/b&gt; it!" in html
    assert "<b>" not in html


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--html", "clip.mp4"), "ends in .html"),
        (("--html", "p.html", "--json"), "--html and --json exclude each other"),
        (("--html", "p.html", "--csv", "t.csv"), "--html and --csv exclude each other"),
    ],
)
def test_mistakes_are_reported_before_the_model_is_loaded(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("answer", SAMPLE, "--model", "/nowhere", *options) == 2
    assert said in capsys.readouterr().err


def test_two_hundred_clips_at_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(201):
        (tmp_path / f"{i}.mp4").touch()
    assert run("answer", tmp_path, "--model", "/nowhere", "--html", tmp_path / "p.html") == 2
    assert "201 clips, limit 200 on one page" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: install it, or set NANOEMOX_CHROMIUM to its path")
def test_browser_shows_the_page_without_errors(model: str, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'nanoemox[dev]'")
    page_file = tmp_path / "page.html"
    assert run("answer", SAMPLE, "--model", model, "--html", page_file) == 0
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": 360, "height": 740})
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url[:5]))
        page.goto(page_file.as_uri())
        assert said == []
        assert set(asked) <= {"file:", "data:"}
        assert page.evaluate(
            "document.documentElement.scrollWidth <= innerWidth"
        )  # a phone needs no sideways scrolling
        assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
        assert page.evaluate("getComputedStyle(document.querySelector('.box')).borderRadius") != "0px"
        browser.close()
