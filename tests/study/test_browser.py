"""``nanoemox rate`` in a headless Chromium, by keyboard and mouse."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from nanoemox.study.store import Rating, RatingStore
from tests.study.rated_runs import reply_row, two_runs, write_run

CHROMIUM = os.environ.get("NANOEMOX_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: install it, or set NANOEMOX_CHROMIUM to its path"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'nanoemox[dev]'")
pytest.importorskip("fastapi")
ATTACK = "<img src=x onerror=\"document.title='broken'\"><b>bold</b>"
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


@contextmanager
def serving(study: Path, *words: str) -> Iterator[str]:
    """Run the command, and yield the address that it prints."""
    command = [sys.executable, "-u", "-m", "nanoemox", "rate", *words, "--out", str(study)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield re.findall(r"http://[\d.]+:\d+", line)[0]
        finally:
            process.send_signal(signal.SIGINT)
            problems = process.communicate(timeout=30)[1]
    assert problems == ""
    assert process.returncode == 0


@contextmanager
def rater(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """Open the page for one person; whatever leaves the machine or breaks a policy fails."""
    context = browser.new_context(**options)
    page = context.new_page()
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    page.on("console", lambda message: seen.append(f"console: {message.text}") if message.type == "error" else None)
    page.goto(address)
    yield page
    context.close()
    assert seen
    assert not [url for url in seen if not url.startswith((f"{address}/", "data:"))]


def begin(page: Any, name: str) -> None:
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")
    page.locator("#where").get_by_text("Reply 1 of").wait_for()


def wait(page: Any, place: str) -> None:
    page.get_by_role("heading", name=f"Reply {place}", exact=True).wait_for()


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def saved(page: Any) -> None:
    page.get_by_text("Saved", exact=True).wait_for()


def ratings(study: Path) -> list[Rating]:
    with closing(RatingStore(study)) as store:
        return store.ratings()


def test_two_raters_in_browsers(browser: Any, tmp_path: Path) -> None:
    study = tmp_path / "study.sqlite"
    runs = [str(run) for run in two_runs(tmp_path, 2)]
    with serving(study, *runs, "--port", "0") as address:
        with rater(browser, address) as ann:
            begin(ann, "Ann <b>")
            press(ann, "4", "5", "3", "Enter")
            wait(ann, "2 of 4")
            press(ann, "1")
            saved(ann)
            ann.reload()
            wait(ann, "2 of 4")
            assert ann.get_by_role("group", name="Empathy").get_by_label("1").is_checked()
            press(ann, "2", "2", "Enter")
            wait(ann, "3 of 4")
            press(ann, "b")
            wait(ann, "2 of 4")
            with rater(browser, address, viewport=PHONE, has_touch=True) as bob:
                begin(bob, "bob")
                rate_by_taps(bob)
            press(ann, "Enter")
            wait(ann, "3 of 4")
            press(ann, "5", "u")
            sync_api.expect(ann.locator("input[type=radio]:checked")).to_have_count(0)
            press(ann, "u")
            wait(ann, "2 of 4")
            sync_api.expect(ann.get_by_role("group", name="Safety").locator(":checked")).to_have_count(0)
            press(ann, "2", "Enter")
            wait(ann, "3 of 4")
            assert ann.get_by_role("button", name="Not Ann <b>?").is_visible()
        given = ratings(study)
        assert [r.score for r in given if r.rater == "bob"] == [3] * 12
        assert sorted(r.score for r in given if r.rater == "Ann <b>") == [1, 2, 2, 3, 4, 5]
    with serving(study, "--port", "0") as address, rater(browser, address) as ann:
        ann.get_by_label("Your name").fill("Ann <b>")
        ann.get_by_role("button", name="Start").click()
        wait(ann, "3 of 4")


def rate_by_taps(page: Any) -> None:
    for number in range(4):
        wait(page, f"{number + 1} of 4")
        page.get_by_role("button", name="Next").tap(force=True)  # looks disabled, and says why
        page.get_by_text("Rate empathy first.").wait_for()
        for criterion in ("Empathy", "Insight", "Safety"):
            page.get_by_role("group", name=criterion).locator("label").nth(2).tap()
        page.get_by_role("button", name="Next").tap()
    page.get_by_role("heading", name="Thank you").wait_for()


def test_everything_works_by_keyboard(browser: Any, tmp_path: Path) -> None:
    study = tmp_path / "study.sqlite"
    with serving(study, *map(str, two_runs(tmp_path)), "--port", "0") as address, rater(browser, address) as page:
        begin(page, "ann")
        reached = []
        for _ in range(9):
            press(page, "Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
        assert reached[:4] == ["leave", "empathy", "insight", "safety"]
        assert {"undo", "next", "keys"} & set(reached) == {"next", "keys"}  # nothing to undo yet
        page.get_by_role("group", name="Insight").get_by_label("1").focus()
        press(page, "ArrowRight")
        saved(page)
        assert [(r.criterion, r.score) for r in ratings(study)] == [("insight", 2)]
        page.get_by_label("Keys:").uncheck()
        page.locator("#where").focus()
        press(page, "4", "u")
        assert page.locator("input[type=radio]:checked").count() == 1


def test_killed_server_loses_no_score(browser: Any, tmp_path: Path) -> None:
    study = tmp_path / "study.sqlite"
    with serving(study, *map(str, two_runs(tmp_path)), "--port", "0") as address:
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        begin(page, "ann")
        press(page, "4")
        saved(page)
    press(page, "5")
    page.get_by_role("alert").get_by_text("does not answer").wait_for()
    assert page.locator("input[type=radio]:checked").count() == 1
    with serving(study, "--port", address.rsplit(":", 1)[1]):
        page.get_by_role("group", name="Insight").locator("label").nth(2).click()
        saved(page)
        assert page.get_by_role("alert").count() == 0
    context.close()
    assert [r.score for r in ratings(study)] == [4, 3]


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_hostile_texts_and_small_screens(browser: Any, tmp_path: Path, width: int) -> None:
    talk = [{"role": ATTACK, "text": ATTACK}, {"role": "speaker", "text": "x" * 500 + "\u202e" + "שלום"}]
    run = write_run(tmp_path / "x", [reply_row("a", f"{ATTACK}\n{'y' * 400}", talk)])
    view = {"width": width, "height": 700}
    with (
        serving(tmp_path / "s.sqlite", str(run), "--port", "0") as address,
        rater(browser, address, viewport=view, color_scheme="dark") as page,
    ):
        begin(page, ATTACK)
        assert page.locator("#reply").inner_text().startswith(ATTACK)
        assert page.locator("#dialogue p").first.inner_text() == ATTACK
        assert page.title() == "Rate replies"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for button in page.locator(".scale .number").all():
            box = button.bounding_box()
            assert min(box["width"], box["height"]) >= 40
